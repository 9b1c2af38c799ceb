"""The option `--below`: a frozen adapter that what is trained stands on."""

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from kronlit.exchange.load import carried, open_below
from kronlit.modules import FrozenPLM


def add_below_option(parser: LightningArgumentParser) -> None:
    """Add `--below`."""
    parser.add_argument(
        "--below",
        type=str | None,
        help="A frozen adapter that stands below what is trained, whose output what is trained is given (MAD-X: a "
        "language adapter below a task adapter): a folder that `kronlit export`, `kronlit.save` or PEFT wrote, or a "
        "hub id. An export of the run carries it.",
    )


def below_of(config: Namespace) -> str | None:
    """What is below: what the config says, or else what the adapter in `init_adapter` carries, on resuming as well."""
    if config.below is None and config.init_adapter:
        return carried(config.init_adapter)
    return config.below


def stand_on(module: FrozenPLM, below: str | None) -> None:
    """Have the module's method add to a model that has this adapter.

    Raises:
        ValueError: if there is none.
    """
    if below is not None:
        module.below = open_below(below)
