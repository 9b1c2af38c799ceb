"""What a step of AdaMix costs over one of its single adapter: time, saved activations, and sizes of the adapter.

    python benchmarks/adamix_cost.py --rounds 9
    python benchmarks/adamix_cost.py --batch_size 4 --length 16

Beside them stands what consistency could be where no expert is drawn: one pass of a doubled batch in place of two
passes. Rounds are interleaved, and a ratio is taken within its round.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from step_time import Step, shared
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.adapters.state import adapter_state
from kronlit.modules.consistency import symmetric_divergence
from kronlit.modules.plm import load_model

FLOOR = "single adapter"
EXPERTS = {
    FLOOR: 1,
    "single adapter, two passes": 1,
    "single adapter, a doubled batch": 1,
    "AdaMix, no consistency": 4,
    "AdaMix, two passes": 4,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--bottleneck_width", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()

    plain = load_model(AutoModelForSequenceClassification, options.plm, num_labels=2)[0]
    steps = {}
    for name, num_experts in EXPERTS.items():
        model = kronlit.inject(shared(plain), kronlit.AdaMix(options.bottleneck_width, num_experts))
        steps[name] = Step(model, options)
        if name.endswith("two passes"):
            steps[name].loss = two_passes(steps[name])
        elif name.endswith("a doubled batch"):
            steps[name].loss = doubled(steps[name])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            taken = step()
            if number:  # the first round warms up
                seconds[name].append(taken)

    print("| variant | ms a step, median | over one | saved activations, MB | adapter, MB | collapsed, MB |")
    print("|---|---|---|---|---|---|")
    for name, values in seconds.items():
        over = statistics.median(v / f for v, f in zip(values, seconds[FLOOR], strict=True))
        model, saved = steps[name].model, steps[name].saved_activations() / 2**20
        before = size(adapter_state(model))
        kronlit.collapse(model)
        row = [name, f"{1000 * statistics.median(values):.0f}", f"{over:.3f} x", f"{saved:.1f}"]
        print(f"| {' | '.join([*row, before, size(adapter_state(model))])} |")


def two_passes(step: Step) -> Callable[[], torch.Tensor]:
    """The loss as `kronlit.modules` computes it."""

    def loss() -> torch.Tensor:
        first, second = step.model(**step.batch), step.model(**step.batch)
        return first.loss + symmetric_divergence(first.logits.log_softmax(-1), second.logits.log_softmax(-1))

    return loss


def doubled(step: Step) -> Callable[[], torch.Tensor]:
    """The same from one pass of twice the rows, whose dropout differs between the halves."""
    labels = step.batch["labels"]
    inputs = {name: value.repeat(2, 1) for name, value in step.batch.items() if name != "labels"}

    def loss() -> torch.Tensor:
        first, second = step.model(**inputs).logits.log_softmax(-1).chunk(2)
        return F.nll_loss(first, labels) + symmetric_divergence(first, second)

    return loss


def size(state: dict[str, torch.Tensor]) -> str:
    """Megabytes of the adapters in `state`, the classifier not counted."""
    return f"{sum(t.numel() * t.element_size() for name, t in state.items() if 'classifier' not in name) / 2**20:.3f}"


if __name__ == "__main__":
    main()
