"""Throughput of rows that each name their adapter: all in one batch, against a batch of each adapter's own rows.

    python benchmarks/many_adapters.py --plm BERT_FOLDER --adapters 4 --rows 32

All read the same rows. `switched` keeps every adapter's model at hand, which takes no time to switch to, and gives it
its rows alone; `switched, row by row` gives rows in the order in which they came, one at a time, as a server without
batches does. Numbers that were trained are random here. Ways take turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

import kronlit

METHODS: dict[str, kronlit.Method] = {"LoRA": kronlit.LoRA(), "KronA": kronlit.KronA(), "Houlsby": kronlit.Houlsby()}


@torch.no_grad()
def models(plm: str, method: kronlit.Method, count: int) -> tuple[Any, list[Any]]:
    """The model with all adapters, and one with each alone."""
    with tempfile.TemporaryDirectory() as folder:
        sources = {str(number): Path(folder, str(number)) for number in range(count)}
        for source in sources.values():
            model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(plm), method)
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.02)
            kronlit.save(model, source)
        return kronlit.load_many(sources), [kronlit.load(source) for source in sources.values()]


def ways_of(
    many: Any, alone: list[Any], ids: torch.Tensor, owner: torch.Tensor
) -> dict[str, Callable[[], torch.Tensor]]:
    """The ways to give rows to their adapters, each a call that gives their logits."""
    names = [str(number) for number in owner.tolist()]

    def switched() -> torch.Tensor:
        out = torch.empty(len(ids), alone[0].config.num_labels)
        for number, model in enumerate(alone):
            own = owner == number
            if own.any():
                out[own] = model(input_ids=ids[own]).logits
        return out

    return {
        "one batch": lambda: many(input_ids=ids, adapters=names).logits,
        "switched": switched,
        "switched, row by row": lambda: torch.cat(
            [alone[number](input_ids=row[None]).logits for number, row in zip(owner, ids, strict=True)]
        ),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder or hub id")
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)
    ids = torch.randint(3, 1000, (options.rows, options.length))
    owner = torch.randint(options.adapters, (options.rows,))
    threads = torch.get_num_threads()
    print(f"{options.rows} rows of {options.length} tokens, {options.adapters} adapters, {threads} thread(s)")
    print("| method | way | rows a second, median | furthest from its adapter alone |\n|---|---|---|---|")
    for name, method in METHODS.items():
        many, alone = models(options.plm, method, options.adapters)
        ways = ways_of(many, alone, ids, owner)
        expected, seconds = ways["switched, row by row"](), {way: [] for way in ways}
        for turn in range(options.turns + 2):
            for way, call in ways.items():
                start = time.perf_counter()
                call()
                if turn > 1:
                    seconds[way].append(time.perf_counter() - start)
        for way, call in ways.items():
            rate, far = options.rows / statistics.median(seconds[way]), (call() - expected).abs().max()
            print(f"| {name} | {way} | {rate:.0f} | {far:.1e} |")


if __name__ == "__main__":
    main()
