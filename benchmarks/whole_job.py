"""Wall time of a whole job, from the command to the score: `kronlit fit` against Hugging Face Trainer with PEFT LoKr.

    python benchmarks/whole_job.py --data GLUE_FOLDER --tasks cola rte

One epoch, batch 32, all-MiniLM-L6-v2, query and value, float32, validation at the end. The rival pads each batch to its
longest row (its default), and `pad128` pads to 128 tokens as the papers' code does; `kronlit, bf16` is ours with
`--trainer.precision bf16-mixed`. Rounds are interleaved. The score is GLUE's, on validation.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kronlit.data.tasks import GLUE_TASKS
from kronlit.modules.plm import EMBEDDED, resolve_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with <task>/<split>.parquet")
    parser.add_argument("--tasks", nargs="+", default=["cola", "rte"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rivals", nargs="+", default=["dynamic", "pad128"])
    parser.add_argument("--bf16", action="store_true", help="ours in bfloat16, too")
    parser.add_argument("--run", help="used by the script itself: run this rival on the one task given")
    options = parser.parse_args()
    if options.run:
        train_rival(options.data, options.tasks[0], options.run)
        return
    print("| task | run | wall s, median (all) | kronlit is faster | score |\n|---|---|---|---|---|", flush=True)
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            commands = {"kronlit": kronlit(options.data, task, f"{folder}/ours")}
            if options.bf16:
                low = ["--trainer.precision", "bf16-mixed"]
                commands["kronlit, bf16"] = [*kronlit(options.data, task, f"{folder}/ours, bf16"), *low]
            again = [sys.executable, __file__, "--data", options.data, "--tasks", task, "--run"]
            commands |= {rival: [*again, rival] for rival in options.rivals}
            seconds: dict[str, list[float]] = {name: [] for name in commands}
            scores: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(options.rounds):
                for name, command in commands.items():
                    start = time.perf_counter()
                    run = subprocess.run(
                        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder
                    )
                    seconds[name].append(time.perf_counter() - start)
                    scores[name].append(score_of(run.stdout))
        for name, values in seconds.items():
            each = " ".join(f"{value:.1f}" for value in values)
            ratio = statistics.median(v / k for v, k in zip(values, seconds["kronlit"], strict=True))
            score = " ".join(f"{score:.3f}" for score in scores[name])
            print(
                f"| {task} | {name} | {statistics.median(values):.1f} ({each}) | {ratio:.2f} x | {score} |", flush=True
            )


def kronlit(data: str, task: str, folder: str) -> list[str]:
    """The command of ours."""
    return [
        *(sys.executable, "-m", "kronlit", "fit", "--run_dir", folder, "--trainer.max_epochs", "1"),
        *("--model", "SequenceClassification", "--model.plm", EMBEDDED, "--model.method", "KronA"),
        *("--data", "GLUE", "--data.task", task, "--data.path", str(Path(data).resolve()), "--data.batch_size", "32"),
    ]


def score_of(printed: str) -> float:
    """The score that a run came to: the rival prints it, ours names the folder that holds it."""
    last = printed.strip().splitlines()[-1]
    if last.startswith("score"):
        return float(last.split()[1])
    summary = Path(last.removeprefix("run directory: "), "summary.json")
    return float(json.loads(summary.read_text())["scores"]["val/score"])


def glue_score(task: str, labels: Any, predictions: Any) -> float:
    """GLUE's, by scikit-learn."""
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if task == "cola":
        return float(matthews_corrcoef(labels, predictions))
    accuracy = float(accuracy_score(labels, predictions))
    return (accuracy + float(f1_score(labels, predictions))) / 2 if task in ("mrpc", "qqp") else accuracy


def train_rival(data: str, task: str, padding: str) -> None:
    """One epoch with Trainer and PEFT, as their documentation has it."""
    from datasets import load_dataset
    from peft import LoKrConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = Path(data, task)
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    rows = load_dataset("parquet", data_files=files)
    plm = resolve_path(EMBEDDED)
    words = AutoTokenizer.from_pretrained(plm)
    columns = GLUE_TASKS[task].columns
    pad = "max_length" if padding == "pad128" else False
    rows = rows.map(
        lambda batch: words(*[batch[c] for c in columns], truncation=True, max_length=128, padding=pad), batched=True
    )
    model = AutoModelForSequenceClassification.from_pretrained(plm, num_labels=2)
    config = LoKrConfig(task_type=TaskType.SEQ_CLS, r=16, alpha=16, target_modules=["query", "value"])
    arguments = TrainingArguments(
        output_dir="rival",
        num_train_epochs=1,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=1e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=["tensorboard"],
    )
    trainer = Trainer(
        get_peft_model(model, config),
        arguments,
        data_collator=DataCollatorWithPadding(words),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        compute_metrics=lambda p: {"score": glue_score(task, p.label_ids, p.predictions.argmax(-1))},
    )
    trainer.train()
    print("score", next(entry["eval_score"] for entry in trainer.state.log_history if "eval_score" in entry))


if __name__ == "__main__":
    main()
