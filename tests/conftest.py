"""Tiny models and data, built here: no test reaches a network."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import kronlit.data.tasks as tasks

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "good",
    "bad",
    "film",
    "not",
    "on",
    "in",
    "house",
    "tree",
    "red",
    "blue",
    "is",
    "was",
    "and",
    "of",
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Runs write below the test's own folder, and its cache is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with the special tokens of BERT or T5, and the numbers that T5 answers with."""
    special = ["<pad>", "</s>", "<unk>"] if kind == "t5" else ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    answers = [str(i) for i in range(10)] + [f"{i / 10:.1f}" for i in range(51)]
    vocab = {word: i for i, word in enumerate([*special, *WORDS, *answers, ":", "sentence1", "sentence2", "sentence"])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>" if kind == "t5" else "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind == "t5":
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
        )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A folder with a random BERT, two layers of 48."""
    return bert(tmp_path_factory.mktemp("bert"), 48)


@pytest.fixture(scope="session")
def wide_bert(tmp_path_factory) -> Path:
    """A folder with a random BERT, one layer of 768: the papers' shapes fit."""
    return bert(tmp_path_factory.mktemp("bert768"), 768, layers=1)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory) -> Path:
    """A folder with a random T5, two layers of 48."""
    return t5(tmp_path_factory.mktemp("t5"), 48, layers=2)


@pytest.fixture(scope="session")
def wide_t5(tmp_path_factory) -> Path:
    """A folder with a random T5, one layer of 768: the papers' shapes fit."""
    return t5(tmp_path_factory.mktemp("t5768"), 768, layers=1)


def bert(folder: Path, width: int, layers: int = 2) -> Path:
    torch.manual_seed(0)
    words = tokenizer("bert")
    words.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def t5(folder: Path, width: int, layers: int) -> Path:
    torch.manual_seed(0)
    words = tokenizer("t5")
    words.save_pretrained(folder)
    config = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


SIZES = {"train": 41, "validation": 23, "test": 17}


@pytest.fixture(scope="session")
def glue(tmp_path_factory) -> Path:
    """A folder with a small made-up GLUE in the hub's layout; the labels of the test splits are hidden."""
    folder = tmp_path_factory.mktemp("glue")
    generator = torch.Generator().manual_seed(0)
    for task in tasks.GLUE_TASKS.values():
        splits = [f"{split}{end}" for split in SIZES for end in endings(task, split)]
        for split in splits:
            size = SIZES[split.split("_")[0]] + (
                1100 if task.name in ("qqp", "qnli", "sst2") and split == "train" else 0
            )
            write_split(folder, task, split, size, generator)
    return folder


def endings(task, split):
    if task.name == "ax":
        return [""] if split == "test" else []
    return ["_matched", "_mismatched"] if task.name == "mnli" and split != "train" else [""]


def write_split(folder, task, split, size, generator):
    def draw(n):
        return torch.randint(n, (1,), generator=generator).item()

    rows = {
        column: [" ".join(WORDS[draw(20)] for _ in range(3 + draw(12))) for _ in range(size)] for column in task.columns
    }
    if split.startswith("test"):
        labels = [-1.0 if task.is_regression else -1] * size
    else:
        labels = [draw(51) / 10 if task.is_regression else draw(task.num_labels) for _ in range(size)]
    (folder / task.name).mkdir(exist_ok=True)
    Dataset.from_dict(rows | {"label": labels, "idx": list(range(size))}).to_parquet(
        folder / task.name / f"{split}.parquet"
    )
