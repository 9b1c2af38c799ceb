"""What the comparison of a study's methods is worth, as far as their learning rates go."""

from kronlit.studies.given import given_value
from kronlit.studies.plan import plan, setting_words
from kronlit.studies.study import Study

RATE = "model.lr"


def worth(study: Study) -> str | None:
    """A line on a study that trains all its methods at one learning rate; `None` if each has its own or it is tuned."""
    if study.tune or len(study.methods) < 2 or all(has_own_rate(study, method) for method in study.methods):
        return None
    rates: dict[str, set[object]] = {}
    for run in plan(study):
        rates.setdefault(run.task, set()).add(given_value(run.words, RATE))
    if any(len(each) > 1 for each in rates.values()):
        return None
    found = set().union(*rates.values())
    rate = "one default rate" if found == {None} else f"{RATE}={next(iter(found))}" if len(found) == 1 else "one rate"
    return (
        f"all methods train at {rate}{' on each task' if len(found) > 1 else ''}: the table compares how well that "
        "rate suits each, not the methods; `tune:` searches a rate for each."
    )


def has_own_rate(study: Study, method: str) -> bool:
    """Whether a method's own settings, or values of a grid to choose from, set its learning rate."""
    if RATE in study.method_grid.get(method, {}) or len(study.grid.get(RATE, [])) > 1:
        return True
    own = [study.methods[method]] if isinstance(study.methods, dict) else []
    settings = [*own, *study.cells.get(method, {}).values()]
    return any(given_value(list(setting_words(setting)), RATE) is not None for setting in settings)
