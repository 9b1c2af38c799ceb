"""KronA against LoRA at equal parameters: scores over seeds, trainable parameters, seconds an epoch.

    python benchmarks/equal_parameters.py --data GLUE_FOLDER --tasks cola stsb --epochs 3
    python benchmarks/equal_parameters.py --data GLUE_FOLDER --plm T5_FOLDER --model TextToText --tasks rte mrpc

Every run is `kronlit fit` on the mahabadi splits, with the best checkpoint on validation scored on test. A run that is
done is not run again, so the script can be killed and started anew.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

METHODS = {"KronA": [], "LoRA": ["--model.method.rank", "1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with <task>/<split>.parquet")
    parser.add_argument("--plm", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--model", default="SequenceClassification")
    parser.add_argument("--tasks", nargs="+", default=["cola", "stsb"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--lr", default="3e-3")
    parser.add_argument("--batch_size", default="16")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--max_train_samples", default=None)
    parser.add_argument("--out", default="runs/equal_parameters")
    options = parser.parse_args()

    print(
        "| task | method | test score, mean ± sample std | by seed | parameters | s/epoch |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for task in options.tasks:
        for method in options.methods:
            runs = [run(options, task, method, seed) for seed in options.seeds]
            scores = [100 * float(one["test/score"]) for one in runs]
            spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
            seconds = statistics.median(float(one["train/epoch_seconds"]) for one in runs)
            each = " ".join(f"{score:.2f}" for score in scores)
            row = [
                task,
                method,
                f"{statistics.mean(scores):.2f} ± {spread:.2f}",
                each,
                runs[0]["parameters"],
                f"{seconds:.0f}",
            ]
            print(f"| {' | '.join(row)} |", flush=True)


def run(options: argparse.Namespace, task: str, method: str, seed: int) -> dict[str, str]:
    """One training, and the last value of everything it logged."""
    folder = Path(options.out, Path(options.plm).name, task, method, str(seed))
    log = folder / "log.txt"
    done = folder / "version_0" / "metrics.csv"
    if not (done.exists() and "test/score" in done.read_text()):
        folder.mkdir(parents=True, exist_ok=True)
        trains = "[layer_norm]" if options.model == "TextToText" else "[head]"
        command = [sys.executable, "-m", "kronlit", "fit", "--seed_everything", str(seed), "--run_dir", str(folder)]
        command += ["--model", options.model, "--model.plm", options.plm, "--model.method", method, *METHODS[method]]
        command += ["--model.method.trains", trains, "--model.lr", options.lr, "--model.warmup", "0.06"]
        command += ["--data", "GLUE", "--data.task", task, "--data.path", options.data, "--data.splits", "mahabadi"]
        command += ["--data.batch_size", options.batch_size]
        if options.max_train_samples:
            command += ["--data.max_train_samples", options.max_train_samples]
        command += ["--trainer.max_epochs", options.epochs, "--trainer.precision", options.precision]
        command += ["--trainer.gradient_clip_val", "1.0", "--test_after_fit", "true"]
        with log.open("w") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)
        done = max(folder.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    values: dict[str, str] = {}
    for row in csv.DictReader(done.open()):
        values |= {name: value for name, value in row.items() if value}
    last = next(line for line in log.read_text().splitlines() if line.startswith("all, over a model of"))
    return values | {"parameters": last.split()[-2]}


if __name__ == "__main__":
    main()
