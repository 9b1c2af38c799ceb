"""What the user reads after a mistake: one line that names the argument, the value, the rule and the cure."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from jsonargparse import ArgumentParser


def fail(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print("kronlit: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def mistake(error: BaseException) -> str | None:
    """The message of the error that kronlit's own code raised, if that is behind `error`: then it is about the input.

    An error of a library's own keeps its traceback: it is a fault, not a mistake of the user's.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback = chain.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        module = "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__"))
        if isinstance(chain, (ValueError, TypeError)) and module.split(".")[0] == "kronlit":
            return str(chain)
        # jsonargparse before 4.53 keeps the message of a constructor alone, as one line of several.
        if module.startswith("jsonargparse") and (found := re.search(r"^\s*- (`.*)$", str(chain), re.MULTILINE)):
            return found[1]
        chain = chain.__cause__ or chain.__context__
    return None


def explained(message: str, parser: ArgumentParser, bases: dict[str, type]) -> str:
    """A parser's error in one line, with the nearest name where one is not known.

    Args:
        message: the parser's own words.
        parser: knows the names of the options.
        bases: option to the class of which it names a subclass.
    """
    message = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).replace("typing.", "")
    message = message.replace("NoneType", "null").replace('"<unicode string>"', ", ".join(config_files()) or "a value")
    if found := re.search(r'key "([\w.]+)".*Expected a dot import path string: (\S+)', message, re.DOTALL):
        key, name = found[1].split(".")[-1], found[2]
        names = [subclass.__name__ for subclass in subclasses(bases[key])] if key in bases else []
        return f"{found[1]}={name!r} names no class that is known{nearest(name, names, everything=True)}"
    if found := re.search(r"does not accept option '([\w.]+)'", message):
        first, last = found[1].split(".")[0], found[1].split(".")[-1]
        if first not in top_level(parser):
            return f"there is no option {found[1]!r}{nearest(first, top_level(parser))}"
        return f"there is no option {found[1]!r}{nearest(last, known_options(parser, bases.values()))}"
    if found := re.search(r"(?:Option '|arguments: --)([\w.]+)", message):
        path = found[1].split(".")
        name = path[0] if "Option" in message else path[-1]  # within a class, what is unknown is the first part
        return f"there is no option {found[1]!r}{nearest(name, known_options(parser, bases.values()))}"
    pattern = r'key "([\w.]+)":\s+Does not validate against any of.*Subtypes: \[(.*)\]\s+Errors:.*Given value: (.*)'
    if found := re.search(pattern, message, re.DOTALL):
        return f"{found[1]}={found[3].strip()!r} must be of one of the types {found[2]}."
    if found := re.search(r'key "([\w.]+)":\s+Expected an? (.*)\. Got value: (.*)', message, re.DOTALL):
        return f"{found[1]}={found[3].strip()!r} must be of type {found[2]}."
    return message


def nearest(name: str, names: Iterable[str], everything: bool = False) -> str:
    """The end of a sentence that says which of `names` was meant, or all there are."""
    names = sorted(set(names) - {name})
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lower, 1, cutoff=0.5)
    listed = f"; there are {', '.join(names)}" if everything else ""
    return f"{listed}; did you mean {lower[near[0]]!r}?" if near else f"{listed}."


def top_level(parser: ArgumentParser) -> set[str]:
    """First names of the options of `parser` or of its subcommands."""
    parsers = [parser, *subparsers(parser)]
    return {action.dest.split(".")[0] for one in parsers for action in one._actions}


def known_options(parser: ArgumentParser, bases: Iterable[type]) -> Iterator[str]:
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
    """All classes below `base`."""
    for subclass in base.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def config_files() -> list[str]:
    """The files that the command line names with `--config`."""
    pairs = zip(sys.argv, sys.argv[1:], strict=False)
    return [value for name, value in pairs if name in ("-c", "--config")]
