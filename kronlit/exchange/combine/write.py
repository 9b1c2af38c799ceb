"""`kronlit combine`: writes the weighted sum of several adapters as one adapter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import torch
import yaml

from kronlit.adapters import Delta, parameter_counts
from kronlit.adapters.sites import layer_of
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import config_of, write_adapter
from kronlit.exchange.combine.combination import Combination
from kronlit.exchange.combine.how import How
from kronlit.exchange.combine.member import AdapterFile, at_modules, delta_of, open_file, read_member
from kronlit.exchange.combine.pruned import mix, mix_factors
from kronlit.exchange.combine.weights import Weights, mean, read_weights
from kronlit.exchange.model_card import adapter_card
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.peft.truncated import truncate
from kronlit.methods import HeadOnly, Method, Structured
from kronlit.methods.base import Group
from kronlit.methods.combined import Combined
from kronlit.methods.written import to_plain
from kronlit.structured import Dense, LowRank

METHOD = "method.yaml"
"""A YAML for `kronlit fit`, beside the adapter: with it and `--init_adapter`, training goes on from the sum."""


@dataclass(frozen=True)
class Pruning:
    """How the changes are thinned out before they are added.

    Args:
        how: one of PEFT's names, or cat for the plain sum.
        density: the share of entries that is kept.
        rank: that of what is kept of the result, where it is formed as a dense matrix.
        seed: of what is drawn.
    """

    how: How = "cat"
    density: float | None = None
    rank: int | None = None
    seed: int = 42

    def check(self) -> None:
        """Raise `ValueError` unless the arguments go together."""
        if self.how == "cat":
            for name, value in (("density", self.density), ("rank", self.rank)):
                if value is not None:
                    raise UserError(f"`{name}`={value} is not for the plain sum: give a `how` such as ties.")
        elif self.density is None:
            raise UserError(f"`how`={self.how!r} keeps a share of the entries: give it as `density`, such as 0.5.")
        elif not 0 < self.density <= 1:
            raise UserError(f"`density`={self.density} must be a share, above 0 and at most 1.")
        if self.rank is not None and self.rank < 1:
            raise UserError(f"`rank`={self.rank} must be at least 1.")


def combine_adapters(
    sources: Sequence[str],
    output: str,
    weights: Sequence[str] = ("uniform",),
    pruning: Pruning | None = None,
    search: Callable[[Combination], Weights] | None = None,
) -> None:
    """Write the weighted sum of adapters as one adapter, and print its weights and form.

    Args:
        sources: their folders, or ids on the hub, or runs.
        output: the folder to write.
        weights: as in `read_weights`.
        pruning: how the changes are thinned out first; by default they are not.
        search: finds the weights in place of `weights`.

    Raises:
        ValueError: if adapters are of different models or classes, or one does not merge.
    """
    check_new(output)
    pruning = pruning or Pruning()
    pruning.check()
    if len(sources) < 2:
        raise UserError(f"`adapters`={' '.join(sources)} must name two or more.")
    with TemporaryDirectory() as scratch:
        files = [open_file(source, Path(mkdtemp(dir=scratch))) for source in sources]
        check_labels(files)
        model, fresh = files[0].plain_model()
        model.requires_grad_(False)
        combination = Combination(model, [read_member(file, model, files[0].source) for file in files], fresh)
    if search is None:
        chosen = read_weights(weights, len(files), combination.layers)
    trains = trained_groups(files)
    if pruning.how == "cat" or not combination.modules:  # without a ΔW there is nothing to thin out
        combination.place_sums()
        if search is not None:
            chosen = search(combination)
        combination.set_weights(chosen)
        parts = tuple(part for member in combination.members for part in member.parts)
        method: Method = Combined(parts, trains) if parts else HeadOnly(trains)
        form = "the sum of all structures, exactly" if parts else "the model's own parameters, as nothing was added"
    else:
        structured, form = place_pruned(combination, chosen, pruning)
        method = replace(structured, trains=trains)
        combination.set_own(chosen)
    write(combination, method, files, output, chosen, form)


def trained_groups(files: Sequence[AdapterFile]) -> tuple[Group, ...]:
    """What the adapters train of the model itself."""
    each = [("head",) if file.config is None else file.config.method.trains for file in files]
    return tuple(dict.fromkeys(group for groups in each for group in groups))


def check_labels(files: Sequence[AdapterFile]) -> None:
    """Raise `ValueError` unless the classifiers among the adapters have the same classes, in any order."""
    named = [(file, file.labels) for file in files if is_classifier(file) and file.labels]
    for file, labels in named[1:]:
        first, theirs = named[0]
        if set(labels) != set(theirs):
            raise UserError(
                f"`adapters`: {first.source!r} has a head for {', '.join(theirs)}, and {file.source!r} one for "
                f"{', '.join(labels)}: heads of other labels cannot be averaged."
            )


def is_classifier(file: AdapterFile) -> bool:
    """Whether an adapter has a head whose outputs are its classes."""
    if file.config is not None:
        return "Classification" in file.config.model_class
    return str(file.content.get("task_type")).endswith("_CLS")


def place_pruned(combination: Combination, weights: Weights, pruning: Pruning) -> tuple[Structured, str]:
    """Put the mixture of the thinned changes beside each module; also returns its method and its form in words."""
    generator = torch.Generator().manual_seed(pruning.seed)
    how, density = pruning.how.removesuffix("_svd"), pruning.density or 1.0
    factors = common_rank(combination) if how == pruning.how and pruning.rank is None else None
    check_rank(combination, pruning.rank)
    deltas: dict[str, Delta] = {}
    for name in combination.modules:
        pairs = zip(combination.members, weights, strict=True)
        each = [(member.deltas[name], own[layer_of(name)]) for member, own in pairs if name in member.deltas]
        host = each[0][0].host
        matrices = [delta.matrix for delta, _ in each]
        if factors is not None:
            both = [(one.a.detach(), one.b.detach()) for one in matrices if isinstance(one, LowRank)]
            a, b = mix_factors(how, both, [w * float(delta.scale) for delta, w in each], density, generator)
            deltas[name] = delta_of(host, partial(LowRank, rank=factors), {"a": a, "b": b})
            continue
        with torch.no_grad():
            changes = [float(each[n][0].scale) * one.to_dense() for n, one in enumerate(matrices)]
        change = mix(how, changes, [w for _, w in each], density, generator)
        if pruning.rank is None:
            deltas[name] = delta_of(host, partial(Dense, std=0.0), {"weight": change})
        else:
            cut = truncate(change.double(), pruning.rank, None)
            deltas[name] = delta_of(host, partial(LowRank, rank=len(cut.a)), {"a": cut.a, "b": cut.b})
    combination.place(deltas)
    if factors is not None:
        method = at_modules(partial(LowRank, rank=factors), deltas)
        return method, f"LoRA of rank {factors}: {how} on each factor, as PEFT's {how}"
    if pruning.rank is None:
        return at_modules(partial(Dense, std=0.0), deltas), f"dense matrices: {how} on each whole ΔW"
    method = at_modules(partial(LowRank, rank=pruning.rank), deltas)
    return method, f"matrices of rank {pruning.rank}, by truncated SVD: {how} on each whole ΔW, as PEFT's {how}_svd"


def check_rank(combination: Combination, rank: int | None) -> None:
    """Raise `ValueError` if no matrix of this rank fits beside the narrowest module."""
    deltas = [delta for member in combination.members for delta in member.deltas.values()]
    if rank is not None and rank > (width := min(min(one.in_features, one.out_features) for one in deltas)):
        raise UserError(f"`rank`={rank} must be at most {width}, the width of the narrowest module that is changed.")


def common_rank(combination: Combination) -> int | None:
    """The rank of all matrices, if all are products of two thin ones of the same rank."""
    matrices = [delta.matrix for member in combination.members for delta in member.deltas.values()]
    ranks = {matrix.rank if isinstance(matrix, LowRank) else None for matrix in matrices}
    return ranks.pop() if len(ranks) == 1 else None


def write(
    combination: Combination,
    method: Method,
    files: Sequence[AdapterFile],
    output: str,
    weights: Weights,
    form: str,
) -> None:
    """Write the adapter, and say what it is."""
    model, configs = combination.model, [file.config for file in files if file.config is not None]
    same = {config.task for config in configs}, {config.labels for config in configs}
    task = same[0].pop() if len(same[0]) == 1 else ""
    labels = same[1].pop() if len(same[1]) == 1 else ()
    words = configs[0].words if configs and all(one.words == configs[0].words for one in configs) else {}
    config = config_of(model, method, files[0].plm, task, parameter_counts(model)[1], labels, words)
    lines = [f"| {file.source} | {describe(own)} |" for file, own in zip(files, weights, strict=True)]
    table = "\n".join(["| adapter | weight |", "|---|---|", *lines])
    card = adapter_card(
        files[0].plm,
        None,
        config.labels,
        "kronlit",
        'import kronlit\n\nmodel = kronlit.load("…")  # this folder',
        f"## Combined of\n\n{table}\n\nKept as {form}.\n",
    )
    with new_folder(output) as folder:
        write_adapter(folder, model, config)
        (folder / "README.md").write_text(card, encoding="utf-8")
        fit = {"model": {"init_args": {"method": to_plain(method)}}}
        (folder / METHOD).write_text(yaml.safe_dump(fit, sort_keys=False), encoding="utf-8")
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(table)
    print(f"kept as {form}: {output}, {size:,} bytes of tensors.")


def describe(weights: Sequence[float]) -> str:
    """The weights of an adapter: one number, or one a layer."""
    if len(set(weights)) == 1:
        return f"{weights[0]:.4g}"
    return f"{', '.join(f'{weight:.4g}' for weight in weights)} by layer, {mean([list(weights)])[0]:.4g} on average"
