"""Who may import whom, and what is public."""

import ast
import graphlib
import importlib
import inspect
import pkgutil
import re
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
    "data": {"config.user_error"},
    "config": set(),
    "metrics": {"config.user_error", "data.tasks"},
    "modules": {
        *("structured", "adapters", "methods", "metrics"),
        *("config.user_error", "data.tasks", "data.prompts", "data.trained_task"),
    },
    "training": {"", "adapters", "config", "data", "methods", "metrics", "modules"},
    "exchange": {"", "structured", "adapters", "methods", "data", "modules", "config", "training"},
    "slurm": {"config", "training.signals"},
    "studies": {
        *("config", "metrics.rows", "training.metrics_reader", "training.paused", "training.ranking"),
        "training.signals",
    },
    "experimental": {"structured", "adapters", "config", "modules", "training", "cli.fit"},
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
            assert module.split(".")[0] in {"torch", *sys.stdlib_module_names}, f"{room} imports {module}"


HOUSE = (PACKAGE.parent / "docs/house.md").read_text()
NEXT = {room: {name.split(".")[0] for name in names} - {""} for room, names in ALLOWED.items()}
"""By room the rooms that it may import, `kronlit` itself, which lends names to two of them, left out."""


def arrows():
    """Those of `NEXT` that do not follow from others."""
    below = {}
    for room in graphlib.TopologicalSorter(NEXT).static_order():  # raises where rooms import each other
        below[room] = NEXT[room].union(*(below[name] for name in NEXT[room]))
    return [
        (room, name) for room in NEXT for name in sorted(NEXT[room]) if not any(name in below[b] for b in NEXT[room])
    ]


def test_the_house_is_drawn_as_it_is():
    picture = "\n".join(f"  {room} --> {name}" for room, name in arrows())
    assert HOUSE.split("graph TD\n")[1].split("\n```")[0] == picture, f"docs/house.md should have\n{picture}"


def test_the_table_of_rooms_says_what_each_may_import():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*?) ?\|$", HOUSE, re.MULTILINE)
    found = {room: {name.removeprefix("kronlit") for name in re.findall("`([^`]+)`", names)} for room, _, names in rows}
    assert found == ALLOWED
    assert list(found) == list(ALLOWED)


@pytest.mark.parametrize(
    "page",
    [
        "docs/house.md",
        "docs/architectures.md",
        "docs/experimental.md",
        "docs/jobs.md",
        "docs/structures.md",
        "CONTRIBUTING.md",
    ],
)
def test_every_file_that_a_page_names_is_there(page):
    root = PACKAGE.parent
    named = set(re.findall(r"\b((?:kronlit|tests|configs|benchmarks|docs)/[\w/.]+\.\w+)\b", (root / page).read_text()))
    assert named
    assert [path for path in sorted(named) if not (root / path).is_file()] == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_that_knows_users_raises_user_errors(path):
    if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in ONLY_TORCH:  # else the border makes them
        assert "raise ValueError(" not in path.read_text()


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


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["fit", "--help"],
        ["study", "--help"],
        ["study", "report", "--help"],
        ["tune", "--help"],
        ["export", "--help"],
        ["combine", "--help"],
        ["info", "--help"],
        ["generate", "--help"],
        ["rows", "--help"],
        ["configs", "--help"],
        ["submit", "--help"],
        ["methods", "--help"],
        ["models", "--help"],
        ["init", "--help"],
        ["completion", "bash"],
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


def test_metrics_of_rows_need_neither_torch_nor_scipy():
    code = "import sys, kronlit.metrics.rows; print(*sys.modules.keys() & {'torch', 'scipy'})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert out.stdout == "\n"


def test_the_help_lists_the_commands_that_there_are():
    from lightning.pytorch.cli import LightningCLI

    own = {"study", "merge", "export", "combine", "submission", "info", "configs", "tune", "submit", "generate", "rows"}
    own |= {"methods", "models", "init", "completion", "memory"}
    assert set(COMMANDS) == {*LightningCLI.subcommands(), *own}


def test_no_file_has_outgrown_one_idea():
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 300} == {}


def test_no_stray_file_lies_at_the_root():
    root = PACKAGE.parent
    known = {"pyproject.toml", "mkdocs.yml", "CITATION.cff"}
    known |= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True).stdout.splitlines()
    assert {name for name in tracked if "/" not in name and not name.startswith(".")} <= known
