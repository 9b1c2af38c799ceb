"""Latency of a forward pass: the base model, and each method merged and as it was trained, beside PEFT.

    python benchmarks/latency.py --plm BERT_FOLDER
    python benchmarks/latency.py --plm T5_FOLDER --threads 1

After the KronA paper (section 4.4): one row of 10 tokens, 150 passes to warm up and 200 that are timed. All models take
a pass in turn, each turn in a new order, as the first one of a turn finds its weights out of the cache. A ratio is of
what ran side by side: over the base model, the median of the ratios within the turns.
"""

import argparse
import copy
import random
import statistics
import time

import peft
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

import kronlit

BASE = "base model"
METHODS: dict[str, kronlit.Method] = {
    "KronA": kronlit.KronA(),
    "KronAB": kronlit.KronAB(),
    "KronABRes": kronlit.KronABRes(),
    "LoRA, rank 1": kronlit.LoRA(rank=1),
    "SURM circulant": kronlit.SURM(),
    "SURM Toeplitz": kronlit.SURM(structure="toeplitz"),
    "SURM LDR": kronlit.SURM(structure="ldr"),
    "Pfeiffer": kronlit.Pfeiffer(),
    "Houlsby": kronlit.Houlsby(),
    "Compacter": kronlit.Compacter(),
    "CompacterPP": kronlit.CompacterPP(),
}


def models(plm: str) -> dict[str, nn.Module]:
    """The base model, and what each method makes of it; numbers that were trained are random here."""
    config = AutoConfig.from_pretrained(plm)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForSequenceClassification
    plain = auto.from_pretrained(plm, dtype=torch.float32).eval().requires_grad_(False)
    made: dict[str, nn.Module] = {
        BASE: copy.deepcopy(plain),
        "base model again": copy.deepcopy(plain),
    }  # not the file's pages, which are slower
    for name, method in METHODS.items():
        made[name] = kronlit.inject(copy.deepcopy(plain), method).eval()
        shaken(made[name])
        merged = copy.deepcopy(made[name])
        try:
            kronlit.merge(merged)
        except TypeError:  # it cannot be merged
            continue
        made[f"{name}, merged"] = merged
    where = ["q", "v", "query", "value"]
    rivals = {
        "PEFT LoRA r1": peft.LoraConfig(r=1, target_modules=where),
        "PEFT LoKr": peft.LoKrConfig(r=16, alpha=16, target_modules=where),
    }
    for name, rival in rivals.items():
        made[name] = shaken(peft.get_peft_model(copy.deepcopy(plain), rival)).eval()
        made[f"{name}, merged"] = copy.deepcopy(made[name]).merge_and_unload().eval()
    return made


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """`model`, whose trained numbers are no longer those that change nothing."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.01)
    return model


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder or hub id")
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--warm_up", type=int, default=150)
    parser.add_argument("--timed", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    made = {name: model.to(device) for name, model in models(options.plm).items()}
    ids = torch.randint(3, 1000, (1, options.length), device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if made[BASE].config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :2]

    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(options.warm_up + options.timed):
        for name, model in order.sample(list(made.items()), len(made)):
            synchronise(device)
            start = time.perf_counter()
            model(**inputs)
            synchronise(device)
            if turn >= options.warm_up:
                seconds[name].append(time.perf_counter() - start)
    print(f"1 x {options.length} tokens, {device}, {options.threads} thread(s), {options.timed} turns")
    print("| model | ms, median | quartiles | over the base model |\n|---|---|---|---|")
    for name, values in seconds.items():
        first, middle, third = (1000 * value for value in statistics.quantiles(values, n=4))
        over = statistics.median(v / b for v, b in zip(values, seconds[BASE], strict=True))
        print(f"| {name} | {middle:.2f} | {first:.2f} to {third:.2f} | {over:.3f} x |")


def synchronise(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
