"""Options of a class within a class, such as `--model.method.sites`, read as in a YAML."""

import ast
import json


def as_yaml(word: str) -> str:
    """An option that jsonargparse hands on to the parser of the inner class, with its value as YAML.

    It reads lists and dictionaries first, and hands them on as Python writes them: there a backslash stands for itself
    in twos, and null is None.
    """
    name, equals, value = word.partition("=")
    try:
        content = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word
    from_python = content is None or (isinstance(content, (list, dict)) and str(content) == value)
    return f"{name}{equals}{json.dumps(content)}" if from_python else word
