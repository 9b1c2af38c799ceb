"""What a structured matrix costs: in a layer of BERT, beside one linear layer, and by FFT against one dense product.

    python benchmarks/structures.py layer
    python benchmarks/structures.py layer --widths 768 --layers 2 --batch_size 8 --length 128 --rounds 15
    python benchmarks/structures.py linear --widths 768 4096 --tokens 1024
    python benchmarks/structures.py fft --bf16 --structures Circulant --widths 64 128 256 --tokens 2048
    python benchmarks/structures.py cache

`layer` is a training step of an encoder as BERT's, of that width and with random weights, with the matrices beside
query and value, over the frozen floor. A step, the floor and the rounds are those of `benchmarks/step_time.py`, and
every model back-propagates to its embeddings, as if it had more layers below. The matrices have one or two numbers a
row of a weight, but LDR of rank 4, which has eight. `linear` is forward and backward of one frozen linear layer with a
matrix, whose input wants a gradient, as inside a model, over the layer alone. PEFT's LoRA, LoKr and C3A stand beside
both, and LyCORIS's LoKr in bypass mode where it is installed (`pip install lycoris-lora`).

`fft` is forward and backward of the matrix alone: the time of the dense step, with the matrix formed anew, over that
of the FFT; above 1 the FFT is faster. `cache` is the time of the step when so many numbers are transformed at a time.
These are the measurements behind `dense_below` of the structures, `DENSE_TOKENS` of `kronlit.structured.convolution`
and, by `cache`, `CACHED` of `kronlit.structured.pieces`.

Tokens are made up and rounds interleaved. A ratio is taken within its round; what is shown is the median.
"""

import argparse
import importlib.util
import statistics
from collections.abc import Callable
from functools import partial

import peft
import torch
from step_time import FLOOR, Step, floor, interleaved, now, shared
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import kronlit
import kronlit.structured.convolution as convolution
import kronlit.structured.pieces as pieces
from kronlit import SURM, Structured
from kronlit.adapters import Delta
from kronlit.structured import (
    LDR,
    BlockCirculant,
    Circulant,
    GatedKroneckers,
    KhatriRao,
    Kronecker,
    KroneckerSum,
    LowRank,
    LowRankHadamard,
    Monarch,
    SkewCirculant,
    StructuredLinear,
    SymmetricToeplitz,
    TensorCircuit,
    Toeplitz,
    ToeplitzProduct,
)

METHODS = {
    "SURM circulant": SURM(),
    "SURM circulant, single": SURM(variant="single"),
    "SURM Toeplitz, product": SURM(structure="toeplitz"),
    "SURM Toeplitz, general": SURM(structure="toeplitz", variant="general"),
    "SURM Kronecker": SURM(structure="kronecker"),
    "SURM LDR, rank 1": SURM(structure="ldr"),
    "SURM LDR, rank 4": SURM(structure="ldr", rank=4),
    "LoRA, rank 1": kronlit.LoRA(rank=1),
    "CDKA": Structured(matrix=KroneckerSum),
    "MoKA": Structured(matrix=GatedKroneckers),
    "C3A": Structured(matrix=BlockCirculant),
    "MoRe": Structured(matrix=Monarch),
    "KRAdapter": Structured(matrix=KhatriRao),
    "ABBA, two of rank 16": Structured(matrix=LowRankHadamard),
    "ABBA, two of rank 4": Structured(matrix=partial(LowRankHadamard, rank1=4, rank2=4)),
    "QuanTA": Structured(matrix=TensorCircuit),
}
"""What `layer` measures."""
BESIDE: dict[str, Callable[[int, int], StructuredLinear]] = {
    "KronA": Kronecker,
    "circulant": Circulant,
    "Toeplitz": Toeplitz,
    "LoRA, rank 1": partial(LowRank, rank=1),
}
"""What `linear` measures."""


def six_blocks(in_features: int, out_features: int) -> BlockCirculant:
    """Blocks a sixth as wide as the matrix, such as 128 of 768."""
    return BlockCirculant(in_features, out_features, in_features // 6)


BY_FFT: dict[str, Callable[[int, int], StructuredLinear]] = {
    "Circulant": Circulant,
    "BlockCirculant": BlockCirculant,
    "BlockCirculant, six a row": six_blocks,
    "SkewCirculant": SkewCirculant,
    "Toeplitz": Toeplitz,
    "SymmetricToeplitz": SymmetricToeplitz,
    "ToeplitzProduct": ToeplitzProduct,
    "LDR rank 1": LDR,
    "LDR rank 4": partial(LDR, rank=4),
    "LDR rank 16": partial(LDR, rank=16),
}
"""What `fft` and `cache` measure."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_subparsers(required=True, metavar="{layer,linear,fft,cache}")
    for measure, rounds in ((layer, 7), (linear, 9), (fft, 9), (cache, 9)):
        one = chosen.add_parser(measure.__name__, help=measure.__doc__)
        alone = measure in (fft, cache)
        widths = [32, 64, 96, 128, 192, 256, 384, 512, 768] if alone else [384, 768, 1024, 4096]
        one.add_argument("--widths", nargs="+", type=int, default=widths)
        one.add_argument("--rounds", type=int, default=rounds)
        one.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
        one.set_defaults(measure=measure)
        if measure is layer:
            one.add_argument("--layers", type=int, default=1)
            one.add_argument("--batch_size", type=int, default=8)
            one.add_argument("--length", type=int, default=128)
        if measure is linear:
            one.add_argument("--tokens", type=int, default=1024)
        if alone:
            one.add_argument("--structures", nargs="+", default=list(BY_FFT), choices=list(BY_FFT))
            one.add_argument("--tokens", nargs="+", type=int, default=[1, 64, 512, 2048])
    options = parser.parse_args()
    precision = "bfloat16 autocast" if options.bf16 else "float32"
    print(f"{DEVICE}, {torch.get_num_threads()} threads, {precision}, kronlit {kronlit.__version__}")
    options.measure(options)


def layer(options: argparse.Namespace) -> None:
    """A training step of a layer of BERT with each matrix beside query and value."""
    print(f"{options.layers} layer(s), {options.batch_size} x {options.length} tokens")
    print("| width | matrix | ms a step, median | over the floor | saved activations, MB | trained, without the head |")
    print("|---|---|---|---|---|---|")
    for width in options.widths:
        steps = encoders(width, options)
        seconds = interleaved(steps, options.rounds)
        for name, values in seconds.items():
            saved = steps[name].saved_activations() / 2**20
            named = steps[name].model.named_parameters()
            trained = sum(p.numel() for n, p in named if p.requires_grad and "classifier" not in n)
            row = f"{milliseconds(values):.1f} | {ratio(values, seconds[FLOOR]):.3f} x | {saved:.1f} | {trained:,}"
            print(f"| {width} | {name} | {row} |", flush=True)


def encoders(width: int, options: argparse.Namespace) -> dict[str, Step]:
    """A step of each method, on models that share what none of them changes."""
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=options.layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=1000,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    plain = BertForSequenceClassification(config).to(DEVICE)
    steps = {FLOOR: Step(floor(shared(plain)), options)}
    for name, method in METHODS.items():
        steps[name] = Step(kronlit.inject(floor(shared(plain)), method), options)
    where = {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    rivals = {
        "PEFT LoRA, rank 1": peft.LoraConfig(r=1, **where),
        "PEFT LoKr": peft.LoKrConfig(r=64, alpha=64, **where),  # a rank that leaves both factors whole
        "PEFT C3A": peft.C3AConfig(block_size=width, **where),
    }
    for name, rival in rivals.items():
        steps[name] = Step(peft.get_peft_model(floor(shared(plain)), rival), options)
    if importlib.util.find_spec("lycoris"):
        steps["LyCORIS LoKr, bypass"] = Step(lycoris(floor(shared(plain)), [".*self.query", ".*self.value"]), options)
    return steps


def linear(options: argparse.Namespace) -> None:
    """Forward and backward of one linear layer with each matrix."""
    print(f"{options.tokens} tokens")
    print("| width | added | ms, median | over the layer alone | over PEFT LoKr |\n|---|---|---|---|---|")
    for width in options.widths:
        x, dy = (torch.randn(options.tokens, width, device=DEVICE) for _ in range(2))
        layers = linear_layers(width)
        steps = {
            name: partial(one_pass, module, x.requires_grad_(), dy, options.bf16) for name, module in layers.items()
        }
        seconds = interleaved(steps, options.rounds)
        for name, values in seconds.items():
            over = [f"{ratio(values, seconds[other]):.3f} x" for other in ("alone", "PEFT LoKr")]
            print(f"| {width} | {name} | {milliseconds(values):.1f} | {' | '.join(over)} |", flush=True)


def linear_layers(width: int) -> dict[str, nn.Module]:
    """The layers, which share their frozen weight."""
    plain = nn.Linear(width, width).to(DEVICE).requires_grad_(False)

    def host() -> nn.Linear:
        same = nn.Linear(width, width, device="meta")
        same.weight, same.bias = plain.weight, plain.bias
        return same

    layers: dict[str, nn.Module] = {"alone": plain}
    for name, matrix in BESIDE.items():
        layers[name] = Delta(host(), width, width, matrix).to(DEVICE)
    rivals = {
        "PEFT LoRA, rank 8": peft.LoraConfig(r=8, target_modules=["layer"]),
        "PEFT LoKr": peft.LoKrConfig(r=width, alpha=width, target_modules=["layer"]),  # whole factors
        "PEFT C3A": peft.C3AConfig(block_size=width, target_modules=["layer"]),
    }
    for name, rival in rivals.items():
        layers[name] = peft.get_peft_model(Holder(host()), rival).to(DEVICE)
    if importlib.util.find_spec("lycoris"):
        layers["LyCORIS LoKr, bypass"] = lycoris(Holder(host()), ["layer"]).to(DEVICE)
    return layers


class Holder(nn.Module):
    """A model of one layer, as PEFT and LyCORIS want it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def lycoris(model: nn.Module, names: list[str]) -> nn.Module:
    """`model` with LyCORIS's LoKr on the modules of some `names`, whole factors, beside the weight."""
    from lycoris import LycorisNetwork, create_lycoris

    LycorisNetwork.apply_preset({"target_module": [], "target_name": names})
    whole = 100_000  # a rank that leaves both factors whole
    model.lycoris = create_lycoris(model, 1.0, linear_dim=whole, linear_alpha=1, algo="lokr", bypass_mode=True)
    model.lycoris.apply_to()
    model.lycoris.requires_grad_(True)
    return model


def fft(options: argparse.Namespace) -> None:
    """From which width on the FFT is faster than one dense product, for each matrix that is applied by FFT."""
    convolution.DENSE_TOKENS = 0
    print(f"| structure | width | {' | '.join(f'{n} tokens' for n in options.tokens)} |")
    print("|---|---|" + "---|" * len(options.tokens))
    for name in options.structures:
        for width in options.widths:
            cells = []
            for tokens in options.tokens:
                steps = {
                    "fft": alone(name, width, tokens, options.bf16, dense_below=0),
                    "dense": alone(name, width, tokens, options.bf16, dense_below=width + 1),
                }
                seconds = interleaved(steps, options.rounds)
                cells.append(f"{ratio(seconds['dense'], seconds['fft']):.2f}")
            print(f"| {name} | {width} | {' | '.join(cells)} |", flush=True)


def cache(options: argparse.Namespace) -> None:
    """The time of a step when so many numbers are transformed at a time."""
    convolution.DENSE_TOKENS = 0
    sizes = [1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 40]
    print(f"| structure | width | tokens | {' | '.join(f'2^{size.bit_length() - 1}' for size in sizes)} | (ms a step)")
    print("|---|---|---|" + "---|" * len(sizes))
    for name in options.structures:
        for width in options.widths:
            for tokens in options.tokens:
                step = alone(name, width, tokens, options.bf16, dense_below=0)
                steps = {str(size): partial(with_cache, size, step) for size in sizes}
                cells = [f"{milliseconds(values):.2f}" for values in interleaved(steps, options.rounds).values()]
                print(f"| {name} | {width} | {tokens} | {' | '.join(cells)} |", flush=True)


def alone(name: str, width: int, tokens: int, bf16: bool, dense_below: int) -> Callable[[], float]:
    """The step of a matrix that belongs to no layer."""
    matrix = BY_FFT[name](width, width).to(DEVICE)
    matrix.dense_below = dense_below
    x, dy = (torch.randn(tokens, width, device=DEVICE) for _ in range(2))
    return partial(one_pass, matrix, x.requires_grad_(), dy, bf16)


def with_cache(size: int, step: Callable[[], float]) -> float:
    pieces.CACHED = size
    return step()


def one_pass(module: nn.Module, x: torch.Tensor, dy: torch.Tensor, bf16: bool) -> float:
    """Seconds of forward and backward, to the input and to what is trained."""
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]
    start = now()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
        y = module(x)
    torch.autograd.grad(y, wanted, dy.to(y.dtype))
    return now() - start


def milliseconds(values: list[float]) -> float:
    return 1000 * statistics.median(values)


def ratio(values: list[float], others: list[float]) -> float:
    """The median over the rounds."""
    return statistics.median(v / o for v, o in zip(values, others, strict=True))


if __name__ == "__main__":
    main()
