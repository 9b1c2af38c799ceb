"""What the user reads after a mistake: one line that names the argument, the value, the rule and the cure."""

import difflib
import dis
import errno
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from kronlit.written_lists import QUOTE, as_list


class Parser(ArgumentParser):
    """A parser whose errors are one line and exit code 2, and that takes no abbreviations."""

    bases: dict[str, type[Any]] = {}
    """Option to the class of which it names a subclass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = explained(message, self, self.bases)
        if self.exit_on_error:
            fail(line)
        raise ValueError(line)

    def made(self, values: Namespace) -> Namespace:
        """The objects that `values` describe."""
        instantiate = getattr(self, "instantiate", None) or self.instantiate_classes  # its name before 4.49
        return instantiate(values)


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


def explained(message: str, parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """A parser's error in one line, with the nearest name where one is not known.

    Args:
        message: the parser's own words.
        parser: knows the names of the options.
        bases: option to the class of which it names a subclass.
    """
    message = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).replace("typing.", "")
    message = re.sub(r"Key must be a string, got: (.*)\.", rf"the key \1 stands where a name must: {QUOTE}", message)
    message = message.replace("NoneType", "null").replace('"<unicode string>"', ", ".join(config_files()) or "a value")
    if line := no_class(message, bases):
        return line
    if found := re.search(r'key "([\w.]+)".*Given value: NestedArg\(key=\'([\w.]+)\'', message, re.DOTALL):
        option = found[1].split(".")[-1]
        names = [subclass.__name__ for subclass in subclasses(bases[option])] if option in bases else []
        there = nearest("", names, everything=True)
        return f"`--{found[1]}.{found[2]}` comes before `--{found[1]}`, the class it is of{there}"
    if found := re.search(r'key "([\w.]+)".*is abstract.*Given value: (\S+)', message, re.DOTALL):
        names = [subclass.__name__ for subclass in subclasses(bases[found[1].split(".")[-1]])]
        return f"{found[1]}={found[2]!r} is what such classes share{nearest(found[2], names, everything=True)}"
    if found := re.search(r"(?:[Oo]ption '|arguments: --)([\w.-]+)", message):
        return f"there is no option {found[1]!r}{nearest_option(found[1], message, parser, bases)}"
    if found := re.search(r'key "([\w.]+)":\s+Expected an? Literal\[(.*)\]\. Got value: (.*)', message, re.DOTALL):
        names = [name.strip(" '") for name in found[2].split(",")]
        value = found[3].strip()
        return f"{found[1]}={value!r} must be one of its choices{nearest(value, names, everything=True)}"
    pattern = r'key "([\w.]+)":\s+Does not validate against any of.*Subtypes: \[(.*)\]\s+Errors:.*Given value: (.*)'
    if found := re.search(pattern, message, re.DOTALL):
        rule = f"of one of the types {found[2]}"
        return mistyped(found[1], found[3].strip(), rule, bases, "tuple[" in found[2] or "list[" in found[2])
    if found := re.search(r'key "([\w.]+)":\s+Expected an? (.*)\. Got value: (.*)', message, re.DOTALL):
        a_list = found[2].startswith(("tuple", "list"))
        rule = "a list" if a_list else f"of type {found[2]}"
        return mistyped(found[1], found[3].strip(), rule, bases, a_list)
    if found := re.search(r"arguments are required: (\w[\w., ]*)$", message):
        return missing(found[1].split(", "), parser, bases)
    if message.startswith("Unexpected config"):
        return f"{', '.join(config_files())} must hold keys and values, as the files in configs/ do. {message}"
    return re.sub(r"\b(fit|validate|test|predict)\.(?=data|model)", "", message)


def no_class(message: str, bases: dict[str, type[Any]]) -> str | None:
    """The sentence on a class that is not known, or not in its module, if a parser's error is about one."""
    if found := re.search(r"^\s*- (`class_path`=.*)$", message, re.MULTILINE):  # said by a parser within this one
        return found[1]
    if found := re.search(r"given class_path '([\w.]+)':\s+No module named '([\w.]+)'", message):
        cure = "work in the folder of its file, or add that to PYTHONPATH"
        return f"`class_path`={found[1]!r} needs the module {found[2]}, which is not found: {cure}."
    if found := re.search(r"given class_path '([\w.]+)':\s+module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"`class_path`={found[1]!r}: the module {found[2]} has no {found[3]}."
    if found := re.search(r'key "([\w.]+)".*Expected a dot import path string: (\S+)', message, re.DOTALL):
        key, name = found[1].split(".")[-1], found[2]
        names = [subclass.__name__ for subclass in subclasses(bases[key])] if key in bases else []
        return f"{found[1]}={name!r} names no class that is known{nearest(name, names, everything=True)}"
    return None


def missing(names: list[str], parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """The sentence on options that are not given, and on words that stand without one."""
    words = {
        action.dest for one in (parser, *subparsers(parser)) for action in one._actions if not action.option_strings
    }
    if all(name.split(".")[-1] in words for name in names):
        *commands, last = names[0].split(".")
        line = " ".join([parser.prog, *commands, *(name.split(".")[-1].upper() for name in names)])
        return f"`{last}` must be given: {line}."
    return f"{', '.join(f'`--{argument_of(name, bases)}`' for name in names)} must be given."


def mistyped(key: str, value: str, rule: str, bases: dict[str, type[Any]], a_list: bool) -> str:
    """The sentence on a value of another type than its option takes."""
    value = "null" if value == "None" else value
    cure = f"; one is written '{as_list(value, rule)}'" if a_list else ""
    unquoted = a_list and "str" in rule and re.search(r"\b(True|False|None|\d+)\b", value)
    return f"{argument_of(key, bases)}={value!r} must be {rule}{cure}.{' ' + QUOTE if unquoted else ''}"


def argument_of(key: str, bases: dict[str, type[Any]]) -> str:
    """`key` after the option whose classes take it as an argument; data comes first, as it gives the model its task."""
    options = [
        option
        for option, base in bases.items()
        if any(key in inspect.signature(s).parameters for s in subclasses(base))
    ]
    return f"{min(options)}.{key}" if options else key


def nearest_option(name: str, message: str, parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """The end of a sentence on the option `name` that there is not."""
    path = name.split(".")
    if "does not accept" in message or "arguments" in message:  # the whole path is given
        if path[0] not in top_level(parser):
            return nearest(path[0], top_level(parser))
        return nearest(path[-1], known_options(parser, bases.values()))
    return nearest(path[0], known_options(parser, bases.values()))  # the path within a class


def nearest(name: str, names: Iterable[str], everything: bool = False) -> str:
    """The end of a sentence that says which of `names` was meant, or all there are."""
    names = sorted(set(names) - {name})
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lower, 1, cutoff=0.6)
    listed = f"; there are {', '.join(names)}" if everything and names else ""
    return f"{listed}; did you mean {lower[near[0]]!r}?" if near else f"{listed}."


def top_level(parser: ArgumentParser) -> set[str]:
    """First names of the options of `parser` or of its subcommands."""
    parsers = [parser, *subparsers(parser)]
    return {action.dest.split(".")[0] for one in parsers for action in one._actions}


def known_options(parser: ArgumentParser, bases: Iterable[type[Any]]) -> Iterator[str]:
    """Last names of all options: the parser's, and the arguments of every class that an option can name."""
    for one in (parser, *subparsers(parser)):
        yield from (action.dest.split(".")[-1] for action in one._actions)
    for base in bases:
        for subclass in subclasses(base):
            yield from inspect.signature(subclass).parameters


def subparsers(parser: ArgumentParser) -> list[ArgumentParser]:
    """The parsers of a parser's subcommands."""
    action = getattr(parser, "_subcommands_action", None)
    return [] if action is None else list(action._name_parser_map.values())


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """All classes below `base` that can be made."""
    for subclass in base.__subclasses__():
        if not inspect.isabstract(subclass):
            yield subclass
        yield from subclasses(subclass)


def config_files() -> list[str]:
    """The files that the command line names with `--config`."""
    pairs = zip(sys.argv, sys.argv[1:], strict=False)
    files = [value for name, value in pairs if name in ("-c", "--config")]
    return files + [name.removeprefix("--config=") for name in sys.argv if name.startswith("--config=")]
