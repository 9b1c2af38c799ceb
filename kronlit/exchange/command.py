"""The commands that give away what a run has learned. Their help needs no torch."""

from typing import Literal

from jsonargparse import ArgumentParser

from kronlit.errors import Parser, fail, mistake

CKPT_PATH = "A checkpoint of a run, in its folder; or the folder, for its best one."
OUTPUT = "The folder to write; it must not exist."


def main(command: str, words: list[str]) -> None:
    """Run the words after `kronlit merge` and the like."""
    try:
        COMMANDS[command](words)
    except Exception as error:
        if message := mistake(error):
            fail(message)
        raise


def parser_of(command: str, description: str) -> ArgumentParser:
    """A parser of a command that reads a checkpoint and writes a folder."""
    parser = Parser(prog=f"kronlit {command}", description=description)
    parser.add_argument("--ckpt_path", type=str, required=True, help=CKPT_PATH)
    parser.add_argument("--output", type=str, required=True, help=OUTPUT)
    return parser


def merge(words: list[str]) -> None:
    """`kronlit merge`."""
    parser = parser_of("merge", "Fold what was trained into the model, and write it as a plain Transformers folder.")
    config = parser.parse_args(words)
    from kronlit.exchange.merge import merge_run
    from kronlit.quiet import quieten

    quieten()
    merge_run(config.ckpt_path, config.output)


def export(words: list[str]) -> None:
    """`kronlit export`."""
    parser = parser_of("export", "Write what was trained, without the frozen model, as a small folder.")
    parser.add_argument(
        "--format",
        type=Literal["kronlit", "peft", "auto"],
        default="auto",
        help="peft, LoKr, LoRA or C3A where one is exactly the same map; kronlit, for every method, read by "
        "`kronlit.load`; auto, the former where it can be.",
    )
    config = parser.parse_args(words)
    from kronlit.exchange.export import export_run
    from kronlit.quiet import quieten

    quieten()
    export_run(config.ckpt_path, config.output, config.format)


COMMANDS = {"merge": merge, "export": export}
