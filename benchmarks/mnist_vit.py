"""What `configs/studies/mnist_vit.yaml` starts from: MNIST cut in two, and a small ViT that knows the first half.

    python benchmarks/mnist_vit.py --data MNIST_FOLDER

A ViT of 4 layers of width 64 is trained from scratch on the training images of 0 to 4, and written to OUT/vit without
its head; the images of 5 to 9 are in OUT/second: the strokes are alike, the shapes are not. `--data` is a folder with
train*.parquet and test.parquet of the hub's columns; without it, the hub.
"""

import argparse
from pathlib import Path

import datasets
from lightning.pytorch import Trainer, seed_everything
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import kronlit
from kronlit.cli.quiet import quieten
from kronlit.data import Images
from kronlit.modules import ImageClassification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train*.parquet and test.parquet")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    options = parser.parse_args()
    quieten()
    for name, digits in (("first", range(5)), ("second", range(5, 10))):
        write(options.data, options.out / name, digits)
    seed_everything(0, verbose=False)
    build(options.out / "scratch")
    accuracy = train(options.out, options.epochs)
    print(f"test accuracy on 0 to 4: {100 * accuracy:.2f}")


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


def processor() -> ViTImageProcessorPil:
    """What makes of an image the model's input: MNIST's own size, mean and standard deviation."""
    return ViTImageProcessorPil(size={"height": 28, "width": 28}, image_mean=[0.1307], image_std=[0.3081])


def build(folder: Path) -> None:
    """A ViT that was taught nothing."""
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
    ViTForImageClassification(config).save_pretrained(folder)
    processor().save_pretrained(folder)


def train(out: Path, epochs: int) -> float:
    """The accuracy on the first half after training on it; the model is then in `out/vit`."""
    data = Images("mnist", path=str(out / "first"), batch_size=64, eval_batch_size=500)
    module = ImageClassification(str(out / "scratch"), kronlit.FullFineTuning(), data.task, lr=1e-3, warmup=0.1)
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=1.0,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    (scores,) = trainer.test(module, data, verbose=False)
    assert module.model is not None
    module.model.base_model.save_pretrained(out / "vit")  # without its head
    processor().save_pretrained(out / "vit")
    return scores["test/accuracy"]


if __name__ == "__main__":
    main()
