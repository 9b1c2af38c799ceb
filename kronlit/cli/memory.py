"""`kronlit memory`: what a fit would take in memory, told without its weights. Its help needs no torch."""

import re
from typing import TYPE_CHECKING, Any, Literal

from kronlit.cli.rows import split_words
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError

if TYPE_CHECKING:
    from kronlit.training.memory import Memory

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
RESERVED = 2**30
"""Bytes of a card that are left to its driver and to gaps between tensors: a guess, as no card was measured."""


def memory_command(words: list[str]) -> None:
    """Run the words after `kronlit memory`."""
    parser = Parser(
        prog="kronlit memory",
        usage="kronlit memory --config FILE.yaml ...",
        description="Say what a step of a `kronlit fit` takes in memory, with rows of `model.max_length` tokens and "
        "`data.batch_size` of them. No weight is loaded: the step is taken on tensors that have shapes alone. It takes "
        "all options of `kronlit fit`, and reads the model's config.json and tokenizer.",
    )
    parser.add_argument("--card", type=str | None, help="Memory of a device, such as 24GB: also says the batch for it.")
    parser.add_argument(
        "--kernels",
        type=Literal["cpu", "cuda"] | None,
        help="Whose kernels compute; by default cuda where there is a `card` or a GPU.",
    )
    with one_line():
        own, rest = split_words(words, ("--card", "--kernels"))
        config = parser.parse_args(own)
        card = None if config.card is None else card_bytes(config.card)
        from kronlit.cli.configs import fit_config
        from kronlit.studies.retired import current_words

        print(tell(fit_config(current_words(rest)), card, config.kernels))


def card_bytes(text: str) -> int:
    """The bytes of a size such as 24GB, of which a GB has 2^30, as on cards.

    Raises:
        UserError: if it is none, or leaves nothing beside `RESERVED`.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([KMGT]?)(i?B)?", text, re.IGNORECASE)
    if not found or not (found[2] or found[3]):
        raise UserError(f"`card`={text!r} is no size of a memory: write a number and its unit, such as 24GB.")
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if size <= RESERVED:
        raise UserError(f"`card`={text!r} must be more than {in_units(RESERVED)}, which its driver takes.")
    return size


def tell(config: dict[str, Any], card: int | None, kernels: str | None) -> str:
    """What a fit of a config takes, in lines.

    Args:
        config: the config of the fit, with all defaults.
        card: bytes of a card, whose batch is wanted.
        kernels: cpu, cuda, or by default what the machine has.
    """
    import torch

    from kronlit.config.instances import instance
    from kronlit.data import TaskData
    from kronlit.exchange.saved_run import module_from_config, section
    from kronlit.training.made_up_rows import made_up_batch
    from kronlit.training.memory import MOST, on_each, step_memory, unloaded
    from kronlit.training.strategies import WORK, check_precision_name

    if config.get("below"):
        raise UserError(f"`below`={config['below']!r} is not counted by `kronlit memory`: leave it out.")
    trainer = config["trainer"]
    strategy, devices = trainer["strategy"], trainer["devices"]
    precision = str(trainer["precision"] or "32-true")
    check_precision_name(precision)
    precision = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}.get(precision, precision)
    if strategy not in WORK:
        raise UserError(f"`trainer.strategy`={strategy!r}: memory is told for {', '.join(WORK)}.")
    data: TaskData = instance(TaskData, section(config, "data"), "data", {})
    module = module_from_config(config, data.task)
    here = int(devices) if str(devices).isdigit() else 2
    several = max(here, 2)
    cuda = kernels == "cuda" or (kernels is None and (card is not None or torch.cuda.is_available()))
    length, packed = getattr(module, "max_length", None), getattr(data, "packing", False)
    rows = max(data.max_tokens // length, 1) if data.max_tokens and length else data.batch_size
    fake = unloaded(module, precision)
    assert module.model is not None
    model = module.model

    def memory(rows: int) -> "Memory":
        return step_memory(module, fake, made_up_batch(module, rows, packed), precision, cuda)

    alone = memory(rows)
    columns = {"one device": alone}
    for name in ("ddp", "ddp_sharded"):
        columns[f"{name}, each of {several}"] = on_each(alone, model, name, several)
    unit = "sequences" if packed else "rows"
    tokens = f" of {length} tokens" if length else ""
    lines = [
        f"{type(module.method).__name__} on {module.plm}, a {type(model).__name__}",
        f"a step of {rows} {unit}{tokens}, {precision}, {module.optimizer}, kernels of "
        f"{'a GPU' if cuda else 'a CPU'}, without what the process itself takes",
        "",
        *table(columns),
    ]
    if card is not None:
        batch = largest(lambda rows: on_each(memory(rows), model, strategy, here).total, card)
        where = "" if strategy == "auto" else f" under {strategy} with {here} devices"
        more = " or more" if batch == MOST else ""
        said = f"{batch}{more} {unit}{tokens}" if batch else f"none: one row{tokens} takes more"
        lines += ["", f"largest batch on a card of {in_units(card)}{where}, {in_units(RESERVED)} left free: {said}"]
    return "\n".join(lines)


def largest(total: Any, card: int) -> int:
    """The largest batch on a card."""
    from kronlit.training.memory import largest_batch

    return largest_batch(total, card - RESERVED)


def table(columns: dict[str, "Memory"]) -> list[str]:
    """The parts of each memory as a table in lines."""
    names = ("weights", "gradients", "optimizer", "activations", "total")
    width = max(map(len, columns))
    lines = [" " * 12 + "".join(f"  {column:>{width}}" for column in columns)]
    for name in names:
        lines.append(f"{name:12}" + "".join(f"  {in_units(getattr(each, name)):>{width}}" for each in columns.values()))
    return lines


def in_units(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= (full := UNITS[unit[0]]):
            return f"{size / full:.2f} {unit}"
    return f"{size} B"
