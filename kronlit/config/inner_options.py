"""Reads options of a class within a class, such as `--model.method.sites`, as in a YAML."""

import ast
import json
import re

import yaml


def as_yaml(word: str) -> str:
    """Write the value of an option as YAML where jsonargparse would pass it on to an inner parser as Python.

    jsonargparse reads lists and dictionaries, and passes them on in Python's notation. There a backslash is doubled,
    and null is None.
    """
    name, equals, value = word.partition("=")
    try:
        content = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word
    from_python = content is None or (isinstance(content, (list, dict)) and str(content) == value)
    return f"{name}{equals}{json.dumps(content)}" if from_python else word


def with_backslashes(word: str) -> str:
    r"""Double the backslashes of a list such as `[".*\.q_proj"]`, whose double quotes YAML reads escapes in.

    Only a list that is no YAML is changed: its backslashes cannot be escapes.
    """
    name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if not (value.startswith("[") and "\\" in value):
        return word
    try:
        yaml.safe_load(value)
    except yaml.YAMLError:
        return name + equals + re.sub(r'"[^"]*"', lambda found: found[0].replace("\\", "\\\\"), value)
    return word
