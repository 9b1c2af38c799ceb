"""Reads options of a class within a class, such as `--model.method.sites`, as in a YAML."""

import ast
import json


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
