"""`kronlit methods`: what can be added to a model, where, and how much of it is trained. Its help needs no torch."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kronlit.cli.short_help import public_classes, table
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError

if TYPE_CHECKING:
    from kronlit.methods import Method

PLM = "A pre-trained model, as `model.plm`: an id of the hub, or a folder. Only its config.json is read."
WIDTH = 768
"""Of the layer that a method's placement is made on, to see its kind. Every method's defaults suit it."""


def methods_command(words: list[str]) -> None:
    """Run the words after `kronlit methods`."""
    parser = Parser(
        prog="kronlit methods",
        description="List the methods: what each adds, and where it goes by default. With `--plm`, how many parameters "
        "each trains on that model by default, the head of a task apart.",
    )
    parser.add_argument("--plm", type=str | None, help=PLM)
    with one_line():
        plm = parser.parse_args(words).plm
        print(list_methods() if plm is None else count_methods(plm))


def list_methods() -> str:
    """All methods, each with its idea and its placement."""
    ideas = {name: f"{idea} [{where(method())}]" for name, idea, method in methods()}
    return table(ideas) + (
        "\n\nThe options of one: kronlit fit --model SequenceClassification --model.method.help KronA"
        "\nWhat each trains on a model: kronlit methods --plm FacebookAI/roberta-base"
    )


def methods() -> Iterator[tuple[str, str, "type[Method]"]]:
    """Name, idea and class of every method of kronlit."""
    import kronlit.methods

    for name, idea in public_classes("methods").items():
        yield name, idea, getattr(kronlit.methods, name)


def where(method: "Method") -> str:
    """The placements of a method and their sites; of one that places nothing, which of the model's own it trains."""
    import torch
    from torch import nn

    with torch.device("meta"):
        places = [
            f"{type(insertion.placement(nn.Linear(WIDTH, WIDTH), WIDTH, WIDTH)).__name__} at "
            f"{', '.join(insertion.sites)}"
            for insertion in method.insertions()
        ]
    if places:
        return "; ".join(places)
    return f"no placement; trains {', '.join(method.trains)}" if method.trains else "no placement"


def meta_model(plm: str) -> Any:
    """The model of `plm` without weights, of the first job that its architecture has.

    Raises:
        ValueError: if it cannot be reached, or is of no such job.
    """
    import torch
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    from kronlit.cli.quiet import quieten
    from kronlit.modules.plm import load_config, load_model

    quieten()
    try:
        config = load_config(plm)
        jobs = [AutoModelForSeq2SeqLM] if config.is_encoder_decoder else [AutoModelForSequenceClassification]
        jobs += [AutoModelForImageClassification, AutoModelForCausalLM, AutoModel]
        kind = next((job for job in jobs if type(config) in job._model_mapping), AutoModel)
        with torch.device("meta"):
            return load_model(kind, plm)[0]
    except UserError as error:
        raise UserError(str(error).replace("`model.plm`", "`plm`")) from error


def count_methods(plm: str) -> str:
    """A table of what every method trains on a model by its defaults, without the head of a task."""
    from kronlit.adapters import parameter_counts

    model = meta_model(plm)
    lines = [("method", "trained", "per cent", "where")]
    for name, _, kind in methods():
        method: Any = kind()
        method = replace(method, trains=tuple(group for group in method.trains if group != "head"))
        changed = copy.deepcopy(model)
        try:
            method.apply(changed)
        except ValueError as error:
            lines.append((name, "-", "-", str(error)))
            continue
        trained, total = parameter_counts(changed)
        lines.append((name, f"{trained:,}", f"{100 * trained / total:.4f}", where(method)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in lines)
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"{plm}, a {type(model).__name__} of {total:,} parameters\n\n" + "\n".join(rows)
