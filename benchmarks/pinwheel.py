"""The pinwheel of SURM (Sehanobish et al., 2024, arXiv:2406.17740): which matrix of few parameters fits a toy network.

    python benchmarks/pinwheel.py --out pinwheel.png
    python benchmarks/pinwheel.py --train_bottom

A network of one hidden layer classifies points in the plane that lie on the five arms of a pinwheel: a bottom layer to
64 numbers, which is random and stays frozen, ReLU, the matrix, ReLU, and a top layer. All matrices of few parameters
have as many as rank 1, a circulant and a symmetric Toeplitz one by two vectors multiplied elementwise. Each starts at
random with the Frobenius norm that `nn.Linear` starts with. Adam trains matrix and top layer on all points at once. The
loss is that of the last step, as mean and sample standard deviation over seeds.

The paper's figures are read off a picture beside its code. How it was made is not known: width, rate and steps are
ours, and the noise is chosen so that the full matrix ends near the paper's 0.2.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial

import matplotlib
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured import (
    LDR,
    Circulant,
    Dense,
    Kronecker,
    LowRank,
    StructuredLinear,
    SymmetricToeplitz,
    Toeplitz,
    ToeplitzProduct,
)

matplotlib.use("Agg")
from matplotlib import pyplot

ARMS, WIDTH = 5, 64
# What makes the matrix, and the paper's final loss with a frozen bottom layer
MATRICES: dict[str, tuple[Callable[[int, int], StructuredLinear], str]] = {
    "LoRA, rank 1": (partial(LowRank, rank=1), "about 0.9"),
    "circulant": (partial(Circulant, hadamard=True), "0.25 to 0.3"),
    "symmetric Toeplitz": (partial(SymmetricToeplitz, hadamard=True), "0.25 to 0.3"),
    "Toeplitz": (Toeplitz, "0.25 to 0.3"),
    "two symmetric Toeplitz": (ToeplitzProduct, "not in it"),
    "Kronecker": (Kronecker, "not in it"),
    "LDR, rank 1": (LDR, "not in it"),
    "full": (Dense, "about 0.2"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--train_bottom", action="store_true", help="train the bottom layer too")
    parser.add_argument("--out", default="pinwheel.png")
    options = parser.parse_args()
    print(f"bottom layer {'trained' if options.train_bottom else 'frozen'}, {options.steps} steps, lr {options.lr}")
    print("| matrix | parameters | final loss | accuracy | the paper's final loss |\n|---|---|---|---|---|")
    curves = {}
    for name, (make, published) in MATRICES.items():
        runs = [trained(make, seed, options) for seed in range(options.seeds)]
        curves[name] = torch.tensor([losses for losses, _, _ in runs]).mean(0)
        losses, accuracies = [one[0][-1] for one in runs], [one[1] for one in runs]
        cells = [f"{runs[0][2]:,}", spread(losses), spread(accuracies), "" if options.train_bottom else published]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    draw(curves, options)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def pinwheel(
    points: int = 200, radial: float = 0.3, tangential: float = 0.35, rate: float = 0.25
) -> tuple[Tensor, Tensor]:
    """Points, `(5 * points, 2)`, and their arms: normal along a radius and across it, turned the more, the further."""
    arms = torch.arange(ARMS).repeat_interleave(points)
    radius = 1 + radial * torch.randn(len(arms))
    across = tangential * torch.randn(len(arms))
    angle = 2 * math.pi * arms / ARMS + rate * radius.exp()
    x = radius * angle.cos() - across * angle.sin()
    y = radius * angle.sin() + across * angle.cos()
    return torch.stack((x, y), 1), arms


@torch.no_grad()
def start(matrix: StructuredLinear) -> None:
    """Draw all factors from a normal distribution, and scale them so that the product is as large as a new Linear's."""
    for factor in matrix.parameters():
        nn.init.normal_(factor)
    norm = nn.Linear(matrix.in_features, matrix.out_features).weight.norm()
    linear_in = 1 if isinstance(matrix, (Dense, Toeplitz)) else 2
    scale = (norm / matrix.to_dense().norm()) ** (1 / linear_in)
    for factor in matrix.parameters():
        factor.mul_(scale)


def trained(
    make: Callable[[int, int], StructuredLinear], seed: int, options: argparse.Namespace
) -> tuple[list[float], float, int]:
    """The loss of each step, the accuracy at the end, and the parameters of the matrix."""
    torch.manual_seed(seed)
    points, arms = pinwheel()
    bottom, top = nn.Linear(2, WIDTH), nn.Linear(WIDTH, ARMS)
    matrix = make(WIDTH, WIDTH)
    start(matrix)

    def logits() -> Tensor:
        return top(F.relu(matrix(F.relu(bottom(points)))))

    parameters = [*matrix.parameters(), *top.parameters()]
    optimizer = torch.optim.Adam(parameters + list(bottom.parameters()) * options.train_bottom, lr=options.lr)
    losses = []
    for _ in range(options.steps):
        loss = F.cross_entropy(logits(), arms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    accuracy = (logits().argmax(1) == arms).float().mean().item()
    return losses, accuracy, sum(p.numel() for p in matrix.parameters())


def draw(curves: dict[str, Tensor], options: argparse.Namespace) -> None:
    """The points, and the mean loss of each matrix over the steps."""
    torch.manual_seed(0)
    points, arms = pinwheel()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    left.scatter(*points.T, c=arms, s=4, cmap="tab10")
    left.set(title="pinwheel", aspect="equal")
    for name, curve in curves.items():
        right.plot(curve, label=name)
    title = f"bottom layer {'trained' if options.train_bottom else 'frozen'}"
    right.set(title=title, xlabel="step", ylabel="training loss", yscale="log")
    right.legend(fontsize="small")
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
