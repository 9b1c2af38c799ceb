"""What Lightning says of the trainer's arguments, and of checkpoints, while it runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from kronlit.config.mistakes import full_disk
from kronlit.config.user_error import UserError

ON_ARGUMENTS = (MisconfigurationException, ValueError, ImportError)
"""What it raises on arguments; an ImportError where an optional package is missing."""
CONNECTOR = "lightning.pytorch.trainer.connectors.checkpoint_connector"
EARLY_STOPPING = "lightning.pytorch.callbacks.early_stopping"


@contextmanager
def trainer_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn what Lightning says of the user's input in a run into a `UserError`; a fault of the code stays as it is.

    Our code, torch's and the user's runs within the same call, and raises errors of the same classes. So it counts
    where one was raised.

    Args:
        more: further classes of errors that Lightning raises on arguments in this call.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if line := said_by_lightning(error, (*ON_ARGUMENTS, *more)):
            raise UserError(line) from error
        raise


def said_by_lightning(error: Exception, on_arguments: tuple[type[Exception], ...]) -> str | None:
    """The line on an error that Lightning raised on the user's input."""
    frames = [(str(frame.f_globals.get("__name__")), frame.f_code.co_name) for frame, _ in walk_tb(error.__traceback__)]
    module = frames[-1][0]
    # Early stopping raises a RuntimeError where what it watches is not logged after all.
    if module == EARLY_STOPPING or (module.startswith("lightning.") and isinstance(error, on_arguments)):
        return f"`trainer`: {error}"
    if any(name == CONNECTOR and function != "dump_checkpoint" for name, function in frames):
        return f"`ckpt_path`: the checkpoint is not as kronlit writes them, and cannot be restored: {error!r}"
    return None


def quiet_on_a_full_disk(
    hook: Callable[[threading.ExceptHookArgs], Any],
) -> Callable[[threading.ExceptHookArgs], Any]:
    """A hook for errors in threads that keeps silent about a full disk.

    The error of TensorBoard's writer thread is raised again in the main thread, which reports it.
    """
    return lambda found: None if full_disk(found.exc_value) else hook(found)
