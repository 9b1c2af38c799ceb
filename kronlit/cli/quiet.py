"""Silences warnings that a user cannot act on."""

import logging
import warnings

MEANINGLESS = {
    "lightning.pytorch.utilities.rank_zero": (
        "litlogger",
        "GPU available: False",  # what is used stays; what is not there is no news
        "TPU available: False",
        "Loading `train_dataloader` to estimate",
        "`Trainer.fit` stopped: `max_",  # as it was told to
        "Detected KeyboardInterrupt",  # `endings` says so in its own line
    ),
    # kronlit reads its checkpoints itself, and never unpickles
    "lightning.pytorch.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
    "lightning.fabric.utilities.seed": ("Seed set to",),  # config.yaml has it
    "torchao": ("Failed to load", "Skipping import of cpp extensions"),  # kernels that nothing here calls
    "torch.utils._pytree": ("is an Enum subclass",),
    "bitsandbytes.backends.cpu.ops": ("Failed to load CPU gemm_4bit_forward",),
}
"""By logger, what opens or is in its messages that no user can act on."""


def quieten() -> None:
    """Filter out warnings and log messages that a user cannot act on."""
    import datasets
    import transformers

    quieten_logs()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty. Previous log files.*")  # kronlit made that folder
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a run goes on in its folder
    warnings.filterwarnings("ignore", ".*The dirpath has changed from.*")  # a new folder for each run is meant
    warnings.filterwarnings("ignore", ".*custom batch sampler `LengthGroupedBatches`.*")  # it does yield every row
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    # Both mean that there are no validation rows, which `after_fit` reports.
    warnings.filterwarnings("ignore", ".*Total length of `list` across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*could not find the monitored key.*")


def quieten_logs() -> None:
    """Filter out log messages alone. It imports nothing, as some libraries have them while they are imported."""
    for name, parts in MEANINGLESS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(one, Meaningful) for one in logger.filters):
            logger.addFilter(Meaningful(parts))


class Meaningful(logging.Filter):
    """Lets messages pass that have none of some parts in them.

    Args:
        parts: the parts.
    """

    def __init__(self, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = parts

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        return not any(part in message for part in self.parts)
