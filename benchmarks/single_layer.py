"""One linear layer with what is added to it, forward and backward: over the layer alone, beside PEFT and LyCORIS.

    python benchmarks/single_layer.py --widths 768 4096 --tokens 1024

The layer is frozen and its input wants a gradient, as inside a model. Rounds are interleaved.
"""

import argparse
import importlib.util
import statistics
import time
from functools import partial

import peft
import torch
from step_time import interleaved, synchronise
from structures import lycoris
from torch import nn

import kronlit
from kronlit.adapters import Delta
from kronlit.structured import Circulant, Kronecker, LowRank, Toeplitz


class Holder(nn.Module):
    """A model of one layer, as PEFT and LyCORIS want it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[384, 768, 1024, 4096])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{options.tokens} tokens, {device}, {torch.get_num_threads()} threads, kronlit {kronlit.__version__}")
    print("| width | added | ms, median | over the layer alone | over PEFT LoKr |\n|---|---|---|---|---|")
    for width in options.widths:
        layers = made(width, device)
        x = torch.randn(options.tokens, width, device=device, requires_grad=True)
        dy = torch.randn(options.tokens, width, device=device)
        steps = {name: partial(step, layer, x, dy) for name, layer in layers.items()}
        seconds = interleaved(steps, options.rounds)
        for name, values in seconds.items():
            over = [
                statistics.median(v / o for v, o in zip(values, seconds[other], strict=True))
                for other in ("alone", "PEFT LoKr")
            ]
            row = f"{1000 * statistics.median(values):.1f} | {over[0]:.3f} x | {over[1]:.3f} x"
            print(f"| {width} | {name} | {row} |", flush=True)


def made(width: int, device: str) -> dict[str, nn.Module]:
    """The layers, which share their frozen weight."""
    plain = nn.Linear(width, width).to(device).requires_grad_(False)

    def host() -> nn.Linear:
        layer = nn.Linear(width, width, device="meta")
        layer.weight, layer.bias = plain.weight, plain.bias
        return layer

    matrices = {
        "KronA": Kronecker,
        "circulant": Circulant,
        "Toeplitz": Toeplitz,
        "LoRA, rank 1": lambda i, o: LowRank(i, o, rank=1),
    }
    layers: dict[str, nn.Module] = {"alone": plain}
    for name, matrix in matrices.items():
        layers[name] = Delta(host(), width, width, matrix).to(device)
    configs = {
        "PEFT LoRA, rank 8": peft.LoraConfig(r=8, target_modules=["layer"]),
        "PEFT LoKr": peft.LoKrConfig(r=width, alpha=width, target_modules=["layer"]),  # whole factors
        "PEFT C3A": peft.C3AConfig(block_size=width, target_modules=["layer"]),
    }
    for name, config in configs.items():
        layers[name] = peft.get_peft_model(Holder(host()), config).to(device)
    if importlib.util.find_spec("lycoris"):
        layers["LyCORIS LoKr, bypass"] = lycoris(Holder(host()), ["layer"]).to(device)
    return layers


def step(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> float:
    """Seconds of a forward and a backward pass."""
    synchronise()
    start = time.perf_counter()
    layer(x).backward(dy)
    synchronise()
    taken = time.perf_counter() - start
    layer.zero_grad()
    x.grad = None
    return taken


if __name__ == "__main__":
    main()
