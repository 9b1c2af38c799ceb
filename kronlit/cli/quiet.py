"""Silence about what a user can't act on."""

import logging
import warnings

import datasets
import transformers


def quieten() -> None:
    """Drop what a user can't act on."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.msg)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty. Previous log files.*")  # new_version made it
    warnings.filterwarnings("ignore", ".*custom batch sampler `LengthGroupedBatches`.*")  # it gives out every row
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    # Nothing to validate on, of which after_fit tells
    warnings.filterwarnings("ignore", ".*Total length of `list` across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*could not find the monitored key.*")
