"""What a search leaves for people: its table of trials, `best.yaml`, and a picture of score over rate."""

from pathlib import Path
from typing import Any

import yaml

from kronlit.studies.cell_search import key
from kronlit.studies.plan import point_name
from kronlit.studies.report.figures import search_figure
from kronlit.studies.report.page import picture
from kronlit.studies.result import write_whole
from kronlit.studies.tune import Options
from kronlit.studies.tuned import Trial, TunedCell


def ordered(cell: TunedCell) -> list[Trial]:
    """The trials: the chosen one first, those that trained longer before others, then by their scores."""
    sign = 1 if cell.select_mode == "max" else -1

    def place(trial: Trial) -> tuple[bool, float, float]:
        score = trial.score
        return trial.point == cell.chosen, trial.epochs, float("-inf") if score is None else sign * score

    return sorted(cell.trials, key=place, reverse=True)


def trial_table(cell: TunedCell, own: Options) -> str:
    """The trials as lines of text, the best first."""
    lines = [("", cell.select_by, "epochs", "")]
    for trial in ordered(cell):
        marks = ["best"] * (trial.point == cell.chosen) + ["the config's own"] * (trial.point == own)
        notes = ", ".join([*marks, *([trial.status] if trial.status != "done" else [])])
        score = "" if trial.score is None else f"{100 * trial.score:.2f}"
        lines.append((point_name(trial.point), score, f"{trial.epochs:g} of {trial.of:g}", notes))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(
        f"{line[0]:{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]}".rstrip() for line in lines
    )


def write_best(root: Path, cell: TunedCell, own: Options, command: str) -> Path:
    """Write the chosen options to `best.yaml`, to be laid over the config, and return its path."""
    scores = {key(trial.point): trial.score for trial in cell.trials if trial.score is not None}
    best, before = (f"{scores[key(at)]:.6g}" if key(at) in scores else "none" for at in (cell.chosen, own))
    content: dict[str, Any] = {}
    for option, value in cell.chosen.items():
        *above, last = option.replace("init_args.", "").split(".")
        inner = content
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = value
    lines = [
        f"Found by: {' '.join(command.split())}",
        f"{cell.select_by}, mean over seeds {cell.seeds}: {best}; of the config's own {point_name(own)}: {before}",
        *(f"{option} lies at the edge of what was tried; a better value may lie outside." for option in cell.edge),
    ]
    text = "".join(f"# {line}\n" for line in lines)
    path = root / "best.yaml"
    write_whole(path, text + yaml.safe_dump(content, sort_keys=False))
    return path


def draw_scores(root: Path, cell: TunedCell) -> Path | None:
    """Draw the score over the learning rate, or what else was searched, to `scores.svg`; `None` without numbers."""
    figure = search_figure([cell], [])
    if not figure.panels:
        return None
    path = root / "scores.svg"
    write_whole(path, picture(figure))
    return path
