"""AdaMix and a single adapter on E2E with a tiny GPT-2: that the pipeline learns, writes and scores.

    python benchmarks/e2e.py --data E2E_FOLDER

The script builds a byte-level tokenizer and a GPT-2 from E2E's training file, teaches it a few lines of that by full
fine-tuning, and then trains each method on the frozen model with other lines, all by `kronlit fit`. Scores are over a
part of the test set, `before` those of the model that is frozen. A training that is done is not run again.
"""

import argparse
import csv
import random
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from kronlit.training.checkpoint import AtomicCheckpoint

END = "<|endoftext|>"
METHODS = {
    "adapter": ["AdaMix", "--model.method.num_experts", "1"],
    "AdaMix": ["AdaMix", "--model.method.num_experts", "8", "--model.consistency", "100"],
    "LoRA": ["LoRA", "--model.method.rank", "4", "--model.method.alpha", "32"],
    "AdaMixLoRA": ["AdaMixLoRA", "--model.consistency", "100"],
}
METRICS = ("bleu", "nist", "rouge_l", "cider", "perplexity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.txt, valid.txt and test.txt")
    parser.add_argument("--out", default="runs/e2e")
    parser.add_argument("--methods", nargs="+", default=["adapter", "AdaMix"], choices=list(METHODS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--first", type=int, default=4000, help="training lines of the full fine-tuning")
    parser.add_argument("--first_epochs", default="1")
    parser.add_argument("--second", type=int, default=8000, help="other training lines, of the methods")
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--contexts", type=int, default=100, help="of the test set, and half as many of validation")
    parser.add_argument("--lr", default="2e-3")
    parser.add_argument("--num_beams", default="4")
    options = parser.parse_args()

    out = Path(options.out)
    split(options, out)
    plm = out / "frozen"
    if not plm.exists():
        build(options, out / "untaught")
        fit(options, out, "first", out / "untaught", ["FullFineTuning"], options.first_epochs, "1e-3")
        model = AutoModelForCausalLM.from_pretrained(out / "untaught")
        state = AtomicCheckpoint().load_checkpoint(best(out / "runs/first"))["state_dict"]
        model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()}, strict=False)
        PreTrainedTokenizerFast.from_pretrained(out / "untaught").save_pretrained(plm)
        model.save_pretrained(plm)
    for name in options.methods:
        fit(options, out, "second", plm, METHODS[name], options.epochs, options.lr, name)

    print("| | trained | BLEU | NIST | ROUGE-L | CIDEr | perplexity | s/epoch |\n|---|---|---|---|---|---|---|---|")
    print(f"| before | | {scores(out / 'runs/first')} | |")
    for name in options.methods:
        run = out / "runs" / name
        *_, trained, _ = next(
            line for line in (run / "log.txt").read_text().splitlines() if "over a model" in line
        ).split()
        seconds = [row["train/epoch_seconds"] for row in rows(run) if row.get("train/epoch_seconds")]
        print(f"| {name} | {trained} | {scores(run)} | {float(seconds[-1]):.0f} |")


def split(options: argparse.Namespace, out: Path) -> None:
    """Two folders of other training lines, and the same few contexts of validation and test."""
    lines = Path(options.data, "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    parts = {"first": lines[: options.first], "second": lines[options.first :][: options.second]}
    for folder, chosen in parts.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder / "train.txt").write_text("".join(chosen), encoding="utf-8")
        for name, count in (("valid", options.contexts // 2), ("test", options.contexts)):
            rest = Path(options.data, f"{name}.txt").read_text(encoding="utf-8").splitlines(keepends=True)
            contexts = sorted({line.partition("||")[0] for line in rest})
            kept = set(random.Random(0).sample(contexts, count))
            (out / folder / f"{name}.txt").write_text(
                "".join(line for line in rest if line.partition("||")[0] in kept), encoding="utf-8"
            )


def build(options: argparse.Namespace, folder: Path) -> None:
    """A tokenizer made from the training lines, and a GPT-2 that was taught nothing."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    backend.train([str(Path(options.data, "train.txt"))], trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=END, eos_token=END, unk_token=END)
    words.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(words),
        n_embd=options.width,
        n_layer=options.layers,
        n_head=4,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def fit(
    options: argparse.Namespace,
    out: Path,
    data: str,
    plm: Path,
    method: list[str],
    epochs: str,
    lr: str,
    name: str = "first",
) -> None:
    """One training by the command line, tested at its end."""
    run = out / "runs" / name
    if (run / "done").exists():
        return
    run.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "kronlit", "fit", "--run_dir", str(run), "--test_after_fit", "true"]
    words += ["--model", "CausalLM", "--model.plm", str(plm), "--model.method", *method, "--model.dropout", "0"]
    words += ["--model.lr", lr, "--model.warmup", "0.06", "--model.max_length", "200"]
    words += ["--model.num_beams", options.num_beams]
    words += ["--data", "E2E", "--data.task", "e2e", "--data.path", str(out / data), "--data.batch_size", "16"]
    words += ["--trainer.max_epochs", epochs, "--trainer.gradient_clip_val", "1.0"]
    with (run / "log.txt").open("w") as log:
        if subprocess.run(words, stdout=log, stderr=log).returncode:
            raise SystemExit(f"{name} failed: see {run / 'log.txt'}")
    (run / "done").touch()


def best(run: Path) -> Path:
    """The best checkpoint of the newest run."""
    return max(run.glob("version_*/checkpoints/best*.ckpt"), key=lambda path: path.stat().st_mtime)


def rows(run: Path) -> list[dict[str, str]]:
    """What the newest run logged."""
    newest = max(run.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    return list(csv.DictReader(newest.open()))


def scores(run: Path) -> str:
    """The cells of a run's test scores."""
    tested = next(row for row in rows(run) if row.get("test/bleu"))
    return " | ".join(f"{float(tested[f'test/{name}']):.3f}" for name in METRICS)


if __name__ == "__main__":
    main()
