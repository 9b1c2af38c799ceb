"""What the methods score over seeds, and what they cost: trained per cent, seconds an epoch, peak memory.

    python benchmarks/scores.py --data GLUE_FOLDER --tasks cola stsb --methods KronA LoRA --epochs 3
    python benchmarks/scores.py --data GLUE_FOLDER --plm T5_FOLDER --model TextToText --tasks rte mrpc cola

Every run is `kronlit fit` on the mahabadi splits, with the best checkpoint on validation scored on test. A run that is
done is not run again, so the script can be killed and started anew, and several can share the work by `--seeds`.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

# A class, after which a dash may tell it from the same with other arguments, and its arguments. What is added learns at
# `--lr`; a whole model needs a tenth of that.
METHODS = {
    "KronA": [],
    "KronAB": [],
    "KronABRes": [],
    "Compacter": [],
    "CompacterPP": [],
    "LoRA": ["--model.method.rank", "1"],
    "SURM-circulant": ["--model.method.structure", "circulant"],
    "SURM-toeplitz": ["--model.method.structure", "toeplitz"],
    "SURM-kronecker": ["--model.method.structure", "kronecker"],
    "SURM-ldr": ["--model.method.structure", "ldr"],
    "SURMAdapter-circulant": ["--model.method.structure", "circulant"],
    "SURMAdapter-toeplitz": ["--model.method.structure", "toeplitz"],
    "SURMAdapter-kronecker": ["--model.method.structure", "kronecker"],
    "SURMAdapter-ldr": ["--model.method.structure", "ldr"],
    "BitFit": [],
    "FullFineTuning": [],
}
OWN_GROUPS = ("BitFit", "FullFineTuning")  # these say themselves what they train beside what is added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with <task>/<split>.parquet")
    parser.add_argument("--plm", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--model", default="SequenceClassification")
    parser.add_argument("--tasks", nargs="+", default=["cola", "stsb"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch_size", default="16")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--max_train_samples", default=None)
    parser.add_argument("--out", default="runs/scores")
    options = parser.parse_args()

    print(
        "| task | method | test score, mean ± sample std | by seed | trained | per cent | s/epoch | peak memory, GB |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for task in options.tasks:
        for method in options.methods:
            runs = [run(options, task, method, seed) for seed in options.seeds]
            scores = [100 * one["score"] for one in runs]
            spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
            row = [
                task,
                method,
                f"{statistics.mean(scores):.2f} ± {spread:.2f}",
                " ".join(f"{score:.2f}" for score in scores),
                runs[0]["trained"],
                runs[0]["per cent"],
                f"{statistics.median(one['epoch_seconds'] for one in runs):.0f}",
                f"{statistics.median(one['peak_gb'] for one in runs):.2f}",
            ]
            print(f"| {' | '.join(row)} |", flush=True)


def run(options: argparse.Namespace, task: str, method: str, seed: int) -> dict[str, object]:
    """One training: its test score and costs, from its folder if it was run before."""
    folder = Path(options.out, Path(options.plm).name, task, method, str(seed))
    done = folder / "result.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command(options, task, method, seed, folder), stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{task}, {method}, seed {seed} failed: see {folder / 'log.txt'}")
        done.write_text(json.dumps(result(folder) | {"peak_gb": usage.ru_maxrss / 2**20}))
    return json.loads(done.read_text())


def command(options: argparse.Namespace, task: str, method: str, seed: int, folder: Path) -> list[str]:
    lr = options.lr / 10 if method == "FullFineTuning" else options.lr
    words = [sys.executable, "-m", "kronlit", "fit", "--seed_everything", str(seed), "--run_dir", str(folder)]
    words += ["--model", options.model, "--model.plm", options.plm]
    words += ["--model.method", method.split("-")[0], *METHODS[method]]
    if method not in OWN_GROUPS:
        words += ["--model.method.trains", "[layer_norm]" if options.model == "TextToText" else "[head]"]
    words += ["--model.lr", str(lr), "--model.warmup", "0.06"]
    words += ["--data", "GLUE", "--data.task", task, "--data.path", options.data, "--data.splits", "mahabadi"]
    words += ["--data.batch_size", options.batch_size]
    if options.max_train_samples:
        words += ["--data.max_train_samples", options.max_train_samples]
    words += ["--trainer.max_epochs", options.epochs, "--trainer.precision", options.precision]
    return [*words, "--trainer.gradient_clip_val", "1.0", "--test_after_fit", "true"]


def result(folder: Path) -> dict[str, object]:
    """What the newest run in `folder` logged."""
    newest = max(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    rows = list(csv.DictReader(newest.open()))
    lines = (folder / "log.txt").read_text().splitlines()
    *_, trained, per_cent = next(line for line in lines if line.startswith("all, over a model of")).split()
    return {
        "score": next(float(row["test/score"]) for row in rows if row.get("test/score")),
        "epoch_seconds": statistics.median(
            float(row["train/epoch_seconds"]) for row in rows if row.get("train/epoch_seconds")
        ),
        "trained": trained,
        "per cent": per_cent,
    }


if __name__ == "__main__":
    main()
