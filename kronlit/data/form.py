"""Checks the form of plain values from a file, so that a damaged file gives a clear message."""

from types import EllipsisType, UnionType
from typing import Any

from kronlit.config.user_error import UserError

Form = type | UnionType | list["Form"] | dict[str | EllipsisType, "Form"]
"""A type; a list with the form of its items; or a dictionary of forms by key. A key that ends in `?` may be missing.

The key `...` gives the form of all other keys; without it they may hold anything.
"""


def check_form(value: Any, form: Form, what: str) -> None:
    """Raise `ValueError` unless `value` has the `form`. The message calls it `what`."""
    if isinstance(form, list):
        fits = isinstance(value, list | tuple)
        items = {f"{what}[{number}]": (item, form[0]) for number, item in enumerate(value)} if fits else {}
    elif isinstance(form, dict):
        fits = isinstance(value, dict)
        items = {f"{what}[{key!r}]": both for key, both in entries_of_form(value, form).items()} if fits else {}
    else:
        fits, items = isinstance(value, form) and not (isinstance(value, bool) and form is int), {}
    if not fits:
        raise UserError(f"{what} is {value!r:.200}, which kronlit does not write there: the file is damaged.")
    needed = [key for key in form if key is not ... and key[-1] != "?"] if isinstance(form, dict) else []
    for key in needed:
        if key not in value:
            raise UserError(f"{what} has no {key!r}, which kronlit writes there: the file is damaged.")
    for name, (item, its_form) in items.items():
        check_form(item, its_form, name)


def entries_of_form(value: dict[Any, Any], form: dict[str | EllipsisType, Form]) -> dict[Any, tuple[Any, Form]]:
    """Those of a dictionary's entries that have a form, with it."""
    named = {str(key).removesuffix("?"): its for key, its in form.items() if key is not ...}
    found = {key: (item, named.get(key, form.get(...))) for key, item in value.items()}
    return {key: (item, its) for key, (item, its) in found.items() if its is not None}
