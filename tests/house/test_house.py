"""Who may import whom, and what is public."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import kronlit
from kronlit.__main__ import COMMANDS

PACKAGE = Path(kronlit.__file__).parent
# A room may import itself, what is listed, and nothing else of the project.
ALLOWED = {
    "structured": set(),
    "adapters": {"structured"},
    "methods": {"structured", "adapters"},
    "data": set(),
    "config": set(),
    "metrics": {"data.tasks"},
    "modules": {"structured", "adapters", "methods", "metrics", "data.tasks", "data.prompts", "data.trained_task"},
    "training": {"", "adapters", "config", "data", "metrics", "modules"},
    "exchange": {"", "structured", "adapters", "methods", "data", "modules", "config", "training"},
    "slurm": {"training.signals"},
    "studies": {"config", "training.metrics_reader", "training.ranking", "training.signals"},
    "experimental": {"adapters", "config", "modules", "training", "cli.fit"},
    "cli": {
        *("structured", "adapters", "methods", "data", "modules", "config", "training", "exchange"),
        *("slurm", "studies"),
    },
    "testing": {"structured", "adapters"},
    "__init__": {"adapters", "methods", "exchange"},
    "__main__": {"", "cli", "studies", "training.signals"},
}
ONLY_TORCH = {"structured", "adapters", "methods", "testing"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_the_houses_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        if module.split(".")[0] == "kronlit":
            target = module.removeprefix("kronlit").removeprefix(".")
            allowed = any(
                target == a or (a and target.startswith(f"{a}.") and not a.startswith("data.")) for a in ALLOWED[room]
            )
            assert allowed or target.split(".")[0] == room, f"{room} imports {module}"
        elif room in ONLY_TORCH:
            assert module.split(".")[0] in {"torch", "triton", *sys.stdlib_module_names}, f"{room} imports {module}"


def test_every_public_name_is_there_and_documented():
    for info in pkgutil.walk_packages(kronlit.__path__, "kronlit."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        assert module.__doc__, info.name
        for name, value in vars(module).items():
            own = inspect.isclass(value) or inspect.isfunction(value)
            if own and value.__module__ == info.name and not name.startswith("_"):
                assert inspect.getdoc(value), f"{info.name}.{name}"
    assert all(getattr(kronlit, name) for name in kronlit.__all__)


def test_every_argument_of_what_a_yaml_can_name_has_its_help():
    from kronlit.config.explain import subclasses
    from kronlit.data import TaskData
    from kronlit.methods import Method
    from kronlit.modules import FrozenPLM

    for base in (Method, TaskData, FrozenPLM):
        for cls in subclasses(base):
            if not cls.__module__.startswith("kronlit."):
                continue  # another test's
            for argument in inspect.signature(cls).parameters:
                assert f"    {argument}: " in cls.__doc__, f"{cls.__name__}.{argument}"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["study", "--help"],
        ["study", "report", "--help"],
        ["export", "--help"],
        ["info", "--help"],
        ["configs", "--help"],
        ["submit", "--help"],
    ],
    ids=" ".join,
)
def test_help_needs_no_torch(words):
    code = f"""
import sys
from kronlit.__main__ import main
sys.argv = ["kronlit", *{words}]
try:
    main()
finally:
    print("imported:", *sys.modules.keys() & {{"torch", "lightning", "scipy", "matplotlib"}})
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    ).stdout
    assert out.endswith("imported:\n")
    assert all(command in out for command in COMMANDS) or words != ["--help"]


def test_the_help_lists_the_commands_that_there_are():
    from kronlit.cli.fit import CLI

    own = {"study", "merge", "export", "submission", "info", "configs", "submit"}
    assert set(COMMANDS) == {*CLI.subcommands(), *own}


def test_no_file_has_outgrown_one_idea():
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 300} == {}


def test_no_stray_file_lies_at_the_root():
    root = PACKAGE.parent
    known = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True).stdout.splitlines()
    assert {name for name in tracked if "/" not in name and not name.startswith(".")} <= known
