"""The options of `fit`, `validate`, `test` and `predict` beside Lightning's own, and how a wrong one is said."""

import re
from typing import Any, NoReturn

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from kronlit.config.explain import explain_error
from kronlit.config.inner_options import as_yaml
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
    "enable_model_summary": False,  # the table of what is trained stands in its place
    "log_every_n_steps": 10,
    "use_distributed_sampler": False,  # kronlit.data.batches shares the rows out itself
}

# Two, because Lightning renews a monitored checkpoint's `save_last` only when the score has improved.
CHECKPOINT_DEFAULTS = {
    "best_checkpoint.monitor": "val/score",
    "best_checkpoint.mode": "max",
    "best_checkpoint.filename": "best-{epoch}-{step}",
    "last_checkpoint.filename": "last",
    "last_checkpoint.enable_version_counter": False,
}

CKPT_PATH = {
    "fit": "`last`, to go on in the folder of the newest run in `run_dir` that has one (or of the run whose own "
    "config.yaml is given); or a checkpoint to start from, in a folder of its own.",
    "others": "`best` or `last`, of the newest run in `run_dir` (or of the run whose own config.yaml is given), or a "
    "checkpoint. Without `config`, the folder of a run, for its best one, or a checkpoint in it: the run's own config "
    "is used, and what is written goes into the new folder `{command}` (then `{command}-2` and so on) in the run's; "
    "with `run_dir`, into a version_N there.",
}


class OneLineParser(Parser, LightningArgumentParser):
    """Lightning's parser, whose errors are one line, too."""

    bases = {"model": FrozenPLM, "data": TaskData, "method": Method, "matrix": StructuredLinear}

    def parse_args(self, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        words = None if args is None else [as_yaml(word) for word in args]  # None: the command line itself
        return super().parse_args(words, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if found := re.search(r'key "trainer\.precision".*Given value: (.*)', message, re.DOTALL):
            check_precision_name(found[1])
        outer = {"trainer.callbacks": Callback, "trainer.logger": Logger}
        fail(explain_error(message, self, self.bases | (outer if "arguments are required" in message else {})))


def add_options(parser: LightningArgumentParser) -> None:
    """Add the options that Lightning's command line does not have."""
    parser.link_arguments("data.task", "model.init_args.task", apply_on="instantiate")
    parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
    parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
    parser.set_defaults(CHECKPOINT_DEFAULTS)
    parser.add_argument(
        "--run_dir",
        type=str | None,
        help="Folder of this experiment's runs, each a version_N in it; by default runs/ and the configs' names, "
        "or where the run is whose own config.yaml is given.",
    )
    parser.add_argument("--test_after_fit", type=bool, default=False, help="After fit, test the best checkpoint.")
    parser.add_argument(
        "--compile_layers",
        type=bool,
        default=False,
        help="In fit, compile each layer with torch.compile: minutes of a first step for shorter ones after it; "
        "for long runs on a GPU.",
    )
    parser.add_argument(
        "--init_adapter",
        type=str | None,
        help="Start fit from an adapter that `kronlit export` or PEFT (LoRA, LoKr, C3A) wrote, a folder or an id "
        "of the hub; not where a run goes on from a checkpoint.",
    )
    parser.add_argument(
        "--scored_rows",
        type=bool,
        default=False,
        help="Write row, prediction and target of all that test (or the command validate) scores as a CSV file in "
        "the run's folder, for tests of significance over examples.",
    )
    parser.add_argument(
        "--predictions",
        type=str | None,
        help="Where predict writes, .jsonl or .csv; by default predictions.jsonl in the folder that it makes.",
    )
    parser.add_argument("--slurm", type=Job | None, help="Read by `kronlit submit` alone.")
