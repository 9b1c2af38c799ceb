"""A training step of each structured matrix, by width, over the frozen floor and beside PEFT's LoRA, LoKr and C3A.

LyCORIS's LoKr in bypass mode stands beside them where it is installed (`pip install lycoris-lora`).

    python benchmarks/structures.py
    python benchmarks/structures.py --widths 768 --layers 2 --batch_size 8 --length 128 --rounds 15

An encoder as BERT's, of that width and with random weights, gets the matrices beside query and value. A step, the floor
and the rounds are those of `benchmarks/step_time.py`, and every model back-propagates to its embeddings, as if it had
more layers below. The matrices have one or two numbers a row of a weight, but LDR of rank 4, which has eight.
"""

import argparse
import importlib.util
import statistics

import peft
import torch
from step_time import FLOOR, Step, floor, interleaved, shared
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import kronlit
from kronlit import SURM

METHODS = {
    "SURM circulant": SURM(),
    "SURM circulant, single": SURM(variant="single"),
    "SURM Toeplitz, product": SURM(structure="toeplitz"),
    "SURM Toeplitz, general": SURM(structure="toeplitz", variant="general"),
    "SURM Kronecker": SURM(structure="kronecker"),
    "SURM LDR, rank 1": SURM(structure="ldr"),
    "SURM LDR, rank 4": SURM(structure="ldr", rank=4),
    "LoRA, rank 1": kronlit.LoRA(rank=1),
}


def rivals(width: int) -> dict[str, peft.PeftConfig]:
    """PEFT on the same projections."""
    where = {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    return {
        "PEFT LoRA, rank 1": peft.LoraConfig(r=1, **where),
        "PEFT LoKr": peft.LoKrConfig(r=64, alpha=64, **where),  # a rank that leaves both factors whole
        "PEFT C3A": peft.C3AConfig(block_size=width, **where),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[384, 768, 1024, 4096])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "bfloat16 autocast" if options.bf16 else "float32"
    print(f"{options.layers} layer(s), {options.batch_size} x {options.length} tokens, {device}, {precision}")
    print("| width | matrix | ms a step, median | over the floor | saved activations, MB | trained, without the head |")
    print("|---|---|---|---|---|---|")
    for width in options.widths:
        steps = made(width, options, device)
        seconds = interleaved(steps, options.rounds)
        for name, values in seconds.items():
            over = statistics.median(v / f for v, f in zip(values, seconds[FLOOR], strict=True))
            saved = steps[name].saved_activations() / 2**20
            named = steps[name].model.named_parameters()
            trained = sum(p.numel() for n, p in named if p.requires_grad and "classifier" not in n)
            row = f"{1000 * statistics.median(values):.1f} | {over:.3f} x | {saved:.1f} | {trained:,}"
            print(f"| {width} | {name} | {row} |", flush=True)


def made(width: int, options: argparse.Namespace, device: str) -> dict[str, Step]:
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
    plain = BertForSequenceClassification(config).to(device)
    steps = {FLOOR: Step(floor(shared(plain)), options)}
    for name, method in METHODS.items():
        steps[name] = Step(kronlit.inject(floor(shared(plain)), method), options)
    for name, rival in rivals(width).items():
        steps[name] = Step(peft.get_peft_model(floor(shared(plain)), rival), options)
    if importlib.util.find_spec("lycoris"):
        steps["LyCORIS LoKr, bypass"] = Step(lycoris(floor(shared(plain)), [".*self.query", ".*self.value"]), options)
    return steps


def lycoris(model: nn.Module, names: list[str]) -> nn.Module:
    """`model` with LyCORIS's LoKr on the modules of some `names`, whole factors, beside the weight."""
    from lycoris import LycorisNetwork, create_lycoris

    LycorisNetwork.apply_preset({"target_module": [], "target_name": names})
    whole = 100_000  # a rank that leaves both factors whole
    model.lycoris = create_lycoris(model, 1.0, linear_dim=whole, linear_alpha=1, algo="lokr", bypass_mode=True)
    model.lycoris.apply_to()
    model.lycoris.requires_grad_(True)
    return model


if __name__ == "__main__":
    main()
