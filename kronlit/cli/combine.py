"""`kronlit combine`: one adapter of several. Its help needs no torch."""

from typing import TYPE_CHECKING, Any

from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError
from kronlit.exchange.combine.how import How

if TYPE_CHECKING:
    from kronlit.exchange.combine.combination import Combination
    from kronlit.exchange.combine.weights import Weights


def combine_command(words: list[str]) -> None:
    """Run the words after `kronlit combine`."""
    parser = Parser(
        prog="kronlit combine",
        description="Write the weighted sum of adapters for one model as one adapter. They may be of any structures "
        "that merge; each is kept, and no change of a weight is formed. Heads of the same classes are averaged.",
    )
    parser.add_argument(
        "adapters", type=str, nargs="+", help="Their folders, or ids on the hub, kronlit's or PEFT's; or runs."
    )
    parser.add_argument("--output", type=str, required=True, help="The folder to write; it must not exist.")
    parser.add_argument(
        "--weights",
        type=str,
        nargs="+",
        default=["uniform"],
        help="uniform; a number for each adapter; or a .yaml or .json file with a list that has, for each adapter, a "
        "number or a list of numbers, one a layer.",
    )
    parser.add_argument(
        "--how",
        type=How,
        default="cat",
        help="cat: the sum itself. The others are named as PEFT's `combination_type`, and thin the changes out first: "
        "of LoRAs of one rank each factor by itself; with _svd, and of other structures, the whole ΔW, which is then "
        "kept as it is, or with `rank` as a product of two thin matrices.",
    )
    parser.add_argument("--density", type=float | None, help="The share of the entries that is kept, not for cat.")
    parser.add_argument("--rank", type=int | None, help="The rank of what is kept of a ΔW, not for cat.")
    parser.add_argument("--seed", type=int, default=42, help="Seed of what dare draws.")
    parser.add_argument(
        "--few",
        type=str | None,
        help="A file of a few labelled rows: the weights are those with the least loss on them (LoraHub).",
    )
    parser.add_argument("--config", type=str | None, help="For `few`: the YAML of a fit that reads such rows.")
    parser.add_argument("--steps", type=int, default=40, help="For `few`: how often the rows are read at most.")
    parser.add_argument("--penalty", type=float, default=0.05, help="For `few`: of the mean size of the weights.")
    with one_line():
        config = parser.parse_args(words)
        from kronlit.cli.quiet import quieten
        from kronlit.exchange.combine.write import Pruning, combine_adapters

        quieten()
        search = few_search(config) if config.few is not None else None
        if config.few is None and config.config is not None:
            raise UserError(f"`config`={config.config!r} says how the rows of `few` are read: give that too.")
        pruning = Pruning(config.how, config.density, config.rank, config.seed)
        combine_adapters(config.adapters, config.output, config.weights, pruning, search)


def few_search(config: Any) -> Any:
    """What searches the weights on the rows of a file."""
    if config.config is None:
        raise UserError(f"`few`={config.few!r} needs the YAML of a fit that reads such rows: give it as `config`.")
    if config.weights != ["uniform"] or config.how != "cat":
        raise UserError("`few` searches the weights of the plain sum: leave out `weights` and `how`.")
    if config.steps < 1:
        raise UserError(f"`steps`={config.steps} must be at least 1.")
    if not 0 <= config.penalty < float("inf"):
        raise UserError(f"`penalty`={config.penalty} must be a number from 0 up.")
    from pathlib import Path

    if not Path(config.few).is_file():
        raise UserError(f"`few`={config.few!r} is no file.")
    from kronlit.cli.configs import fit_config
    from kronlit.config.instances import instance
    from kronlit.data import TaskData
    from kronlit.exchange.combine.few import check_own_rows, few_batches, search_weights
    from kronlit.exchange.saved_run import module_from_config, section
    from kronlit.studies.retired import current_words

    whole = fit_config(current_words(["--config", config.config]))
    of_data = section(whole, "data")
    named = next((kind for kind in kinds(TaskData) if of_data["class_path"].endswith(f".{kind.__name__}")), TaskData)
    check_own_rows(named)
    task = instance(TaskData, of_data, "data", {}).task
    arguments = (of_data.get("init_args") or {}) | {"train": config.few, "validation": config.few, "test": None}
    if task.labels:
        arguments["labels"] = list(task.labels)  # a few rows need not have all
    data: TaskData = instance(TaskData, of_data | {"init_args": arguments}, "data", {})
    module = module_from_config(whole, data.task)

    def search(combination: "Combination") -> "Weights":
        module.model = combination.model
        return search_weights(combination, module, few_batches(module, data), config.steps, config.penalty)

    return search


def kinds(base: type[Any]) -> list[type[Any]]:
    """All subclasses of `base`."""
    return [each for kind in base.__subclasses__() for each in (kind, *kinds(kind))]
