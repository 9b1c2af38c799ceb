"""A study with what its search chose."""

from dataclasses import replace
from pathlib import Path

from kronlit.studies.study import Options, Study
from kronlit.studies.tuned import read_tuned


def tuned_study(study: Study, root: Path) -> Study:
    """The study with the chosen point of each cell laid over its settings. Without a search it stays as it is."""
    for cell in read_tuned(root) if study.tune else []:
        if cell.method in study.methods and cell.task in study.tasks:
            study = laid_over(study, cell.method, cell.task, cell.chosen)
    return study


def laid_over(study: Study, method: str, task: str, options: Options) -> Study:
    """The study with further options for a method on a task, which win."""
    row = study.cells.get(method, {})
    before = row.get(task, [])
    both = [*(before if isinstance(before, list) else [before]), options]
    return replace(study, cells=study.cells | {method: row | {task: both}})


def without_choice(study: Study, root: Path) -> set[tuple[str, str]]:
    """The cells of a tuned study, as (method, task), for which no point has been chosen."""
    if study.tune is None:
        return set()
    chosen = {(cell.method, cell.task) for cell in read_tuned(root) if cell.chosen}
    return {(method, task) for method in study.methods for task in study.tasks} - chosen
