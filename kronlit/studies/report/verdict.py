"""Says in one sentence what a study found."""

from kronlit.studies.report.standing import LEVEL, Standing, least_is_best
from kronlit.studies.report.table import AVERAGE, Row
from kronlit.studies.study import Study


def verdict(study: Study, rows: list[Row], found: dict[str, Standing], baseline: str | None, metric: str | None) -> str:
    """Which row is best, at what, by how much, and whether that is more than chance.

    Args:
        study: the study.
        rows: the rows of its table.
        found: how they stand in each column.
        baseline: the row that all are compared with.
        metric: a score that is reported instead of the study's own.
    """
    column = AVERAGE if AVERAGE in found and found[AVERAGE].best else next((c for c in found if found[c].best), None)
    if column is None:
        return "No run has a score yet, so there is nothing to compare."
    means = {row.name: row.cells[column].mean for row in rows}
    scores = {name: mean for name, mean in means.items() if mean is not None}
    name = "" if column == AVERAGE else metric or study.metric_of(column)
    where = f"on average over {len(study.tasks)} tasks" if column == AVERAGE else f"on {column}"
    one = found[column]
    top = scores[one.best[0]]
    mark = f"{'a mean' if column == AVERAGE else name} of {top:.2f}"
    if len(rows) == 1:
        return f"{one.best[0]} has {mark} {where}, and the study has no other method to compare it with."
    lacking = f"; {len(rows) - len(scores)} of {len(rows)} have no score there" if len(scores) < len(rows) else ""
    if len(scores) == 1:
        return f"{one.best[0]} has {mark} {where}, and no other method has a score there yet."
    if len(one.best) > 1:
        return f"{join(one.best)} are equal and best {where} with {mark}{lacking}."
    others = sorted((n for n in scores if n not in one.best), key=lambda n: scores[n], reverse=not least_is_best(name))
    compared = [(others[0], "the next")]
    if baseline is not None and baseline not in (others[0], *one.best):
        compared.append((baseline, "the baseline"))
    few = min(len(row.cells[column].scores) for row in rows if row.name in scores) < 2
    leads = [
        f"{abs(top - scores[n]):.2f} {'below' if least_is_best(name) else 'ahead of'} {n}, {role}"
        + ("" if few else f" ({chance(one, n)})")
        for n, role in compared
    ]
    text = f"{one.best[0]} is best {where} with {mark}, {' and '.join(leads)}{lacking}"
    if column == AVERAGE:
        alone = sum(one.best == found[task].best for task in study.tasks)
        text += f"; it leads on {alone} of the {len(study.tasks)} tasks"
    return text + ("; one seed is too few to say whether that is more than chance." if few else ".")


def chance(one: Standing, name: str) -> str:
    """Whether a row's distance to the best is more than chance, as far as that was tested."""
    if name not in one.p:
        return "whether that is more than chance cannot be told"
    p = one.p[name]
    said = f"{'significant' if p < LEVEL else 'not significant'} over {one.test}, {p_text(p)}"
    if one.test == "examples" and p < LEVEL and one.p_seeds.get(name, 0.0) >= LEVEL:
        said += f", but not over seeds, {p_text(one.p_seeds[name])}"
    return said


def p_text(p: float) -> str:
    """A p value with its letter."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def join(names: list[str]) -> str:
    """Names as in a sentence."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
