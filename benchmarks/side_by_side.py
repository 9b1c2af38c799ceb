"""Small runs side by side against the same runs one after another: wall time of a training step of all, and its parts.

    python benchmarks/side_by_side.py
    python benchmarks/side_by_side.py --plm roberta-large --batch_sizes 2 4 8 --lengths 32 128 --runs 4 16

A step is forward, backward and AdamW of every run, on made-up batches with dropout. `apart` has the runs one after
another in one process; `together` has their passes computed as one, as `kronlit study --side_by_side` does. What a
process takes to start, which runs side by side pay once, is not in it. Rounds are interleaved.
"""

import argparse
import statistics
import time

import torch
from step_time import synchronise
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.data.tasks import GLUE_TASKS
from kronlit.experimental.side_by_side.passes import Group, Pass, backward
from kronlit.experimental.side_by_side.turns import Surroundings
from kronlit.modules import SequenceClassification
from kronlit.modules.plm import EMBEDDED, resolve_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", help="folder or hub id; by default the embedded all-MiniLM-L6-v2")
    parser.add_argument("--runs", nargs="+", type=int, default=[8])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--lengths", nargs="+", type=int, default=[16, 32, 128])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"KronA, {device}, {torch.get_num_threads()} threads")
    print("| runs | rows | tokens | apart, ms | together, ms | apart / together |\n|---|---|---|---|---|---|")
    for count in options.runs:
        modules = made(options.plm or resolve_path(EMBEDDED), count, device)
        for rows in options.batch_sizes:
            for length in options.lengths:
                taken = compare(modules, rows, length, options.rounds)
                ratio = statistics.median(a / t for a, t in zip(*taken, strict=True))
                apart, together = (1000 * statistics.median(each) for each in taken)
                print(f"| {count} | {rows} | {length} | {apart:.0f} | {together:.0f} | {ratio:.2f} |", flush=True)


def made(plm: str, count: int, device: str) -> list[SequenceClassification]:
    """Modules of so many runs."""
    modules = []
    for _ in range(count):
        module = SequenceClassification(plm, kronlit.KronA(trains=("head",)), GLUE_TASKS["sst2"])
        module.model = AutoModelForSequenceClassification.from_pretrained(plm, num_labels=2).to(device)
        kronlit.inject(module.model, module.method).train()
        modules.append(module)
    return modules


def compare(
    modules: list[SequenceClassification], rows: int, length: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each round, apart and together."""
    optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-6) for m in modules]
    batches = [made_up(rows, length, seed, modules[seed].model.device) for seed in range(len(modules))]
    group = Group()
    for module in modules:
        group.add(module, "")
    group.turns = Members(len(modules))

    def apart() -> None:
        for module, batch in zip(modules, batches, strict=True):
            module.training_pass(batch)[0].mean().backward()

    def together() -> None:
        asked = {i: Pass(m, b) for i, (m, b) in enumerate(zip(modules, batches, strict=True))}
        parts = group.serve(asked)
        for part in parts.values():
            part.outer[0].mean().backward()
        backward(list(parts.values()))

    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        for passes, taken in zip((apart, together), seconds, strict=True):
            synchronise()
            start = time.perf_counter()
            passes()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            synchronise()
            if number > 1:  # the first rounds warm up
                taken.append(time.perf_counter() - start)
    return seconds


def made_up(rows: int, length: int, seed: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, 2000, (rows, length), generator=generator).to(device)
    label = torch.randint(2, (rows,), generator=generator).to(device)
    return {"row": torch.arange(rows), "label": label, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Members:
    """Stands for the turns of threads: there are none here, and each run has random numbers of its own all the same."""

    def __init__(self, count: int) -> None:
        self.surroundings = [Surroundings.now() for _ in range(count)]


if __name__ == "__main__":
    main()
