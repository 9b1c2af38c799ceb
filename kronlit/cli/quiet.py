"""Silences warnings that a user cannot act on."""

import logging
import warnings

import datasets
import transformers


def quieten() -> None:
    """Filter out warnings and log messages that a user cannot act on."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    for name in ("torchao", "bitsandbytes", "torch.utils._pytree"):  # kernels for other machines, which are not there
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.msg)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty. Previous log files.*")  # kronlit made that folder
    warnings.filterwarnings("ignore", ".*custom batch sampler `LengthGroupedBatches`.*")  # it does yield every row
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    # Both mean that there are no validation rows, which `after_fit` reports.
    warnings.filterwarnings("ignore", ".*Total length of `list` across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*could not find the monitored key.*")
