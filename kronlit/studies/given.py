"""The value that the words of a command give an option, in a config file or by themselves."""

from collections.abc import Sequence
from typing import Any

import yaml

from kronlit.config.files import yaml_content


def given_value(words: Sequence[str], option: str) -> Any:
    """The value of an option, such as model.lr; `None` if nothing gives it.

    Args:
        words: the words of a run, in pairs of an option and its value.
        option: its name, without `init_args`.
    """
    value = None
    for name, word in zip(words[::2], words[1::2], strict=False):
        if name == "--config":
            found = look_up(yaml_content(word, f"`config`={word!r}"), option.split("."))
            value = value if found is None else found
        elif name.removeprefix("--").replace("init_args.", "") == option:
            value = yaml.safe_load(word)
    return value


def look_up(content: Any, names: Sequence[str]) -> Any:
    """The value in nested keys and values, where `init_args` of a class need not be named; `None` without one."""
    if not names or not isinstance(content, dict):
        return None if names else content
    for count in range(len(names), 0, -1):
        if (joined := ".".join(names[:count])) in content:
            return look_up(content[joined], names[count:])
    return look_up(content.get("init_args"), names)
