"""What a reader must know beside the numbers: model, data, rows, chance level, settings, seeds, versions, machine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kronlit.studies.report.table import AVERAGE, Row
from kronlit.studies.result import Result
from kronlit.studies.study import Options, Study
from kronlit.studies.tuned import TunedCell

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SHOWN = ("model.", "data.", "trainer.max_", "trainer.precision", "trainer.gradient_clip", "trainer.accumulate")
"""The settings that a reader looks for; the rest of a config is Lightning's own."""


@dataclass(frozen=True)
class Setting:
    """The settings of a row's runs on a task, flat, by their names on the command line."""

    row: str
    task: str
    values: Options


Facts = list[tuple[str, str]]
"""Names and texts, in the order in which they are shown."""


def facts(study: Study, rows: list[Row], settings: list[Setting], tuned: list[TunedCell], metric: str | None) -> Facts:
    """What the box of a report holds. What old runs did not record is left out."""
    results = [result for row in rows for result in row.results]
    found: Facts = [
        *common_facts(settings),
        ("Rows", "; ".join(by_task(study, rows, row_text))),
        ("Chance level", chance_text(study, rows, metric)),
        ("Seeds", ", ".join(map(str, study.seeds))),
        ("Tuning", tuning(study, tuned)),
        ("Versions", "; ".join(versions(results))),
        ("Machine", "; ".join(dict.fromkeys(filter(None, map(machine_text, results))))),
        ("Trained", dates(results)),
        ("Revision", ", ".join(dict.fromkeys(result.revision for result in results if result.revision))),
    ]
    return [(name, text) for name, text in found if text]


def read_settings(root: Path, rows: list[Row]) -> list[Setting]:
    """The settings of each cell, from the config.yaml of its first run. A run without that has none."""
    found = []
    for row in rows:
        for task, cell in row.cells.items():
            for seed, result in list(cell.results.items())[:1]:
                path = root / cell.runs[seed].folder / str(result.fit) / "config.yaml"
                if path.is_file():
                    content = yaml.load(path.read_text(encoding="utf-8"), LOADER)
                    found.append(Setting(row.name, task, dict(flat(content if isinstance(content, dict) else {}))))
    return found


def flat(content: Options, before: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a config by their names on the command line, without `init_args`; a class is its own option."""
    for key, value in content.items():
        name = before if key in ("class_path", "init_args") else f"{before}.{key}" if before else key
        if isinstance(value, dict) and value:
            yield from flat(value, name)
        elif key == "class_path":
            yield name, str(value).rpartition(".")[2]
        else:
            yield name, value


def common_facts(settings: list[Setting]) -> Facts:
    """Model, data and hyperparameters that all runs share."""
    if not settings:
        return []
    shown = [name for name in all_names(settings) if name.startswith(SHOWN) or name in ("model", "data")]
    same = {name: values[0] for name in shown if len(values := distinct(settings, name)) == 1}
    models = ", ".join(text(value) for name in ("model.plm", "model") for value in distinct(settings, name))
    data = ", ".join(text(value) for value in distinct(settings, "data"))
    named = ("model", "model.plm", "data")
    rest = {name: value for name, value in same.items() if name not in named and value not in (None, False, "", [], -1)}
    listed = {part: settings_text(rest, part) for part in ("data.", "model.", "trainer.")}
    hyper = ", ".join(filter(None, (listed["model."], listed["trainer."])))
    return [
        ("Model", models),
        ("Data", data + (f" ({listed['data.']})" if listed["data."] else "")),
        ("Shared settings", hyper),
    ]


def settings_text(values: Options, part: str) -> str:
    """Those settings whose names begin with `part`."""
    return ", ".join(
        f"{name.removeprefix(part)} {text(value)}" for name, value in values.items() if name.startswith(part)
    )


def differing(settings: list[Setting]) -> tuple[list[str], list[list[str]]]:
    """Names of the shown settings in which rows differ on some task, and for each row its values."""
    rows = list(dict.fromkeys(one.row for one in settings))
    names = []
    for name in all_names(settings):
        if name.startswith(SHOWN) and len(distinct(settings, name)) > 1:
            tasks = {one.task for one in settings}
            per_task = [distinct([one for one in settings if one.task == task], name) for task in tasks]
            if any(len(values) > 1 for values in per_task):
                names.append(name)
    lines = []
    for row in rows:
        own = [one for one in settings if one.row == row]
        values = {name: distinct(own, name) for name in names}
        lines.append([row, *(" or ".join(map(text, values[name])) for name in names)])
    return names, lines


def all_names(settings: Iterable[Setting]) -> list[str]:
    """The names of all settings, each once."""
    return list(dict.fromkeys(name for one in settings for name in one.values))


def distinct(settings: Iterable[Setting], name: str) -> list[Any]:
    """The different values of a setting; `None` if some run does not have it."""
    found: list[Any] = []
    for one in settings:
        if (value := one.values.get(name)) not in found:
            found.append(value)
    return found


def text(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(map(text, value)) or "none"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def by_task(study: Study, rows: list[Row], describe: Any) -> list[str]:
    """What `describe` says of each task's runs; without the task's name where all say the same."""
    said = {}
    for task in study.tasks:
        texts = [describe(result) for row in rows for result in row.cells[task].results.values()]
        said[task] = " or ".join(dict.fromkeys(filter(None, texts)))
    known = {task: each for task, each in said.items() if each}
    if len(set(said.values())) == 1:
        return list(known.values())[:1]
    return [f"{task}: {each}" for task, each in known.items()]


def row_text(result: Result) -> str:
    """The numbers of rows of a run."""
    counts = (result.summary or {}).get("rows", {})
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def chance_of(study: Study, rows: list[Row], metric: str | None) -> dict[str, float]:
    """By task the chance level of the reported score, times 100, where a run has recorded it."""
    found = {}
    for task in study.tasks:
        name = metric or study.metric_of(task)
        summaries = [result.summary or {} for row in rows for result in row.cells[task].results.values()]
        levels = [100 * each["chance"][name] for each in summaries if name in each.get("chance", {})]
        if levels:
            found[task] = levels[0]
    if len(study.tasks) > 1 and len(found) == len(study.tasks):
        found[AVERAGE] = sum(found.values()) / len(found)
    return found


def chance_text(study: Study, rows: list[Row], metric: str | None) -> str:
    """The chance levels, and what they are."""
    levels = chance_of(study, rows, metric)
    if not levels:
        return ""
    listed = [f"{level:.2f}" if len(study.tasks) == 1 else f"{task} {level:.2f}" for task, level in levels.items()]
    return f"{', '.join(listed)}: what the best constant answer scores"


def tuning(study: Study, tuned: list[TunedCell]) -> str:
    """How the settings were selected."""
    if tuned:
        counts = sorted({len(cell.trials) for cell in tuned})
        many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        options = ", ".join(dict.fromkeys(option for cell in tuned for option in cell.search))
        seeds = sorted({seed for cell in tuned for seed in cell.seeds})
        own = "none of which is a seed of the table" if not set(seeds) & set(study.seeds) else "also in the table"
        selected = " or ".join(dict.fromkeys(cell.select_by for cell in tuned))
        return (
            f"{options} searched for each method and task with {many} trials each, selected by {selected}; seeds of "
            f"the search {', '.join(map(str, seeds))}, {own}"
        )
    if study.select != "none":
        options = ", ".join(dict.fromkeys(option for method in study.methods for option in study.grid_of(method)))
        scope = "seed" if study.select == "per_seed" else "method and task"
        return f"grid over {options}; for each {scope} the best {study.select_by} counts"
    return "nothing was searched for"


def versions(results: list[Result]) -> list[str]:
    """The versions of kronlit and its packages, each set once."""
    each = [(result.summary or {}).get("versions", {}) for result in results]
    return list(dict.fromkeys(", ".join(f"{name} {version}" for name, version in one.items()) for one in each if one))


def machine_text(result: Result) -> str:
    """On what a run trained."""
    one = (result.summary or {}).get("machine", {})
    if not one:
        return ""
    device = "" if one["device"] == "cpu" else f"{one['device']}, "
    cores, threads = (f"{one[n]} {n if one[n] != 1 else n[:-1]}" for n in ("cores", "threads"))
    return f"{device}{one['processor']}, {cores}, {threads} a run, {one['system']}"


def dates(results: list[Result]) -> str:
    """From when to when the runs trained."""
    ends = sorted(str(end)[:10] for r in results if (end := r.ended or (r.summary or {}).get("date")))
    return " to ".join(dict.fromkeys([ends[0], ends[-1]])) if ends else ""
