"""The commands that export what a run has learned. Their help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser

CKPT_PATH = (
    "A checkpoint in a run's folder; the folder, for its best checkpoint; or an adapter's folder. It may stand right "
    "after the command, without this word."
)
OUTPUT = "The folder to write; it must not exist."


def exchange_command(command: str, words: list[str]) -> None:
    """Run one of the commands `merge`, `export` and `submission` with the words after it."""
    with one_line():
        COMMANDS[command](words)


def exchange_parser(command: str, description: str) -> ArgumentParser:
    """The parser of a command that reads a checkpoint and writes a folder."""
    usage = f"kronlit {command} RUN --output FOLDER [--OPTION VALUE ...]"
    parser = Parser(prog=f"kronlit {command}", description=description, usage=usage)
    parser.add_argument("--ckpt_path", type=str, required=True, help=CKPT_PATH)
    parser.add_argument("--output", type=str, required=True, help=OUTPUT)
    parser.add_argument("--push_to_hub", type=str | None, help="Upload the folder to this repository of the hub, too.")
    parser.add_argument("--private", type=bool, default=False, help="Whether others cannot see that repository.")
    return parser


def write_and_push(config: Namespace, write: Callable[[], None]) -> None:
    """Write the folder, and upload it if the user asked for that."""
    from kronlit.cli.quiet import quieten

    quieten()
    if config.push_to_hub is not None:
        from kronlit.exchange.hub import check_hub, push

        check_hub(config.push_to_hub)
    write()
    if config.push_to_hub is not None:
        print(f"uploaded to {push(Path(config.output), config.push_to_hub, config.private)}")


def merge(words: list[str]) -> None:
    """`kronlit merge`."""
    parser = exchange_parser(
        "merge", "Fold what was trained into the model, and write it as a plain Transformers folder."
    )
    parser.add_argument(
        "--dtype",
        type=Literal["float32", "bfloat16", "float16"],
        default="float32",
        help="The type of the weights that are written.",
    )
    parser.add_argument(
        "--requantized",
        type=Literal["none", "nf4", "int8", "int8_torchao"],
        default="none",
        help="Print, too, how far a logit is when the folder is quantised so again.",
    )
    config = parser.parse_args(words)
    from kronlit.exchange.merge import merge_run

    write_and_push(config, lambda: merge_run(config.ckpt_path, config.output, config.dtype, config.requantized))


def export(words: list[str]) -> None:
    """`kronlit export`."""
    parser = exchange_parser("export", "Write what was trained, without the frozen model, as a small folder.")
    parser.add_argument(
        "--format",
        type=Literal["kronlit", "peft", "lora", "auto"],
        default="auto",
        help="peft: LoKr, LoRA or C3A, if one of them is exactly the same map; lora: of all that merges the nearest "
        "LoRA, for PEFT and for servers that know nothing else; kronlit: for every method, read by `kronlit.load`; "
        "auto: peft if possible, else kronlit.",
    )
    parser.add_argument(
        "--rank", type=int | None, help="The rank of `--format lora`; 16 if neither it nor `error` is given."
    )
    parser.add_argument(
        "--error",
        type=float | None,
        help="In place of `rank`, the largest part of the norm of each change that may be lost, such as 0.05: each "
        "module has the least rank with which less is.",
    )
    config = parser.parse_args(words)
    from kronlit.exchange.export import export_run

    write_and_push(
        config, lambda: export_run(config.ckpt_path, config.output, config.format, config.rank, config.error)
    )


def submission(words: list[str]) -> None:
    """`kronlit submission`."""
    description = "Put predictions for all test sets of GLUE or SuperGLUE into the zip that its site scores."
    parser = Parser(prog="kronlit submission", description=description)
    parser.add_argument(
        "--predictions",
        type=str,
        required=True,
        help="A folder with the files of `kronlit predict`: cola.jsonl and so on for every task, and ax.jsonl "
        "(SuperGLUE: axb.jsonl and axg.jsonl).",
    )
    parser.add_argument("--benchmark", type=Literal["glue", "super_glue"], default="glue", help="Whose zip.")
    parser.add_argument("--output", type=str, required=True, help="The zip to write; it must not exist.")
    config = parser.parse_args(words)
    from kronlit.exchange.submission.write import SITES, write_submission

    write_submission(Path(config.predictions), Path(config.output), config.benchmark)
    print(f"{config.output}: ready for {SITES[config.benchmark]}.")


COMMANDS = {"merge": merge, "export": export, "submission": submission}
