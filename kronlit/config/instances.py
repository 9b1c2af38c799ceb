"""Objects from what a config says of them: their classes and arguments, read as the command line reads a YAML."""

from typing import Any

from kronlit.config.argument_types import check_class
from kronlit.config.parser import Parser


def instance(kind: type[Any], spec: Any, name: str, bases: dict[str, type[Any]]) -> Any:
    """The object that `spec` describes.

    Args:
        kind: a class of which it must be, or a dataclass that it is.
        spec: `class_path` and `init_args`; of a dataclass the fields.
        name: what the user calls it, such as `model`.
        bases: by name of an argument that is a class in turn, the class of which it names a subclass.

    Raises:
        ValueError: if there is no such class, or it does not take these arguments.
    """
    parser = Parser(exit_on_error=False)
    parser.bases = {name: kind} | bases
    parser.add_argument(f"--{name}", type=kind)
    values = parser.parse_object({name: spec})
    check_class(values[name], name)
    return parser.instantiate(values)[name]
