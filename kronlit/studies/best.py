"""What a search leaves for people: its table of trials, `best.yaml`, and a picture of score over rate."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml

from kronlit.studies.cell_search import key
from kronlit.studies.plan import point_name
from kronlit.studies.result import write_whole
from kronlit.studies.tune import Options, is_number
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


def draw_scores(root: Path, cell: TunedCell) -> tuple[str, Path] | None:
    """Draw the scores over the first option of numbers; `None` without one, or without matplotlib."""
    option = next((option for option, values in cell.search.items() if all(map(is_number, values))), None)
    if option is None or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for status, style in (("done", "o-"), ("stopped", "o")):
        some = sorted(
            (t.point[option], 100 * t.score) for t in cell.trials if t.status == status and t.score is not None
        )
        line = style if len(cell.search) == 1 else "o"
        label = "whole run" if status == "done" else "stopped early"
        fill = None if status == "done" else "none"
        axes.plot([x for x, _ in some], [y for _, y in some], line, color="C0", markerfacecolor=fill, label=label)
    for trial in cell.trials:
        if trial.status == "failed":
            axes.axvline(trial.point[option], color="0.8", zorder=0)
    axes.axvline(cell.chosen[option], color="C1", linewidth=1, zorder=0, label="chosen")
    if all(value > 0 for value in cell.search[option]):
        axes.set_xscale("log")
    axes.set_xlabel(option)
    axes.set_ylabel(f"100 {cell.select_by}")
    axes.legend(frameon=False)
    path = root / "scores.png"
    figure.savefig(path, dpi=150)
    return option, path
