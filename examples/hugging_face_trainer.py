"""Train KronA with the Trainer of Transformers on film reviews: python examples/hugging_face_trainer.py.

It needs the extra `demo`, accelerate, and no network.
"""

import sys

import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

import kronlit
from kronlit.data.movie_reviews import read_reviews
from kronlit.modules.plm import EMBEDDED, resolve_path


def main(output: str = "hugging_face_trainer", rows: int = 960) -> None:
    """Train on some rows, score on as many others, and write the adapter below a folder."""
    folder = resolve_path(EMBEDDED)  # or an id of the hub
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    kronlit.inject(model, kronlit.KronA())

    reviews = read_reviews().shuffle(seed=0).select(range(2 * rows))
    tokens = reviews.map(lambda row: tokenizer(row["text"], truncation=True, max_length=64), batched=True)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=f"{output}/trainer",
            per_device_train_batch_size=16,
            num_train_epochs=2,
            learning_rate=1e-2,
            save_strategy="no",  # its checkpoints would hold the frozen model, too
            report_to="none",
            seed=0,
        ),
        train_dataset=tokens.select(range(rows)),
        eval_dataset=tokens.select(range(rows, 2 * rows)),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: {"accuracy": float(np.mean(found.predictions.argmax(1) == found.label_ids))},
    )
    trainer.train()
    print(f"accuracy: {trainer.evaluate()['eval_accuracy']:.3f}")
    kronlit.save(model, f"{output}/adapter")


if __name__ == "__main__":
    main(*sys.argv[1:2])
