"""What the user reads after a mistake: one line that names the argument, the value, the rule and the cure."""

import dis
import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from kronlit.config.files import config_files


def fail(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print("kronlit: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line() -> Iterator[None]:
    """Make one line and exit code 2 of what the user got wrong; a fault of the code keeps its traceback."""
    try:
        yield
    except Exception as error:
        if message := mistake(error):
            fail(message)
        raise


def mistake(error: BaseException) -> str | None:
    """The message behind `error` if it is about what the user gave; a fault of the code has none, and a traceback.

    It is about the input where a `raise` statement of kronlit's own made it, or one of Lightning's checks of arguments.
    An error that torch raises from within a line of ours is a fault.
    """
    chain: BaseException | None = error
    while chain is not None:
        if (line := raised_for_input(chain) or said_by_the_system(chain, chain is error)) is not None:
            return line
        chain = chain.__cause__ or chain.__context__
    if "lightning.pytorch.trainer.connectors.checkpoint_connector" in modules(error):
        return f"`ckpt_path`: the checkpoint is not as kronlit writes them, and cannot be restored: {error!r}"
    return None


def raised_for_input(error: BaseException) -> str | None:
    """The message of an error that kronlit, jsonargparse or Lightning raised on what the user gave."""
    module = raised_in(error)
    if isinstance(error, (ValueError, TypeError)) and module.split(".")[0] == "kronlit":
        return str(error)
    # jsonargparse before 4.53 keeps the message of a constructor alone, as one line of several.
    if module.startswith("jsonargparse") and (found := re.search(r"^\s*- (`.*)$", str(error), re.MULTILINE)):
        return found[1]
    if module.startswith("jsonargparse") and (line := refused_by_lightning(str(error))):
        return line
    if module == "torch._utils" and (found := IN_A_WORKER.search(str(error))):
        return found[1]
    early = module == "lightning.pytorch.callbacks.early_stopping"  # what it watches is logged, but did not come
    if module.startswith(("lightning.pytorch", "lightning.fabric")) and (early or checks_arguments(error)):
        return f"`trainer`: {error}"
    return None


def said_by_the_system(error: BaseException, outermost: bool) -> str | None:
    """The message of an error that the system raised on a file."""
    if isinstance(error, OSError) and full_disk(error):
        return f"{error.filename or 'a file'} cannot be written: {error.strerror}."
    if outermost and isinstance(error, OSError) and error.filename and error.strerror:
        return f"{str(error.filename)!r} cannot be read or written: {error.strerror}."
    if isinstance(error, UnicodeDecodeError) and config_files():
        return f"`config`={', '.join(config_files())} is not UTF-8 text: {error}."
    return None


def refused_by_lightning(message: str) -> str | None:
    """What the constructor of a class of Lightning's said, from jsonargparse's list of all that it tried."""
    named = re.search(r"class_path='(lightning\.[\w.]+)'", message)
    tried = re.findall(r"^\s*- (.*(?:\n(?!\s*(?:- |Given value)).*)*)", message, re.MULTILINE)
    said = [line for line in tried if not line.startswith(TRIED)]
    if not named or not said:
        return None
    text = re.sub(r"^Problem with given class_path \S+", "", said[0])
    return f"`trainer`: {named[1].split('.')[-1]}: {' '.join(text.split())}"


TRIED = ("Not a valid", "Expected a", "Import path", "Does not validate", "a class path", "a dict")
"""How jsonargparse's own lines begin on what a value is not."""


def full_disk(error: BaseException | None) -> bool:
    """Whether `error` says that the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def checks_arguments(error: BaseException) -> bool:
    """Whether Lightning raises errors like `error` when it checks arguments."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # late: `study` needs no torch

    # An ImportError that Lightning raises itself: a package that is optional, and missing.
    return isinstance(error, (MisconfigurationException, ValueError, TypeError, ImportError))


IN_A_WORKER = re.compile(
    r'File "[^"]*/kronlit/[^"]*", line \d+, in \w+\n\s*raise ValueError\(.*\nValueError: (.*)\Z', re.DOTALL
)
"""The text of an error that kronlit raised in a worker of a data loader, and its message."""


def raised_in(error: BaseException) -> str:
    """The module whose `raise` statement made `error`; nothing if it came out of compiled code."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or traceback.tb_frame.f_code.co_code[traceback.tb_lasti] != dis.opmap["RAISE_VARARGS"]:
        return ""
    return str(traceback.tb_frame.f_globals.get("__name__"))


def modules(error: BaseException) -> set[str]:
    """The modules that `error` came through."""
    found, traceback = set(), error.__traceback__
    while traceback is not None:
        found.add(str(traceback.tb_frame.f_globals.get("__name__")))
        traceback = traceback.tb_next
    return found
