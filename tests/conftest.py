"""Tiny models and data, built here: no test reaches a network."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core, and what it starts

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import kronlit.data.tasks as tasks
from kronlit.__main__ import main
from kronlit.adapters.state import adapter_state
from kronlit.exchange.saved_run import configured

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
    """A word-level tokenizer with the special tokens of BERT, T5 or GPT-2, and the numbers that T5 answers with."""
    if kind == "gpt2":
        vocab = {word: i for i, word in enumerate(["<|endoftext|>", *WORDS, "|", ":", ",", "."])}
        backend = Tokenizer(models.WordLevel(vocab, unk_token="<|endoftext|>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")  # and nothing to pad with
        return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **end)
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


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory) -> Path:
    """A folder with a random GPT-2, two layers of 48, 64 positions."""
    torch.manual_seed(0)
    folder, words = tmp_path_factory.mktemp("gpt2"), tokenizer("gpt2")
    words.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(words), n_embd=48, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight *= 5  # so that it writes something
        model.transformer.wte.weight[0] = 0  # before it ends
        model.transformer.wpe.weight *= 20
    model.save_pretrained(folder)
    return folder


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
        vocab_size=128,
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


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory) -> Path:
    """A folder with a random ViT, two layers of 48, for images of 16 x 16 and four classes."""
    return vit(tmp_path_factory.mktemp("vit"), 48, layers=2)


@pytest.fixture(scope="session")
def wide_vit(tmp_path_factory) -> Path:
    """A folder with a random ViT, one layer of 768: the papers' shapes fit."""
    return vit(tmp_path_factory.mktemp("vit768"), 768, layers=1)


def vit(folder: Path, width: int, layers: int) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        image_size=16,
        patch_size=4,
        num_labels=4,
        hidden_dropout_prob=0.1,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture
def kronlit(monkeypatch, capsys):
    """Runs a command line in this process; gives its exit code and what it printed on either stream."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kronlit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def config(tmp_path, tiny_bert, glue):
    """A small run, as a YAML."""
    content = {
        "model": {
            "class_path": "SequenceClassification",
            "init_args": {"plm": str(tiny_bert), "method": {"class_path": "KronA"}},
        },
        "data": {"class_path": "GLUE", "init_args": {"task": "rte", "path": str(glue), "splits": "mahabadi"}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def small_disk(tmp_path):
    """A folder of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk takes root and the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


CLASSES = ("cat", "dog", "tree")


@pytest.fixture
def run_of(tmp_path, glue):
    """Makes the folder of a run whose trained numbers are random, as `fit` would leave it; gives it and its tensors."""

    def make(plm, method, model="SequenceClassification", data=None, **arguments):
        room = {"max_length": 40, "max_new_tokens": 16} if model == "CausalLM" else {}  # of the tiny one's 64 positions
        config = {
            "seed_everything": 42,
            "model": {
                "class_path": model,
                "init_args": room | {"plm": str(plm), "method": {"class_path": method, "init_args": arguments}},
            },
            "data": data or {"class_path": "GLUE", "init_args": {"task": "rte", "path": str(glue)}},
            "trainer": {"precision": "bf16-mixed"},
        }
        module = configured(config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = tmp_path / "run/version_0"
        (folder / "checkpoints").mkdir(parents=True)
        state = adapter_state(module)
        torch.save({"state_dict": state, "kronlit": module._origin()}, folder / "checkpoints/best-epoch=0-step=1.ckpt")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "summary.json").write_text(json.dumps({"scores": {"val/accuracy": 0.5}, "parameters": 47906}))
        return folder, {name.removeprefix("model."): tensor for name, tensor in state.items()}

    return make


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder with made-up images of 20 x 24, in the hub's layout of CIFAR-10: the class is the brightest channel."""
    folder = tmp_path_factory.mktemp("images")
    for split, size in {"train": 41, "test": 17}.items():
        image_rows(size, seed=len(split)).to_parquet(folder / f"{split}.parquet")
    return folder


def image_rows(size: int, seed: int = 0) -> Dataset:
    generator = np.random.default_rng(seed)
    labels = generator.integers(len(CLASSES), size=size)
    pictures = generator.integers(180, size=(size, 20, 24, 3), dtype=np.uint8)
    pictures[np.arange(size), :, :, labels] += 70
    columns = {"img": [PIL.Image.fromarray(picture) for picture in pictures], "label": labels.tolist()}
    return Dataset.from_dict(columns, features=Features({"img": Image(), "label": ClassLabel(names=list(CLASSES))}))


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


@pytest.fixture(scope="session")
def e2e(tmp_path_factory) -> Path:
    """A folder with a small made-up E2E: 41 training texts, and 23 and 17 others for 9 and 7 contexts."""
    folder = tmp_path_factory.mktemp("e2e")
    generator = torch.Generator().manual_seed(0)

    def some(least, most):
        count = least + torch.randint(most - least, (1,), generator=generator).item()
        return " ".join(WORDS[torch.randint(20, (1,), generator=generator)] for _ in range(count))

    for name, size, contexts in (("train", 41, 20), ("valid", 23, 9), ("test", 17, 7)):
        given = [f"{some(1, 3)} : {some(1, 3)} | {WORDS[number]} : {some(1, 4)}" for number in range(contexts)]
        lines = [f"{given[i % contexts]}||{some(3, 9)} . \n" for i in range(size)]
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
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


# One row of each task as the hub has it, and how it reads in seq2seq/data/tasks.py of Compacter's code
ROWS = {
    "boolq": ({"question": "is it", "passage": "It is."}, "question: is it passage: It is."),
    "cb": ({"premise": "A b", "hypothesis": "c"}, "premise: A b hypothesis: c"),
    "copa": (
        {"premise": "P", "choice1": "A", "choice2": "B", "question": "effect"},
        "premise: P choice1: A choice2: B question: effect",
    ),
    "multirc": (
        {
            "paragraph": "<b>Sent 1: </b>One.<br>Two",
            "question": "Which?",
            "answer": "<b>one</b>",
            "idx": {"paragraph": 0, "question": 7, "answer": 1},
        },
        "question: Which? answer: one paragraph: Sent 1: One. Two",
    ),
    "record": (
        {
            "query": "A @placeholder is a bird.",
            "entities": ["penguin", "potato", "pigeon"],
            "passage": "Birds!\n@highlight\nThey fly\n@highlight\nSome do",
            "answers": ["penguin", "pigeon"],
            "idx": {"passage": 0, "query": 0},
        },
        "record query: A @placeholder is a bird. entities: penguin, potato, pigeon passage: Birds! They fly. Some do",
    ),
    "rte": ({"premise": "A b", "hypothesis": "c"}, "premise: A b hypothesis: c"),
    "wic": (
        {"word": "class", "sentence1": "a class", "sentence2": "first class"},
        "sentence1: a class sentence2: first class word: class",
    ),
    "wsc": (
        {
            "text": "This is a test sentence .",
            "span1_text": "test",
            "span1_index": 3,
            "span2_text": "This",
            "span2_index": 0,
        },
        "text: # This # is a * test * sentence .",
    ),
}
SUPER_GLUE_SIZES = {"train": 31, "validation": 23, "test": 9}


@pytest.fixture(scope="session")
def super_glue(tmp_path_factory):
    """A small made-up SuperGLUE in the hub's layout: the rows above, over and over, with a word that numbers them."""
    root = tmp_path_factory.mktemp("super_glue")
    for name, (row, _) in ROWS.items():
        for split, size in SUPER_GLUE_SIZES.items():
            size += 1000 * (name == "record" and split == "train")
            rows = [numbered(name, row, number, split) for number in range(size)]
            (root / name).mkdir(exist_ok=True)
            Dataset.from_list(rows).to_parquet(root / name / f"{split}.parquet")
    return root


def numbered(name, row, number, split):
    row = dict(row)
    if name == "record":
        row["query"] += f" {number}"
        row["answers"] = [] if split == "test" else row["answers"][: 1 + number % 2]
        return row | {"idx": {"passage": 0, "query": number}}
    if name == "multirc":
        row["idx"] = {"paragraph": 0, "question": number // 3, "answer": number % 3}
        row["answer"] += f" {number}"
    else:
        row["idx"] = number
    return row | {"label": -1 if split == "test" else number % len(tasks.SUPER_GLUE_TASKS[name].labels)}


# --- prompts ---

# Words that are one token each, with a space before them and without
LABEL_WORDS = ["terrible", "great", "bad", "okay", "good", "subjective", "objective", "incorrect", "correct"]
LABEL_WORDS += ["Description", "Entity", "Expression", "Human", "Location", "Number", "No", "Yes", "Maybe"]
PROMPT_WORDS = [*LABEL_WORDS, "It", "was", "This", "is", *WORDS, "The", "A", "the", "who", "ran"]


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE as RoBERTa's, in which each of `PROMPT_WORDS` is one token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([f"{space}{word}" for word in PROMPT_WORDS for space in ("", " ")], trainer)
    names = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, special, strict=True)), eos_token="</s>", model_max_length=512
    )


def word_tokenizer(special: list[str], **names: str) -> PreTrainedTokenizerFast:
    """Whole words in lower case and punctuation, as BERT's or T5's for those of `PROMPT_WORDS`."""
    words = sorted({word.lower() for word in PROMPT_WORDS}) + list(".,:?!")
    vocab = {word: number for number, word in enumerate([*special, *words])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=names["unk_token"]))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inputs = (
        ["input_ids", "token_type_ids", "attention_mask"] if "[MASK]" in special else ["input_ids", "attention_mask"]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, model_input_names=inputs, **names)


@pytest.fixture(scope="session")
def mlm_roberta(tmp_path_factory) -> Path:
    """A folder with a random RoBERTa with its masked-language-model head, two layers of 48."""
    folder, words = tmp_path_factory.mktemp("roberta"), byte_level_tokenizer()
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(words), max_position_embeddings=300, type_vocab_size=1, pad_token_id=1, **SMALL
    )
    return saved(folder, words, RobertaForMaskedLM(config))


@pytest.fixture(scope="session")
def mlm_bert(tmp_path_factory) -> Path:
    """A folder with a random BERT with its masked-language-model head, two layers of 48."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    names = dict(zip(("pad_token", "cls_token", "sep_token", "unk_token", "mask_token"), special, strict=True))
    folder, words = tmp_path_factory.mktemp("mlm-bert"), word_tokenizer(special, **names)
    torch.manual_seed(0)
    return saved(
        folder, words, BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=300, **SMALL))
    )


@pytest.fixture(scope="session")
def span_t5(tmp_path_factory) -> Path:
    """A folder with a random T5 whose tokenizer has the span token, two layers of 48."""
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    folder, words = tmp_path_factory.mktemp("span-t5"), word_tokenizer([*names.values(), "<extra_id_0>"], **names)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(words), d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return saved(folder, words, T5ForConditionalGeneration(config))


SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


def saved(folder: Path, words, model) -> Path:
    words.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


SCORES = (0.0, 1.2, 2.4, 2.5, 3.8, 5.0)


@pytest.fixture(scope="session")
def lm_bff(tmp_path_factory) -> Path:
    """A folder of made-up original data in LM-BFF's layout, forty rows of each class of each task."""
    folder = tmp_path_factory.mktemp("lm_bff")
    generator = torch.Generator().manual_seed(1)
    layouts = {task: known.layout for task, known in tasks.few_shot.TASKS.items() if known.layout}
    for task, layout in layouts.items():
        labels = layout.names or (SCORES if task == "stsb" else range(len(tasks.FEW_SHOT_TASKS[task].labels)))
        split_names = (
            ("train", "test") if layout.suffix == ".csv" else ("train", "dev", "dev_matched", "dev_mismatched")
        )
        (folder / layout.name).mkdir(exist_ok=True)
        for split in split_names:
            size = len(labels) * (40 if split == "train" else 4)
            rows = [made_up_row(layout, str(labels[number % len(labels)]), generator) for number in range(size)]
            header = [] if layout.suffix == ".csv" or task == "cola" else [["column"] * len(rows[0])]
            with (folder / layout.name / f"{split}{layout.suffix}").open("w", newline="") as file:
                if layout.suffix == ".csv":
                    csv.writer(file).writerows(rows)
                else:
                    file.writelines("\t".join(row) + "\n" for row in header + rows)
    return folder


def made_up_row(layout, label, generator):
    width = max(*layout.texts, layout.label) + 1 + (layout.label == -1)
    row = ["x"] * width
    for column in layout.texts:
        words = torch.randint(len(WORDS), (3 + len(label) % 4,), generator=generator).tolist()
        row[column] = " ".join(WORDS[word] for word in words) + " ."
    row[layout.label] = label
    return row
