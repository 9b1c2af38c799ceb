"""Methods at equal numbers of parameters on MNIST: a small frozen ViT that knows five digits learns the other five.

    python benchmarks/mnist.py --data MNIST_FOLDER
    python benchmarks/mnist.py --data MNIST_FOLDER --methods LoRA KronA SURM:circulant --seeds 1 2

A ViT of 4 layers of width 64 is trained from scratch on the training images of 0 to 4. It is then frozen, and each
method learns 5 to 9 from a thousand images with a new head: the strokes are alike, the shapes are not. LoRA (rank 1),
KronA and every SURM structure have 2 x 64 parameters on each query, key and value, 1,536 in all; HeadOnly has none and
FullFineTuning all. Each method has the learning rate of `--lrs` whose mean accuracy on held-out images is best; printed
is, at that rate, the accuracy on all test images of 5 to 9 after the last epoch. Each seed draws its thousand images
and head. `--data` is a folder with train*.parquet and test.parquet of the hub's columns; without it, the hub.
"""

import argparse
import contextlib
import io
import logging
import statistics
import warnings
from pathlib import Path

import datasets
from lightning.pytorch import Callback, Trainer, seed_everything
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import kronlit
from kronlit.cli.quiet import quieten
from kronlit.data import Images
from kronlit.methods import Method
from kronlit.modules import ImageClassification

SITES = ("query", "key", "value")
METHODS = ["HeadOnly", "LoRA", "KronA", *(f"SURM:{name}" for name in ("circulant", "toeplitz", "ldr", "kronecker"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train*.parquet and test.parquet")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--lrs", nargs="+", type=float, default=[3e-3, 1e-2, 3e-2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--train_samples", type=int, default=1000)
    parser.add_argument("--pretrain_epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    options = parser.parse_args()
    quieten()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    for name, digits in (("first", range(5)), ("second", range(5, 10))):
        if not (options.out / name / "test.parquet").exists():
            write(options.data, options.out / name, digits)
    plm = pretrained(options)
    print("| method | added | head | test accuracy, mean ± sample std | by seed | lr | s/epoch |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.methods:
        tried = {lr: [learn(options, plm, name, lr, seed) for seed in options.seeds] for lr in options.lrs}
        lr = max(tried, key=lambda lr: statistics.mean(run["val"] for run in tried[lr]))
        runs = tried[lr]
        scores = [100 * run["test"] for run in runs]
        spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
        row = [
            name,
            f"{runs[0]['added']:.0f}",
            f"{runs[0]['head']:.0f}",
            f"{statistics.mean(scores):.2f} ± {spread:.2f}",
            " ".join(f"{score:.2f}" for score in scores),
            f"{lr:g}",
            f"{statistics.median(run['seconds'] for run in runs):.2f}",
        ]
        print(f"| {' | '.join(row)} |", flush=True)


def write(source: str | None, folder: Path, digits: range) -> None:
    """The images of some digits, with labels that count from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        if source is None:
            rows = datasets.load_dataset("ylecun/mnist", split=split)
        else:
            rows = datasets.Dataset.from_parquet([str(file) for file in sorted(Path(source).glob(f"{split}*.parquet"))])
        labels = rows["label"]
        rows = rows.select([row for row, label in enumerate(labels) if label in digits])
        names = datasets.ClassLabel(names=[str(digit) for digit in digits])
        shifted = [label - digits[0] for label in rows["label"]]
        rows = rows.remove_columns("label").add_column("label", shifted).cast_column("label", names)
        rows.to_parquet(folder / f"{split}.parquet")


def pretrained(options: argparse.Namespace) -> str:
    """A ViT that was trained from scratch on the first five digits; trained now if it is not there."""
    folder = options.out / "vit"
    if not (folder / "config.json").exists():
        seed_everything(0, verbose=False)
        config = ViTConfig(
            image_size=28,
            patch_size=7,
            num_channels=1,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=256,
            num_labels=5,
        )
        scratch = options.out / "scratch"
        for place in (scratch, folder):
            processor = ViTImageProcessorPil(size={"height": 28, "width": 28}, image_mean=[0.1307], image_std=[0.3081])
            processor.save_pretrained(place)
        ViTForImageClassification(config).save_pretrained(scratch)
        data = Images("mnist", path=str(options.out / "first"), batch_size=64, eval_batch_size=500)
        module = ImageClassification(str(scratch), kronlit.FullFineTuning(), data.task, lr=1e-3, warmup=0.1)
        fitted = fit(module, data, options.pretrain_epochs)
        (scores,) = fitted.test(module, data, verbose=False)
        print(f"pre-trained on 0 to 4: test accuracy {100 * scores['test/accuracy']:.2f}\n")
        assert module.model is not None
        module.model.base_model.save_pretrained(folder)  # without its head
    return str(folder)


def learn(options: argparse.Namespace, plm: str, name: str, lr: float, seed: int) -> dict[str, float]:
    """One training on the other five digits: its scores and costs."""
    seed_everything(seed, verbose=False)
    data = Images(
        "mnist",
        path=str(options.out / "second"),
        batch_size=32,
        eval_batch_size=500,
        max_train_samples=options.train_samples,
        sample_seed=seed,
    )
    module = ImageClassification(plm, method(name), data.task, lr=lr, warmup=0.1)
    seconds = Seconds()
    fitted = fit(module, data, options.epochs, seconds)
    head = sum(p.numel() for n, p in module.named_parameters() if p.requires_grad and "classifier" in n)
    added = sum(p.numel() for p in module.parameters() if p.requires_grad) - head
    val = fitted.callback_metrics["val/accuracy"].item()
    (scores,) = fitted.test(module, data, verbose=False)
    costs = {"added": added, "head": head, "seconds": statistics.median(seconds.epochs)}
    return {"val": val, "test": scores["test/accuracy"]} | costs


def method(name: str) -> Method:
    """A method by its class, and for SURM its structure."""
    kind, _, structure = name.partition(":")
    if kind in ("HeadOnly", "FullFineTuning"):
        return getattr(kronlit, kind)()
    if not hasattr(kronlit, kind):
        raise SystemExit(f"kronlit has no method {kind}.")
    arguments = {"rank": 1} if kind == "LoRA" else {"structure": structure} if structure else {}
    return getattr(kronlit, kind)(sites=SITES, **arguments)


class Seconds(Callback):
    """How long the steps of each epoch took."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: ImageClassification) -> None:
        if not trainer.sanity_checking:
            self.epochs.append(pl_module._last_step - pl_module._epoch_start)


def fit(module: ImageClassification, data: Images, epochs: int, *callbacks: Callback) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the table of what is trained
        trainer.fit(module, data)
    return trainer


if __name__ == "__main__":
    main()
