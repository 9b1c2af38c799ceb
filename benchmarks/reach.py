"""What a structure can reach: the error of the best approximation of what full fine-tuning learned, and spectra.

    python benchmarks/reach.py runs/full --layers 0 5 --adapters runs/lora runs/krona --picture reach.svg

The folders are those of `kronlit fit` runs; the first one's method is `FullFineTuning`. For query and value of the
chosen layers, ΔW is the trained weight less that of before. The error is that of the best matrix W of a structure,
‖W - ΔW‖ / ‖ΔW‖ (Frobenius): 0 reaches everything, 1 nothing. It says nothing of what a task needs of ΔW, nor of how
well a method trains.

Low rank, Kronecker products and their sums, Monarch and what averages diagonals are in closed form (singular values, of
Van Loan and Pitsianis's rearrangement too); Khatri-Rao by singular vectors, whose cut end is filled in by rounds. The
others are by Adam, of two starts and rates the better. The spectrum has the effective rank, the exponential of the
entropy of the singular values over their sum (Roy and Vetterli, 2007), and the stable rank, Σσ² / σ₁².
"""

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kronlit.adapters import collapse, placements
from kronlit.adapters.linear import matrix_of
from kronlit.adapters.sites import layer_of, matches
from kronlit.adapters.weight_change import WeightChange
from kronlit.data.trained_task import task_of
from kronlit.exchange.saved_run import model_from_config, saved_run
from kronlit.structured import LDR, BlockOrthogonal, LowRank, LowRankHadamard, TensorCircuit, ToeplitzProduct
from kronlit.structured.kronecker import balanced_shape
from kronlit.training.checkpoint import AtomicCheckpoint

SITES = ("query", "value")
Point = tuple[str, str, int, float]
"""A family of structures, a structure, its parameters, and its error."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", help="folder of a run of FullFineTuning")
    parser.add_argument("--adapters", nargs="*", default=[], help="folders of other runs, for their spectra")
    parser.add_argument("--layers", nargs="*", type=int, help="numbers of layers; by default all")
    parser.add_argument("--steps", type=int, default=500, help="of Adam")
    parser.add_argument("--picture", type=Path, help="an SVG file to write")
    options = parser.parse_args()
    torch.manual_seed(0)
    changes = {name: pair for name, pair in fully_trained(options.full).items() if chosen(name, options.layers)}
    print(f"{len(changes)} weights: {', '.join(changes)}")
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for change, weight in changes.values():
        for family, name, count, error in points(change, weight, options.steps):
            found[family, name, count].append(error)
            print(f"{name}: {error:.3f}", file=sys.stderr, flush=True)
    print("| structure | parameters a weight | relative error, mean | least | largest |\n|---|---|---|---|---|")
    for (_, name, count), errors in sorted(found.items(), key=lambda item: item[0][2]):
        row = f"{statistics.fmean(errors):.3f} | {min(errors):.3f} | {max(errors):.3f}"
        print(f"| {name} | {count:,} | {row} |", flush=True)
    print("\n| learned by | weights | effective rank, mean | stable rank, mean |\n|---|---|---|---|")
    print_spectra("full fine-tuning", [change for change, _ in changes.values()])
    for folder in options.adapters:
        named = [change for name, change in learned(folder).items() if chosen(name, options.layers)]
        print_spectra(Path(folder).name, named)
    if options.picture:
        draw({key: statistics.fmean(errors) for key, errors in found.items()}, options.picture)


def chosen(name: str, layers: list[int] | None) -> bool:
    return layers is None or layer_of(name) in layers


def opened(folder: str) -> tuple[nn.Module, Callable[[], object]]:
    """The model of a run before training, and what loads into it what was trained."""
    run = saved_run(folder)
    checkpoint = AtomicCheckpoint().load_checkpoint(run.checkpoint)
    module = model_from_config(run.config, task_of(checkpoint))
    return module, partial(module.load_state_dict, checkpoint["state_dict"], strict=False)


@torch.no_grad()
def fully_trained(folder: str) -> dict[str, tuple[Tensor, Tensor]]:
    """By name of its module, what was added to each query and value, and the weight before."""
    module, load = opened(folder)
    names = [name for site in SITES for name in matches(module.model, site)]
    before = {name: matrix_of(module.model.get_submodule(name)).float().clone() for name in names}
    load()
    after = {name: matrix_of(module.model.get_submodule(name)).float() for name in names}
    return {name: (after[name] - weight, weight) for name, weight in before.items() if not after[name].equal(weight)}


@torch.no_grad()
def learned(folder: str) -> dict[str, Tensor]:
    """By name of its module, what an adapter adds to each weight that it changes."""
    module, load = opened(folder)
    load()
    collapse(module.model)
    hosts = [(name, each) for name, each in placements(module.model) if isinstance(each, WeightChange)]
    return {name: each.change(matrix_of(each.host).float()) for name, each in hosts}


def points(change: Tensor, weight: Tensor, steps: int) -> Iterator[Point]:
    """Every structure's best approximation of `change`, the change of `weight`."""
    rows, columns = change.shape
    energy = change.square().sum()

    def error(left: Tensor) -> float:
        return math.sqrt(max(left.item(), 0.0) / energy.item())

    sigma = torch.linalg.svdvals(change)
    for rank in (1, 2, 4, 8, 16, 32, 64):
        yield "low rank", f"LoRA, rank {rank}", rank * (rows + columns), error(sigma[rank:].square().sum())
    for shape in kronecker_shapes(rows, columns):
        values, numbers = rearranged(change, shape)
        terms = (1, 4, 16) if shape == balanced_shape(rows, columns) else (1,)
        for count in terms:
            left = error(values[count:].square().sum())
            name = f"Kronecker, A {shape[0]} x {shape[1]}" if count == 1 else f"{count} of Kronecker, balanced"
            yield "Kronecker" if count == 1 else "Kronecker sum", name, count * numbers, left
    values, numbers = rearranged(change, (rows // 2, 2))
    for count in (2, 8, 16):
        yield "CDKA", f"CDKA, r {count}", count * numbers, error(values[count:].square().sum())
    for rank in (4, 8, 16):
        left = monarch_rest(change, 4, rank // 4)
        yield "MoRe", f"MoRe, 4 blocks, rank {rank}", rank * (rows + columns), error(left)
    yield "Toeplitz", "Toeplitz", rows + columns - 1, error((change - toeplitz_mean(change)).square().sum())
    size = math.gcd(rows, columns)
    while size >= 8:
        name = f"C3A, blocks of {size}" if size < rows else "circulant"
        yield "block circulant", name, rows * columns // size, error(circulant_rest(change, size))
        size //= 4
    left, numbers = khatri_rao_rest(change)
    yield "KRAdapter", "KRAdapter", numbers, error(left)
    for family, name, count, left in by_descent(change, weight, steps):
        yield family, name, count, error(left * energy)


def kronecker_shapes(rows: int, columns: int) -> list[tuple[int, int]]:
    """The balanced shape of A, and others with about as many parameters or more."""
    a1, a2 = balanced_shape(rows, columns)
    return [(a1, a2), (rows // 2, 2), (2, columns // 2), (rows // 8, columns // 8), (8, 8)]


def rearranged(change: Tensor, shape: tuple[int, int]) -> tuple[Tensor, int]:
    """The singular values of the matrix whose rank is the number of Kronecker products, and what one product has."""
    a1, a2 = shape
    blocks = change.unflatten(0, (a1, -1)).unflatten(2, (a2, -1)).transpose(1, 2).flatten(2).flatten(0, 1)
    return torch.linalg.svdvals(blocks), sum(blocks.shape)


def monarch_rest(change: Tensor, blocks: int, rank: int) -> Tensor:
    """The energy that is left where each of blocks x blocks parts gets `rank`: every k-th row, a run of columns."""
    parts = change.unflatten(0, (-1, blocks)).unflatten(2, (blocks, -1)).permute(1, 2, 0, 3)
    return torch.linalg.svdvals(parts)[..., rank:].square().sum()


def toeplitz_mean(change: Tensor) -> Tensor:
    """The Toeplitz matrix of the means of the diagonals."""
    rows, columns = change.shape
    index = torch.arange(rows).unsqueeze(1) - torch.arange(columns) + columns - 1
    sums = torch.zeros(rows + columns - 1).index_add_(0, index.flatten(), change.flatten())
    return (sums / index.flatten().bincount())[index]


def circulant_rest(change: Tensor, size: int) -> Tensor:
    """The energy that is left by circulant blocks, the means of whose diagonals go around."""
    blocks = change.unflatten(0, (-1, size)).unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1)
    index = (torch.arange(size).unsqueeze(1) - torch.arange(size)) % size
    sums = torch.zeros(len(blocks), size).index_add_(1, index.flatten(), blocks.flatten(1))
    return change.square().sum() - size * (sums / size).square().sum()


def khatri_rao_rest(change: Tensor, rounds: int = 20) -> tuple[Tensor, int]:
    """The energy that is left by a Khatri-Rao product: each column, as a matrix, has rank one."""
    tall = change if change.shape[0] >= change.shape[1] else change.mT
    many, few = tall.shape
    u = math.isqrt(few)
    v = -(-many // u)
    filled = nn.functional.pad(tall.mT, (0, u * v - many)).unflatten(1, (u, v))
    for _ in range(rounds if u * v > many else 1):
        left, sigma, right = torch.linalg.svd(filled, full_matrices=False)
        best = sigma[:, :1, None] * left[:, :, :1] * right[:, :1]
        filled.flatten(1)[:, many:] = best.flatten(1)[:, many:]
    return (tall.mT - best.flatten(1)[:, :many]).square().sum(), (u + v) * few


def by_descent(change: Tensor, weight: Tensor, steps: int) -> Iterator[tuple[str, str, int, Tensor]]:
    """What has no closed form: the share of the energy that Adam leaves."""
    rows, columns = change.shape
    target, base = change / change.square().mean().sqrt(), weight / weight.square().mean().sqrt()
    make: dict[tuple[str, str], tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {}
    for rank in (1, 4):
        make["LDR", f"LDR, rank {rank}"] = partial(LDR, columns, rows, rank, std=0.1, zero_start=False), same
    make["Toeplitz product", "Toeplitz product"] = partial(ToeplitzProduct, columns, rows, 0.1, False), same
    for rank in (1, 4, 16):
        make["ABBA", f"ABBA, two of rank {rank}"] = partial(LowRankHadamard, columns, rows, rank, rank, 1.0), same
        make["HiRA", f"HiRA, rank {rank}"] = partial(LowRank, columns, rows, rank, "normal"), base.mul
    make["QuanTA", "QuanTA, four axes"] = partial(TensorCircuit, columns, rows), same
    turned = weight / change.square().mean().sqrt()
    make["OFT", "OFT, blocks of 32"] = partial(BlockOrthogonal, columns, columns, 32), partial(less_start, turned)
    for (family, name), (structure, applied) in make.items():
        tries = [descend(structure(), applied, target, steps, lr) for lr in (1e-2, 3e-2)]
        count = sum(parameter.numel() for parameter in structure().parameters())
        yield family, name, count, torch.tensor(min(tries))


def same(matrix: Tensor) -> Tensor:
    return matrix


def less_start(weight: Tensor, rotation: Tensor) -> Tensor:
    """What a rotation of the input adds to the weight."""
    return weight @ rotation - weight


def descend(matrix: nn.Module, applied: Callable[[Tensor], Tensor], target: Tensor, steps: int, lr: float) -> float:
    """The least share of the energy that is left on the way."""
    if isinstance(matrix, BlockOrthogonal):
        lr /= 10  # angles, which are small
    optimizer = torch.optim.Adam(matrix.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    least = math.inf
    for _ in range(steps):
        loss = (applied(matrix.to_dense()) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        least = min(least, loss.item())
    return least


def print_spectra(name: str, changes: list[Tensor]) -> None:
    """One row of the table of spectra."""
    ranks = [spectrum(change) for change in changes if change.any()]
    if not ranks:
        print(f"| {name} | 0 | | |")
        return
    effective, stable = (statistics.fmean(values) for values in zip(*ranks, strict=True))
    print(f"| {name} | {len(ranks)} | {effective:.1f} | {stable:.1f} |", flush=True)


def spectrum(change: Tensor) -> tuple[float, float]:
    """Effective and stable rank."""
    sigma = torch.linalg.svdvals(change.double())
    shares = sigma / sigma.sum()
    entropy = -torch.xlogy(shares, shares).sum()
    return math.exp(entropy), (sigma.square().sum() / sigma[0] ** 2).item()


def draw(errors: dict[tuple[str, str, int], float], path: Path) -> None:
    """The errors over the parameters, in colours that read on white and on black."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "kronlit", "font.size": 10, "text.color": "#808080"}
    plt.rcParams |= {f"{part}color": "#808080" for part in ("axes.edge", "axes.label", "xtick.", "ytick.")}
    figure, axes = plt.subplots(figsize=(9, 5.5))
    families: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for (family, _, count), value in errors.items():
        families[family].append((count, value))
    colours = plt.get_cmap("tab20").colors[::2] + plt.get_cmap("Set2").colors
    for (family, values), colour, marker in zip(families.items(), colours, "os^vD<>phX*Pd8s^", strict=False):
        line = "" if family == "Kronecker" else "-"
        axes.plot(*zip(*sorted(values), strict=True), line, marker=marker, color=colour, label=family, markersize=5)
    axes.set(xscale="log", xlabel="parameters a weight", ylabel="relative error of the best approximation")
    axes.grid(color="#808080", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right", frameon=False)
    figure.subplots_adjust(right=0.78, left=0.08, top=0.97)
    figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
