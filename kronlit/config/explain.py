"""A parser's error in the user's words, with the nearest name where one is not known.

This reads jsonargparse's prose, as its errors carry nothing else: `error` gets a text and an exception whose only
argument is that text. Key, value and type are in no attribute.
"""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from kronlit.config.files import config_files
from kronlit.config.shipped import config_path, shipped_names
from kronlit.config.signatures import parameters
from kronlit.config.written_lists import QUOTE, as_list

WHERE = "work in the folder of its file, or add that to PYTHONPATH"


def explain_error(message: str, parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """Rewrite a parser's error as one line, with the nearest name for an unknown one.

    Args:
        message: the parser's own message.
        parser: the parser, which knows the names of the options.
        bases: for each option that names a class, the base of the classes that it may name.
    """
    message = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).replace("typing.", "")
    message = re.sub(r"Key must be a string, got: (.*)\.", rf"the key \1 stands where a name must: {QUOTE}", message)
    message = message.replace("NoneType", "null").replace('"<unicode string>"', ", ".join(config_files()) or "a value")
    if line := unknown_class(message, bases) or unknown_word(message):
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
        return wrong_type(found[1], found[3].strip(), rule, bases, "tuple[" in found[2] or "list[" in found[2])
    if found := re.search(r'key "([\w.]+)":\s+Expected an? (.*)\. Got value: (.*)', message, re.DOTALL):
        a_list = found[2].startswith(("tuple", "list"))
        rule = "a list" if a_list else f"of type {found[2]}"
        return wrong_type(found[1], found[3].strip(), rule, bases, a_list)
    if found := re.search(r"arguments are required: (\w[\w., ]*)$", message):
        return missing_options(found[1].split(", "), parser, bases)
    if message.startswith("Unexpected config"):
        return f"{', '.join(config_files())} must hold keys and values, as the files in configs/ do. {message}"
    return re.sub(r"\b(fit|validate|test|predict)\.(?=data|model)", "", message)


def unknown_class(message: str, bases: dict[str, type[Any]]) -> str | None:
    """The message for a class that is unknown or not in its module; `None` if the error is about something else."""
    if found := re.search(r"^\s*- (`class_path`=.*)$", message, re.MULTILINE):  # from an inner parser
        return found[1]
    if found := re.search(r"given class_path '([\w.]+)':\s+No module named '([\w.]+)'", message):
        return f"`class_path`={found[1]!r} needs the module {found[2]}, which is not found: {WHERE}."
    if found := re.search(r"No module named '([\w.]+)'\. Got value: Namespace\(class_path='([\w.]+)'", message):
        return f"`class_path`={found[2]!r} needs the module {found[1]}, which is not found: {WHERE}."
    if found := re.search(r"given class_path '([\w.]+)':\s+module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"`class_path`={found[1]!r}: the module {found[2]} has no {found[3]}."
    if found := re.search(r"key \"([\w.]+)\".*Expected '([\w.]+)' to be a subclass of (\w+)", message, re.DOTALL):
        names = [subclass.__name__ for subclass in subclasses(bases.get(found[1].split(".")[-1], object))]
        return f"{found[1]}={found[2]!r} is no {found[3]}{nearest(found[2], names, everything=True)}"
    if found := re.search(r'key "([\w.]+)".*Expected a dot import path string: (\S+)', message, re.DOTALL):
        key, name = found[1].split(".")[-1], found[2]
        names = [subclass.__name__ for subclass in subclasses(bases[key])] if key in bases else []
        return f"{found[1]}={name!r} names no class that is known{nearest(name, names, everything=True)}"
    return None


def unknown_word(message: str) -> str | None:
    """The message for a YAML, a positional word or a command within a command that there is not; else `None`."""
    if found := re.search(r'key "config".*File does not exist: \'?(.*?)\'?$', message, re.DOTALL):
        name = Path(found[1]).name if Path(found[1]).is_absolute() else found[1]
        return f"`config`={name!r} is no file, and none of the YAMLs that `kronlit configs` lists{nearest_config(name)}"
    if found := re.search(r"unrecognized arguments: ([^-\s]\S*)", message):
        yaml = config_path(found[1]) != found[1] or Path(found[1]).suffix in (".yaml", ".yml")
        cure = f"; did you mean `--config {found[1]}`?" if yaml else ": a run's folder stands right after the command."
        return f"{found[1]!r} stands where an option must{cure}"
    if found := re.search(r"invalid choice: '(\S+)' \(choose from (.*)\)", message):
        names = [name.strip(" '") for name in found[2].split(",")]
        return f"{found[1]!r} is no word that can stand there{nearest(found[1], names, everything=True)}"
    return None


def missing_options(names: list[str], parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """The message for missing options and missing positional words."""
    words = {
        action.dest for one in (parser, *subparsers(parser)) for action in one._actions if not action.option_strings
    }
    if all(name.split(".")[-1] in words for name in names):
        *commands, last = names[0].split(".")
        line = " ".join([parser.prog, *commands, *(name.split(".")[-1].upper() for name in names)])
        return f"`{last}` must be given: {line}."
    return f"{', '.join(f'`--{argument_of(name, bases)}`' for name in names)} must be given."


def wrong_type(key: str, value: str, rule: str, bases: dict[str, type[Any]], a_list: bool) -> str:
    """The message for a value that has the wrong type for its option."""
    value = "null" if value == "None" else value
    cure = f"; one is written '{as_list(value, rule)}'" if a_list else ""
    unquoted = a_list and "str" in rule and re.search(r"\b(True|False|None|\d+)\b", value)
    return f"{argument_of(key, bases)}={value!r} must be {rule}{cure}.{' ' + QUOTE if unquoted else ''}"


def argument_of(key: str, bases: dict[str, type[Any]]) -> str:
    """`key` with the option whose classes take it as an argument, such as `data.task`.

    `data` wins over `model`, because it gives the model its task; it also sorts first.
    """
    options = [
        option for option, base in bases.items() if any(key in parameters(subclass) for subclass in subclasses(base))
    ]
    return f"{min(options)}.{key}" if options else key


def nearest_option(name: str, message: str, parser: ArgumentParser, bases: dict[str, type[Any]]) -> str:
    """The end of a message about an unknown option: the nearest known name."""
    path = name.split(".")
    if "does not accept" in message or "arguments" in message:  # the whole path is given
        if path[0] not in top_level(parser):
            return nearest(path[0], top_level(parser))
        return nearest(path[-1], known_options(parser, bases.values()))
    return nearest(path[0], known_options(parser, bases.values()))  # the path within a class


def nearest(name: str, names: Iterable[str], everything: bool = False) -> str:
    """The end of a message: the nearest of `names`, or all of them with `everything`."""
    names = sorted(set(names) - {name})
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lower, 1, cutoff=0.6)
    listed = f"; there are {', '.join(names)}" if everything and names else ""
    return f"{listed}; did you mean {lower[near[0]]!r}?" if near else f"{listed}."


def nearest_config(name: str) -> str:
    """The end of a message about a YAML that is not there: the nearest of those that are shipped."""
    return nearest(name.removeprefix("configs/").removesuffix(".yaml"), shipped_names())


def top_level(parser: ArgumentParser) -> set[str]:
    """The first parts of the option names of `parser` and its subcommands."""
    parsers = [parser, *subparsers(parser)]
    return {action.dest.split(".")[0] for one in parsers for action in one._actions}


def known_options(parser: ArgumentParser, bases: Iterable[type[Any]]) -> Iterator[str]:
    """The last parts of all option names: the parser's own, and the arguments of every class that it can name."""
    for one in (parser, *subparsers(parser)):
        yield from (action.dest.split(".")[-1] for action in one._actions)
    for base in bases:
        for subclass in subclasses(base):
            yield from parameters(subclass)


def subparsers(parser: ArgumentParser) -> list[ArgumentParser]:
    """The parsers of a parser's subcommands."""
    action = getattr(parser, "_subcommands_action", None)
    return [] if action is None else list(action._name_parser_map.values())


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """All subclasses of `base` that are not abstract."""
    for subclass in base.__subclasses__():
        if not inspect.isabstract(subclass):
            yield subclass
        yield from subclasses(subclass)
