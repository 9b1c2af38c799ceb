"""Draws the points of a search by Optuna's TPE, and stops them at rungs by its successive halving.

Nothing is stored: the draws depend on the seed and on the scores alone. So a search that was killed draws the same
points again, finds their scores in the folders of its runs, and goes on.
"""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kronlit.config.user_error import UserError
from kronlit.studies.tune import OPTUNA_TRIALS, Options, round_off

if TYPE_CHECKING:
    from kronlit.studies.cell_search import CellSearch, Step

BATCH = 4
"""Points that are drawn together, and so can train at the same time; the same on every machine."""


def check_optuna() -> None:
    """Raise `ValueError` if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("`tune.sampler`='optuna' needs optuna, which is missing: pip install 'kronlit[tune]'.")


def optuna_steps(cell: "CellSearch") -> Iterator[list["Step"]]:
    """The steps of a search whose points Optuna draws, as `CellSearch.steps`."""
    import optuna

    from kronlit.studies.cell_search import Step, rungs

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials, halving = cell.tune.trials or OPTUNA_TRIALS, cell.tune.halving
    epochs = rungs(cell.epochs, halving, trials)
    pruner = optuna.pruners.SuccessiveHalvingPruner(epochs[0], halving) if halving > 1 else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=min(10, max(2, trials // 2)))
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    if cell.own.keys() >= cell.values.keys():
        study.enqueue_trial({option: cell.own[option] for option in cell.values})
    for start in range(0, trials, BATCH):
        asked = [study.ask() for _ in range(min(BATCH, trials - start))]
        drawn = [(trial, draw(trial, cell)) for trial in asked]
        cell.points += [point for number, (_, point) in enumerate(drawn) if is_new(cell, drawn[:number], point)]
        for rung in epochs:
            if drawn:
                yield [Step(point, rung) for _, point in drawn]
            drawn = after_rung(study, cell, drawn, rung)


def after_rung(
    study: Any, cell: "CellSearch", drawn: list[tuple[Any, Options]], rung: int
) -> list[tuple[Any, Options]]:
    """Tell Optuna the scores after a rung, and return the trials that train on."""
    import optuna

    from kronlit.studies.cell_search import key

    failed = [(trial, point) for trial, point in drawn if key(point) in cell.failed]
    for trial, _ in failed:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    drawn = [each for each in drawn if each not in failed]
    for trial, point in drawn:
        if rung == cell.epochs:
            study.tell(trial, cell.rank(point, rung)[0])
        else:
            trial.report(cell.rank(point, rung)[0], rung)
    if rung == cell.epochs:
        return []
    kept = [(trial, point) for trial, point in drawn if point == cell.own or not trial.should_prune()]
    for trial, _ in [each for each in drawn if each not in kept]:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return kept


def is_new(cell: "CellSearch", before: list[tuple[Any, Options]], point: Options) -> bool:
    """Whether a point was not drawn before."""
    return point not in cell.points and point not in [other for _, other in before]


def draw(trial: Any, cell: "CellSearch") -> Options:
    """Let Optuna draw the value of each option; the names of folders stay short by four digits."""
    point = {}
    for option, some in cell.values.items():
        if isinstance(some, list):
            point[option] = trial.suggest_categorical(option, some)
            continue
        low, high, log = some["low"], some["high"], some.get("log", True)
        if isinstance(low, int) and isinstance(high, int):
            point[option] = trial.suggest_int(option, low, high, log=log)
        else:
            value = trial.suggest_float(option, low, high, log=log)
            point[option] = value if value == cell.own.get(option) else round_off(value)
    return point
