"""AdaMix against its own single adapter of the merged size: scores over seeds, merged and routed.

    python benchmarks/adamix.py --data GLUE_FOLDER --tasks rte mrpc cola --max_train_samples 1000 --epochs 3

Every training is `kronlit fit` on the mahabadi splits, with the best checkpoint on validation scored on test; a mixture
is scored there three times: as the mean of its experts (which is what merging gives), with an expert drawn at random
for each row, and with the first expert. A run that is done is not run again. What a step costs: `adamix_cost.py`.
"""

import argparse
import csv
import json
import os
import statistics
import sys
from pathlib import Path

from kronlit.__main__ import main as kronlit

VARIANTS = {  # name: experts, weight of the consistency
    "single adapter": (1, 0.0),
    "single adapter, consistency": (1, 1.0),
    "AdaMix, no consistency": (4, 0.0),
    "AdaMix": (4, 1.0),
}
EVALUATIONS = ("mean", "random", "first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with <task>/<split>.parquet")
    parser.add_argument("--plm", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "cola"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--batch_size", default="16")
    parser.add_argument("--bottleneck_width", default="16")
    parser.add_argument("--max_train_samples", default=None)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--out", default="runs/adamix")
    options = parser.parse_args()
    print("| task | variant | evaluated | test score, mean ± sample std | by seed |\n|---|---|---|---|---|", flush=True)
    for task in options.tasks:
        for variant in options.variants:
            for evaluation in EVALUATIONS if VARIANTS[variant][0] > 1 else EVALUATIONS[:1]:
                found = [100 * score(options, task, variant, seed, evaluation) for seed in options.seeds]
                spread = statistics.stdev(found) if len(found) > 1 else float("nan")
                seeds = " ".join(f"{one:.2f}" for one in found)
                mean = f"{statistics.mean(found):.2f} ± {spread:.2f}"
                print(f"| {task} | {variant} | {evaluation} | {mean} | {seeds} |", flush=True)


def score(options: argparse.Namespace, task: str, variant: str, seed: int, evaluation: str) -> float:
    """The test score of one run under one way to evaluate it."""
    folder = Path(options.out, Path(options.plm).name, task, variant.replace(", ", "-").replace(" ", "_"), str(seed))
    done = folder / f"{evaluation}.json"
    if not done.exists():
        words = command(options, task, variant, seed, folder)
        if evaluation == "mean":
            called("fit", *words, "--test_after_fit", "true")
        else:
            called("test", *words, "--ckpt_path", "best", "--model.method.evaluation", evaluation)
        newest = max(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
        rows = list(csv.DictReader(newest.open()))
        done.write_text(json.dumps(next(float(row["test/score"]) for row in rows if row.get("test/score"))))
    return json.loads(done.read_text())


def command(options: argparse.Namespace, task: str, variant: str, seed: int, folder: Path) -> list[str]:
    num_experts, consistency = VARIANTS[variant]
    words = ["--seed_everything", str(seed), "--run_dir", str(folder), "--model", "SequenceClassification"]
    words += ["--model.plm", options.plm, "--model.method", "AdaMix", "--model.method.num_experts", str(num_experts)]
    words += ["--model.method.bottleneck_width", options.bottleneck_width, "--model.consistency", str(consistency)]
    words += ["--model.lr", options.lr, "--model.warmup", "0.06", "--model.weight_decay", "0.1"]
    words += ["--data", "GLUE", "--data.task", task, "--data.path", options.data, "--data.splits", "mahabadi"]
    words += ["--data.batch_size", options.batch_size, "--trainer.max_epochs", options.epochs]
    if options.max_train_samples:
        words += ["--data.max_train_samples", options.max_train_samples]
    return [*words, "--trainer.precision", options.precision, "--trainer.enable_progress_bar", "false"]


def called(*words: str) -> None:
    """`kronlit` with `words`, in this process, its output kept out of the table."""
    arguments, sys.argv = sys.argv, ["kronlit", *words]
    sys.stdout.flush()
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        kronlit()
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)
        sys.argv = arguments


if __name__ == "__main__":
    main()
