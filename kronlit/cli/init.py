"""`kronlit init`: a YAML with comments for a model, a method and rows. It asks nothing, and its help needs no torch."""

import csv
import json
import shlex
import textwrap
from collections.abc import Iterable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from kronlit.cli.short_help import public_classes
from kronlit.config.explain import nearest
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.signatures import parameters
from kronlit.config.user_error import UserError

JOBS = {
    "E2E": "CausalLM",
    "InstructionFiles": "CausalLM",
    "TextPairs": "TextToText",
    "TokenFiles": "TokenClassification",
    "QuestionFiles": "QuestionAnswering",
    "ChoiceFiles": "MultipleChoice",
    "Images": "ImageClassification",
    "FewShot": "PromptClassification",
}
"""The job of a kind of data; of all others it is `SequenceClassification`."""

MODELS = {
    "SequenceClassification": "sentence-transformers/all-MiniLM-L6-v2",
    "PromptClassification": "FacebookAI/roberta-base",
    "CausalLM": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "TextToText": "google-t5/t5-small",
    "ImageClassification": "google/vit-base-patch16-224-in21k",
}
"""A small model for a job; of all others it is BERT."""

KINDS = {
    "InstructionFiles": ({"prompt", "completion"}, {"messages"}),
    "TextPairs": ({"source", "target"},),
    "TokenFiles": ({"tokens"},),
    "QuestionFiles": ({"question", "context", "answers"},),
    "ChoiceFiles": ({"question", "choices"},),
}
"""By kind of data the columns by which a file is of it; of all others it is `TextFiles`."""

OF_MODEL = ("lr", "warmup", "weight_decay", "max_length", "max_new_tokens", "generate", "gradient_checkpointing")
OF_DATA = (
    *("train", "validation", "test", "columns", "label", "labels", "span", "metrics", "task", "splits", "path"),
    *("k", "batch_size"),
)
TRAINER = {
    "max_epochs": (3, "how often the training rows are gone through"),
    "gradient_clip_val": (1.0, "the greatest norm of a gradient"),
    "precision": ("32-true", "32-true; on a GPU bf16-mixed or 16-mixed are faster"),
    "accumulate_grad_batches": (1, "batches to a step of the optimizer"),
}
RATES = {"KronA": 3e-3, "FullFineTuning": 2e-5}
"""Learning rates of methods to which the default is strange."""
GIVEN = {"warmup": 0.06, "test": 0.1, "generate": True}
"""What is better than the default in most runs."""
PLACEHOLDERS = {"train": "train.jsonl", "task": "rte", "path": "images"}
"""What stands in place of what only the user knows."""


def init_command(words: list[str]) -> None:
    """Run the words after `kronlit init`."""
    parser = Parser(
        prog="kronlit init",
        description="Write a YAML for `kronlit fit --config`: the options that matter, each with its help as a comment."
        " Nothing is asked and nothing overwritten.",
    )
    add = parser.add_argument
    add(
        "--data", type=str, default="TextFiles", help="Your file of rows; or a kind of data, such as GLUE or TextFiles."
    )
    add("--method", type=str, default="KronA", help="What is added and trained; `kronlit methods` lists them.")
    add("--plm", type=str | None, help="The pre-trained model: an id of the hub, or a folder; by default a small one.")
    add("--model", type=str | None, help="The job, such as CausalLM; by default that of the data.")
    add("--output", type=str | None, help="The file to write; by default the data's name and .yaml.")
    with one_line():
        config = parser.parse_args(words)
        data, file = kind_of_data(config.data)
        job = known(config.model or JOBS.get(data, "SequenceClassification"), "model", "modules", "`plm` is the model.")
        method = known(config.method, "method", "methods")
        plm = config.plm or MODELS.get(job, "google-bert/bert-base-cased")
        output = Path(config.output or f"{Path(file).stem if file else data}.yaml")
        if output.exists():
            raise UserError(f"`output`={str(output)!r} exists already, and nothing is overwritten: give another name.")
        text = commented_config(job, plm, method, data, file, output)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"`output`={str(output)!r} cannot be written: {error.strerror}.") from error
        print(f"wrote {output}; next: kronlit fit --config {shlex.quote(str(output))}")


def known(name: str, option: str, room: str, more: str = "") -> str:
    """A class of a room of the package, by its name.

    Raises:
        ValueError: if there is none.
    """
    names = public_classes(room)
    if name not in names:
        hint = nearest(name, names, everything=True)
        raise UserError(f"`{option}`={name!r} is none that is known{hint}{' ' * bool(more)}{more}")
    return name


def kind_of_data(data: str) -> tuple[str, str | None]:
    """The class for `data`, and the file if it is one: by the columns of its first row, or by its name's end.

    Raises:
        ValueError: if it is neither a class nor a file.
    """
    if data in public_classes("data"):
        return data, None
    path = Path(data)
    if not path.is_file():
        if path.suffix and "/" not in data and not path.suffix[1:].isdecimal():
            raise UserError(f"`data`={data!r} is no file that is there, and no kind of data.")
        return known(data, "data", "data", "Or give a file of rows."), None
    columns = columns_of(path)
    if columns is None:
        return "TokenFiles", data
    for kind, signs in KINDS.items():
        if any(sign <= columns for sign in signs):
            return kind, data
    return "InstructionFiles" if columns == {"text"} else "TextFiles", data


def columns_of(path: Path) -> set[str] | None:
    """The columns of a CSV, JSONL or parquet file; `None` of any other, such as CoNLL's.

    Raises:
        ValueError: if its first line cannot be read.
    """
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        return None
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return set(read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as file:
            row = next(csv.reader(file)) if path.suffix == ".csv" else json.loads(file.readline())
    except (ValueError, StopIteration, OSError, csv.Error) as error:
        raise UserError(f"`data`={str(path)!r}: its first line is no row of {path.suffix[1:].upper()}.") from error
    return set(row) if isinstance(row, (list, dict)) else set()


def commented_config(job: str, plm: str, method: str, data: str, file: str | None, output: Path) -> str:
    """The text of a config, whose options have their help as comments."""
    import kronlit.data
    import kronlit.methods
    import kronlit.modules

    kinds = getattr(kronlit.modules, job), getattr(kronlit.methods, method), getattr(kronlit.data, data)
    own = {"lr": RATES.get(method), "train": file or ("train.csv" if data == "TextFiles" else None)}
    own = {name: value for name, value in own.items() if value is not None}
    of_model, of_method, of_data = (
        options(kind, names, own) for kind, names in zip(kinds, (OF_MODEL, parameters(kinds[1]), OF_DATA), strict=True)
    )
    tests = "test" in parameters(kinds[2]) or data == "MovieReviews"
    name = shlex.quote(str(output))
    lines = [
        f"# {method} on {plm}, for {file or data}. What is not here has its default.",
        f"# kronlit fit --config {name}",
        f"# kronlit rows --config {name}    shows the rows as the model reads them.",
        f"# kronlit tune --config {name}    searches the learning rate.",
        "# kronlit fit --help_all    lists all options.",
        *(["", "# After the training, test the best checkpoint.", "test_after_fit: true"] if tests else []),
        *("", "model:", f"  class_path: {job}", "  init_args:"),
        *comment("The pre-trained model: an id of the hub, or a folder.", 4),
        f"    plm: {json.dumps(plm)}",
        "    method:",
        f"      class_path: {method}",
        *(["      init_args:"] if of_method else []),
        *indented(of_method, 8),
        *indented(of_model, 4),
        *("data:", f"  class_path: {data}"),
        *(["  init_args:"] if of_data else []),
        *indented(of_data, 4),
        "trainer:",
    ]
    lines += indented([(name, value, text) for name, (value, text) in TRAINER.items()], 2)
    return "\n".join(lines) + "\n"


def options(kind: type[Any], names: Iterable[str], own: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """Those of `names` that a class takes, each with its value and its help."""
    help_of, taken = helps(kind), parameters(kind)
    found = []
    for name in names:
        if name not in taken or (
            name == "task" and name not in signature(kind).parameters
        ):  # that of rows of one's own
            continue
        value = own.get(name, GIVEN.get(name, taken[name].default))
        if value is Parameter.empty:
            value = PLACEHOLDERS.get(name)
        found.append((name, value.__name__ if isinstance(value, type) else value, help_of.get(name, "")))
    return found


def helps(kind: type[Any]) -> dict[str, str]:
    """The help of each argument, from the docstrings of a class and its bases."""
    from docstring_parser import parse

    return {
        one.arg_name: " ".join((one.description or "").split())
        for base in reversed(kind.__mro__)
        for one in parse(base.__doc__ or "").params
    }


def indented(found: Iterable[tuple[str, Any, str]], indent: int) -> list[str]:
    """Options as lines of a YAML, each after its help."""
    lines = []
    for name, value, text in found:
        lines += [*comment(text, indent), f"{' ' * indent}{name}: {json.dumps(value)}"]
    return lines


def comment(text: str, indent: int) -> list[str]:
    """A text as comments."""
    start = " " * indent + "# "
    return textwrap.wrap(text, 100, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)
