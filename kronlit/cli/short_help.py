"""The help of `fit`, `validate`, `test` and `predict`: what one sets most, read from the sources without torch."""

import ast
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
BASES = {"Method", "FrozenPLM", "TaskData"}
"""What others derive from, and nobody names."""

OPTIONS = {
    "--config FILE": "A YAML, or the name of one that `kronlit configs` lists. Of several, later ones win.",
    "--model JOB": "The job, from the list below.",
    "--model.plm NAME": "The pre-trained model: an id of the hub, or a folder.",
    "--model.method METHOD": "What is added and trained, from the list below; its options are "
    "--model.method.rank and the like.",
    "--model.lr RATE": "The learning rate. `kronlit tune` searches it.",
    "--data DATA": "Where the rows come from, from the list below.",
    "--data.batch_size N": "Rows per step and device.",
    "--trainer.max_epochs N": "How long to train.",
    "--trainer.precision P": "32-true, bf16-mixed or 16-mixed.",
    "--trainer.devices N": "How many devices; with --trainer.strategy ddp a process each.",
    "--run_dir DIR": "Where the run is written; by default runs/ and the config's name.",
    "--ckpt_path PATH": "The checkpoint to go on from: last, best or a path.",
}

ABOUT = {
    "fit": "Train a method on a frozen model, validating as it goes.",
    "validate": "Score a checkpoint on the validation rows.",
    "test": "Score a checkpoint on the test rows.",
    "predict": "Write a checkpoint's predictions for the test rows or for a file of your own.",
}


def short_help(command: str) -> str:
    """The help of a command of the trainer."""
    parts = [
        f"usage: kronlit {command} --config FILE.yaml [--OPTION VALUE ...]"
        + ("" if command == "fit" else f"\n       kronlit {command} RUN [--OPTION VALUE ...]"),
        f"{ABOUT[command]} A YAML says what differs from the defaults, and the command line has the last word.",
        "what one sets most\n" + table(OPTIONS),
        "methods, for --model.method\n" + table(public_classes("methods")),
        "jobs, for --model\n" + table(public_classes("modules")),
        "data, for --data\n" + table(public_classes("data")),
        f"an example\n  kronlit {command} --config quickstart --model.method LoRA --model.method.rank 4",
        f"all options\n  kronlit {command} --help_all\n"
        "  --model.help JOB, --data.help DATA, --model.method.help METHOD",
    ]
    return "\n\n".join(textwrap.fill(part, 80) if "\n" not in part else part for part in parts)


def table(lines: dict[str, str]) -> str:
    """Names, each with its text beside it, in 80 columns."""
    width = max(map(len, lines)) + 2
    texts = (textwrap.wrap(text, 78 - width) or [""] for text in lines.values())
    rows = (
        [f"  {name:{width}}{first}", *(" " * (width + 2) + rest for rest in others)]
        for name, (first, *others) in zip(lines, texts, strict=True)
    )
    return "\n".join(line for row in rows for line in row)


def public_classes(room: str) -> dict[str, str]:
    """The public classes of a room of the package, each with the first line of its docstring."""
    return {name: text.split("\n", 1)[0] for name, text in class_docstrings(room).items() if name not in BASES}


def class_docstrings(room: str) -> dict[str, str]:
    """The public classes of a room of the package, each with its docstring."""
    folder = PACKAGE / room
    public = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    files = [node.module for node in public.body if isinstance(node, ast.ImportFrom) and node.module]
    names = {alias.name for node in public.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    found = {}
    for file in dict.fromkeys(files):
        path = PACKAGE.joinpath(*file.split(".")[1:]).with_suffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                found[node.name] = ast.get_docstring(node) or ""
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
