"""Train KronA with a plain PyTorch loop on film reviews, keep the adapter, and merge: python examples/plain_pytorch.py.

It needs the extra `demo`, which has the model and the rows, and no network.
"""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import kronlit
from kronlit.data.movie_reviews import read_reviews
from kronlit.modules.plm import EMBEDDED, resolve_path


def main(output: str = "plain_pytorch", rows: int = 960) -> None:
    """Train on some rows, score on as many others, and write an adapter and a merged model below a folder."""
    torch.manual_seed(0)
    folder = resolve_path(EMBEDDED)  # or an id of the hub
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    kronlit.inject(model, kronlit.KronA())
    print(kronlit.trainable_report(model))

    reviews = read_reviews().shuffle(seed=0).select(range(2 * rows))
    train, test = reviews.select(range(rows)), reviews.select(range(rows, 2 * rows))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for start in range(0, rows, 16):
        batch = train[start : start + 16]
        tokens = tokenizer(batch["text"], padding=True, truncation=True, max_length=64, return_tensors="pt")
        loss = model(**tokens, labels=torch.tensor(batch["label"])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, rows, 64):
            batch = test[start : start + 64]
            tokens = tokenizer(batch["text"], padding=True, truncation=True, max_length=64, return_tensors="pt")
            right += int((model(**tokens).logits.argmax(1) == torch.tensor(batch["label"])).sum())
    print(f"accuracy: {right / rows:.3f}")
    kronlit.save(model, f"{output}/adapter")  # what was trained alone; kronlit.load opens it
    kronlit.merge(model)  # a plain BERT again
    model.save_pretrained(f"{output}/merged")
    tokenizer.save_pretrained(f"{output}/merged")


if __name__ == "__main__":
    main(*sys.argv[1:2])
