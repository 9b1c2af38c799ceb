"""The options of `validate`, `test` and `predict` for several adapters at once."""

from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from kronlit.adapters.emea import Over, Shared
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import CONFIG
from kronlit.exchange.ensemble import Ensemble, Kind
from kronlit.exchange.load_many import by_name
from kronlit.training.checkpoint_lookup import best_of_run

DEFAULTS = {
    "ensemble": "uniform",
    "weights": ["uniform"],
    "steps": 10,
    "step_size": 10.0,
    "weights_of": "row",
    "entropy_over": "tokens",
    "adapter_column": None,
}
"""The options that say what is done with several adapters."""


def add_ensemble_options(parser: LightningArgumentParser) -> None:
    """Add what `validate`, `test` and `predict` take for several adapters at once."""
    parser.add_argument(
        "--adapters",
        type=str,
        nargs="+",
        help="Two or more adapters in place of a checkpoint, side by side in one frozen model: folders of `kronlit "
        "export`, `kronlit.save` or PEFT, or of runs. Each is named by its folder, or as NAME=FOLDER. With the "
        "checkpoint of a run that stands on an adapter (`below`), they, or one, stand in place of that one.",
    )
    parser.add_argument(
        "--ensemble",
        type=Kind,
        default="uniform",
        help="Mix the outputs of the `adapters` with equal weights, or with emea: weights by layer that minimise the "
        "entropy of the predictions, found for the rows at hand without their labels.",
    )
    parser.add_argument(
        "--weights",
        type=str,
        nargs="+",
        default=["uniform"],
        help="Mix with these in place of equal weights: a number for each of the `adapters`, 1 in all; or a .yaml or "
        ".json file with, for each, a number or one a layer.",
    )
    parser.add_argument("--steps", type=int, default=10, help="Steps of emea for each batch; 0 mixes uniformly.")
    parser.add_argument("--step_size", type=float, default=10.0, help="Size of such a step.")
    parser.add_argument(
        "--weights_of",
        type=Shared,
        default="row",
        help="Whether emea finds weights for each row, whatever the batch, or shared ones for each batch.",
    )
    parser.add_argument(
        "--entropy_over",
        type=Over,
        default="tokens",
        help="Whether emea's entropy is the mean over real tokens, or over padding too, as in the paper's code.",
    )
    parser.add_argument(
        "--adapter_column",
        type=str | None,
        help="In predict, the column of `data.predict_file` that names each row's adapter; nothing is mixed then.",
    )


def ensemble_of(config: Namespace, subcommand: str, ckpt_path: str | None) -> Ensemble | None:
    """What is done with `adapters`, if they are given.

    Raises:
        ValueError: if options contradict each other.
    """
    if subcommand == "fit":
        return None
    if not config.adapters:
        for name, default in DEFAULTS.items():
            if config[name] != default:
                raise UserError(f"`{name}`={config[name]!r} is for several adapters: name them as `adapters`.")
        return None
    stacked = config.below is not None and (ckpt_path is not None or bool(config.init_adapter))
    if config.below is not None and not stacked:
        raise UserError(
            "`below` and `adapters` both say what stands below: leave out `below`, or name the run or the adapter that "
            "is on top of them as `ckpt_path` or `init_adapter`."
        )
    if ckpt_path is not None and not stacked:
        raise UserError("`adapters` stand in place of a checkpoint: leave out `ckpt_path`, or name its run among them.")
    if config.adapter_column is not None and subcommand != "predict":
        raise UserError(f"`adapter_column` is for `predict`, not for `{subcommand}`.")
    if config.init_adapter and not stacked:
        raise UserError("`init_adapter` and `adapters` both say what is added: name all of them as `adapters`.")
    return Ensemble(config.adapters, **{name: config[name] for name in DEFAULTS}, stacked=stacked)


def checkpoint_of(ensemble: Ensemble | None) -> str | None:
    """The checkpoint of the first adapter that is a run, whose classes and columns the data then has."""
    paths = [Path(source) for source in by_name(ensemble.adapters).values()] if ensemble else []
    runs = [path for path in paths if path.is_file() or (path.is_dir() and not (path / CONFIG).is_file())]
    return str(best_of_run(runs[0])) if runs else None
