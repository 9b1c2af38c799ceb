"""The options that kronlit adds to `fit`, `validate`, `test` and `predict`, and the parser that reports wrong ones."""

import re
import sys
from typing import Any, NoReturn

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from kronlit.cli.below import add_below_option
from kronlit.config.explain import explain_error
from kronlit.config.inner_options import as_yaml, with_backslashes
from kronlit.config.mistakes import fail
from kronlit.config.parser import Parser
from kronlit.data import TaskData
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.slurm.job import Job
from kronlit.structured import StructuredLinear
from kronlit.training.best_checkpoint import BestCheckpoint
from kronlit.training.strategies import check_precision_name

TRAINER_DEFAULTS = {
    "enable_model_summary": False,  # kronlit prints a table of what is trained instead
    "log_every_n_steps": 10,
    "use_distributed_sampler": False,  # kronlit.data.batches distributes the rows itself
}

# Two checkpoint callbacks, because Lightning updates `save_last` of a monitored one only when the score improves.
CHECKPOINT_DEFAULTS = {
    "best_checkpoint.monitor": "val/score",
    "best_checkpoint.mode": "max",
    "best_checkpoint.filename": "best-{epoch}-{step}",
    "last_checkpoint.filename": "last",
    "last_checkpoint.enable_version_counter": False,
}

CKPT_PATH = {
    "fit": "`last` resumes, in its folder, the newest run in `run_dir` that has a checkpoint (or the run whose own "
    "config.yaml is given). The path of a checkpoint starts from it, in a new folder.",
    "others": "`best` or `last` of the newest run in `run_dir` (or of the run whose own config.yaml is given), or the "
    "path of a checkpoint. Without `config`: the folder of a run, for its best checkpoint, or a checkpoint in it. The "
    "run's own config is used then, and output goes into a new folder `{command}` (then `{command}-2` and so on) in "
    "the run's folder; or, with `run_dir`, into a version_N there.",
}


class OneLineParser(Parser, LightningArgumentParser):
    """Lightning's parser, whose errors are one line, too."""

    bases = {"model": FrozenPLM, "data": TaskData, "method": Method, "matrix": StructuredLinear}

    def parse_args(self, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        words = (
            None if args is None else [as_yaml(with_backslashes(word)) for word in args]
        )  # None means the command line itself
        return super().parse_args(words, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if found := re.search(r'key "trainer\.precision".*Given value: (.*)', message, re.DOTALL):
            check_precision_name(found[1])
        outer = {"trainer.callbacks": Callback, "trainer.logger": Logger}
        fail(explain_error(message, self, self.bases | (outer if "arguments are required" in message else {})))


def named_command() -> dict[str, set[str]]:
    """Of Lightning's commands the one on the command line, since the parser of each takes a while to build."""
    commands = LightningCLI.subcommands()
    return {name: skipped for name, skipped in commands.items() if name == sys.argv[1]}


def add_options(parser: LightningArgumentParser) -> None:
    """Add the options that Lightning's command line does not have."""
    parser.link_arguments("data.task", "model.init_args.task", apply_on="instantiate")
    parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
    parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
    parser.set_defaults(CHECKPOINT_DEFAULTS)
    parser.add_argument(
        "--run_dir",
        type=str | None,
        help="Folder of this experiment's runs, each a version_N in it. By default it is runs/ and the names of the "
        "configs; or, for a run's own config.yaml, the folder where that run is.",
    )
    parser.add_argument("--test_after_fit", type=bool, default=False, help="After fit, test the best checkpoint.")
    parser.add_argument(
        "--stop_after_epochs",
        type=int | None,
        help="In fit, pause after this many epochs: save the last checkpoint and end with exit code 75. With "
        "`--ckpt_path last` the same command goes on, with a larger number or none, as if it had not paused.",
    )
    parser.add_argument(
        "--compile_layers",
        type=bool,
        default=False,
        help="In fit, compile each layer with torch.compile. The first step takes minutes, later ones are faster: "
        "for long runs on a GPU.",
    )
    parser.add_argument(
        "--init_adapter",
        type=str | None,
        help="Start from an adapter that `kronlit export`, `kronlit combine` or PEFT (LoRA, LoKr, C3A) wrote: a folder "
        "or a hub id. Ignored if there is a checkpoint to start from.",
    )
    add_below_option(parser)
    parser.add_argument(
        "--scored_rows",
        type=bool,
        default=False,
        help="Write row, prediction and target of every row that test (or the command validate) scores to a CSV file "
        "in the run's folder, for significance tests over examples.",
    )
    parser.add_argument(
        "--predictions",
        type=str | None,
        help="The .jsonl or .csv file that predict writes; by default predictions.jsonl in its new folder.",
    )
    parser.add_argument("--slurm", type=Job | None, help="Read by `kronlit submit` alone.")
