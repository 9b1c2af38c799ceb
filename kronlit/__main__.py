"""The command `kronlit`. Commands that need no torch do not import it."""

import difflib
import importlib
import sys

from kronlit import __version__
from kronlit.cli.endings import exit_process, outside_ending
from kronlit.cli.quiet import quieten_logs
from kronlit.cli.run_word import with_ckpt_path
from kronlit.training.signals import listen

COMMANDS = {
    "fit": "train, validating as it goes; with --test_after_fit true, then test the best checkpoint",
    "validate": "score a checkpoint on the validation rows",
    "test": "score a checkpoint on the test rows",
    "predict": "write a checkpoint's predictions for the test rows or for your own file",
    "generate": "write what a run's language model says after a prompt",
    "rows": "show the first rows of a config as its model will read them, and what of them is learned",
    "memory": "tell what a fit takes in memory, and the largest batch for a card, without loading a weight",
    "merge": "merge a run's adapter into the model, and write a plain Transformers folder",
    "export": "write a run's adapter, without the frozen model, for kronlit or for PEFT",
    "combine": "write the weighted sum of several adapters as one adapter",
    "submission": "put predictions for all test sets of GLUE or SuperGLUE into the zip that its site scores",
    "info": "describe a checkpoint, an adapter or a config: method, shapes, parameters, size",
    "methods": "list what can be added to a model; with --plm, how many parameters each method trains on it",
    "models": "list the architectures that are known, and their sites; with --plm, the modules of a model",
    "init": "write a YAML with comments for a model, a method and rows, to change and to train",
    "configs": "list the YAMLs that come with kronlit, copy one, check one",
    "completion": "print a script that completes commands, options and names in bash or zsh",
    "study": "run tasks x methods x seeds and tabulate the scores; `study report DIR` writes the report",
    "tune": "search the learning rate, or what you name, of a fit on its validation rows; leaves best.yaml",
    "submit": "run a fit as a Slurm job; `submit study` runs a study as a job array",
}

HELP = f"""usage: kronlit COMMAND --config FILE.yaml [--config MORE.yaml ...] [--KEY VALUE ...]

Parameter-efficient fine-tuning of Transformers with structured adapters, version {__version__}.

commands:
{chr(10).join(f"  {name:12}{text}" for name, text in COMMANDS.items())}

start with
  kronlit fit --config quickstart
  kronlit study --config studies/quickstart
rows of your own
  kronlit init --data mine.csv --method LoRA --output mine.yaml
  kronlit fit --config mine.yaml
  kronlit merge runs/mine --output model
what there is
  kronlit methods
  kronlit models
  kronlit configs
what can be set, and every method with its options
  kronlit fit --help
  kronlit fit --help_all
  kronlit fit --model.help SequenceClassification
  kronlit fit --model SequenceClassification --model.method.help KronA"""


def main() -> None:
    """Run the command line."""
    find_files_here()
    quieten_logs()
    try:
        try:
            run_command(sys.argv[1:])
        finally:
            sys.stdout.flush()  # here, so that a closed pipe does not end in a traceback at exit
    except BaseException as error:
        if (ending := outside_ending(error)) is None:
            raise
        exit_process(*ending)


def run_command(arguments: list[str]) -> None:
    """Run the words after `kronlit`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
    elif arguments[0] == "--version":
        print(f"kronlit {__version__}")
    elif arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        print(f"kronlit: {arguments[0]!r} is no command; there are {', '.join(COMMANDS)}{hint}", file=sys.stderr)
        sys.exit(2)
    else:
        run_known_command(with_ckpt_path(arguments))


def run_known_command(arguments: list[str]) -> None:
    """Run a command and the words after it."""
    if arguments[0] == "submit":
        from kronlit.cli.submit import submit_command
        from kronlit.studies.retired import current_words, with_run_dir

        of_study = arguments[1:2] == ["study"]
        submit_command(current_words(arguments[1:], "studies") if of_study else with_run_dir(arguments[1:]))
    elif arguments[0] in ("study", "tune"):
        listen()
        run_many(arguments[0], arguments[1:])
    elif arguments[0] in ("merge", "export", "submission"):
        from kronlit.cli.exchange import exchange_command

        exchange_command(arguments[0], arguments[1:])
    elif arguments[0] == "completion":
        from kronlit.cli.completion import completion_command

        completion_command(arguments[1:], COMMANDS, run_command)
    elif arguments[0] in ("generate", "rows", "memory", "combine", "info", "configs", "methods", "models", "init"):
        module = importlib.import_module(f"kronlit.cli.{arguments[0]}")
        getattr(module, f"{arguments[0]}_command")(arguments[1:])
    elif arguments[1:] in (["-h"], ["--help"]):
        from kronlit.cli.short_help import short_help

        print(short_help(arguments[0]))
    else:
        if arguments[0] == "fit":
            listen()
        from kronlit.cli.fit import trainer_command
        from kronlit.studies.retired import with_run_dir

        sys.argv[2:] = (
            ["--help"] if arguments[1:] == ["--help_all"] else with_run_dir(arguments[1:])
        )  # in place: DDP starts its processes with these words
        trainer_command()


def run_many(command: str, words: list[str]) -> None:
    """Run the words of a command that runs many fits."""
    from kronlit.studies.retired import current_words

    if command == "study":
        from kronlit.cli.study import study_command

        study_command(current_words(words, "studies"))
    else:
        from kronlit.cli.tune import tune_command

        tune_command(current_words(words))


def find_files_here() -> None:
    """Let a YAML name a class in the current folder, which is not on the path of a console script."""
    if "" not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.append("")  # last, so that it hides no other module


if __name__ == "__main__":
    main()
