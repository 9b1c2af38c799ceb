"""From which width on the FFT is faster than one dense product, for each matrix that is applied by FFT.

    python benchmarks/fft_or_dense.py
    python benchmarks/fft_or_dense.py --bf16 --structures Circulant --widths 64 128 256 --tokens 2048
    python benchmarks/fft_or_dense.py --cache

A step is forward and backward, of input and parameters, on made-up tokens. Each number is the time of the dense step,
with the matrix formed anew, over that of the FFT, as a median over rounds in which both run in turn: above 1 the FFT is
faster. These are the measurements behind `dense_below` of the structures and behind `CACHED` (by --cache) and
`DENSE_TOKENS` of `kronlit.structured.convolution`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

import kronlit.structured.convolution as convolution
from kronlit.structured import (
    LDR,
    Circulant,
    SkewCirculant,
    StructuredLinear,
    SymmetricToeplitz,
    Toeplitz,
    ToeplitzProduct,
)

STRUCTURES: dict[str, Callable[[int, int], StructuredLinear]] = {
    "Circulant": Circulant,
    "SkewCirculant": SkewCirculant,
    "Toeplitz": Toeplitz,
    "SymmetricToeplitz": SymmetricToeplitz,
    "ToeplitzProduct": ToeplitzProduct,
    "LDR rank 1": LDR,
    "LDR rank 4": partial(LDR, rank=4),
    "LDR rank 16": partial(LDR, rank=16),
}
WIDTHS = [32, 64, 96, 128, 192, 256, 384, 512, 768]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", nargs="+", default=list(STRUCTURES), choices=list(STRUCTURES))
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 64, 512, 2048])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--cache", action="store_true", help="measure runs of tokens of several sizes instead")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{device}, {torch.get_num_threads()} threads, {'bfloat16 autocast' if options.bf16 else 'float32'}")
    convolution.DENSE_TOKENS = 0
    if options.cache:
        runs_of_tokens(options, device)
        return
    print(f"| structure | width | {' | '.join(f'{n} tokens' for n in options.tokens)} |")
    print("|---|---|" + "---|" * len(options.tokens))
    for name in options.structures:
        for width in options.widths:
            cells = []
            for tokens in options.tokens:
                make = STRUCTURES[name]
                fft, dense = (Step(make(width, width), tokens, options.bf16, device) for _ in range(2))
                fft.matrix.dense_below, dense.matrix.dense_below = 0, width + 1
                f, d = interleaved([fft, dense], options.rounds)
                cells.append(f"{statistics.median(b / a for a, b in zip(f, d, strict=True)):.2f}")
            print(f"| {name} | {width} | {' | '.join(cells)} |", flush=True)


def runs_of_tokens(options: argparse.Namespace, device: str) -> None:
    """The time of a step when so many numbers are transformed at a time."""
    sizes = [1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 40]
    print(f"| structure | width | tokens | {' | '.join(f'2^{size.bit_length() - 1}' for size in sizes)} | (ms a step)")
    print("|---|---|---|" + "---|" * len(sizes))
    for name in options.structures:
        for width in options.widths:
            for tokens in options.tokens:
                step = Step(STRUCTURES[name](width, width), tokens, options.bf16, device)
                step.matrix.dense_below = 0
                times = interleaved([partial(sized, step, size) for size in sizes], options.rounds)
                cells = " | ".join(f"{1000 * statistics.median(each):.2f}" for each in times)
                print(f"| {name} | {width} | {tokens} | {cells} |", flush=True)


def sized(step: "Step", size: int) -> None:
    convolution.CACHED = size
    step()


class Step:
    """Forward and backward of `matrix` on `tokens` made-up tokens."""

    def __init__(self, matrix: StructuredLinear, tokens: int, bf16: bool, device: str) -> None:
        self.matrix = matrix.to(device)
        self.x = torch.randn(tokens, matrix.in_features, device=device, requires_grad=True)
        self.dy = torch.randn(tokens, matrix.out_features, device=device)
        self.bf16 = bf16

    def __call__(self) -> None:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.bf16):
            y = self.matrix(self.x)
        torch.autograd.grad(y, (self.x, *self.matrix.parameters()), self.dy.to(y.dtype))


def interleaved(steps: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each step in each round; the first round warms up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 1):
        for step, taken in zip(steps, seconds, strict=True):
            synchronise()
            start = time.perf_counter()
            step()
            synchronise()
            if number:
                taken.append(time.perf_counter() - start)
    return seconds


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
