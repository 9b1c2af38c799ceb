"""Says what a comparison is worth in which no method has a learning rate of its own."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.studies.plan import config_content, setting_words
from kronlit.studies.study import Setting, Study

NOTE = (
    "All methods share learning rates that were tuned for none of them: the table ranks how well the rate suits each, "
    "not the methods. Give each its own, or search for it with `tune`."
)


def untuned_note(study: Study) -> str | None:
    """One line if a study of several methods neither searches the rate of each nor gives each its own; else `None`."""
    if len(study.methods) < 2 or all(has_rate(study, method) for method in study.methods):
        return None
    return NOTE


def has_rate(study: Study, method: str) -> bool:
    """Whether a method has a learning rate of its own, from its settings or cells, or from a grid."""
    grid = study.grid_of(method)
    searched = study.select != "none" and any(is_rate(name) and len(values) > 1 for name, values in grid.items())
    own: list[Setting] = [study.methods[method]] if isinstance(study.methods, dict) else []
    every_task = [study.cells.get(method, {}).get(task, []) for task in study.tasks]
    return (
        searched
        or any(is_rate(name) for name in study.method_grid.get(method, {}))
        or any(sets_rate(one) for one in own)
        or all(sets_rate(one) for one in every_task)
    )


def sets_rate(setting: Setting) -> bool:
    """Whether a setting sets a learning rate, by its options or in a config file that can still be read."""
    words = list(setting_words(setting))
    for word, following in pairwise(words):
        if word == "--config":
            try:
                content = config_content(following)
            except UserError:  # a report may be written elsewhere
                continue
            if any(map(is_rate, option_names(content))):
                return True
        elif word.startswith("--") and is_rate(word[2:]):
            return True
    return False


def is_rate(option: str) -> bool:
    """Whether an option is the model's learning rate."""
    return option.replace(".init_args", "") == "model.lr"


def option_names(content: Any, before: str = "") -> Iterator[str]:
    """The names of all options in a config."""
    for key, value in content.items() if isinstance(content, dict) else ():
        name = f"{before}.{key}" if before else str(key)
        yield name
        yield from option_names(value, name)
