"""The YAML files that the command line names."""

import sys


def config_files() -> list[str]:
    """The files that the command line names with `--config`."""
    pairs = zip(sys.argv, sys.argv[1:], strict=False)
    files = [value for name, value in pairs if name in ("-c", "--config")]
    return files + [name.removeprefix("--config=") for name in sys.argv if name.startswith("--config=")]
