r"""What `kronlit memory` tells beside what a step takes, for six configs.

    python benchmarks/memory.py --plm SMOLLM2_FOLDER

Each config is measured in a process of its own, which loads the model and takes three steps on full rows, of which one
lacks a token, as a mask belongs to most batches. On a CPU what is measured is the largest resident set in these steps
(VmHWM, reset after loading) less the resident set before the model is loaded; on a GPU `max_memory_allocated`. The
models beside SmolLM2 are random ones of usual sizes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import kronlit
from kronlit.data.tasks import Task
from kronlit.modules import CausalLM, FrozenPLM, SequenceClassification, TextToText
from kronlit.modules.backbone import AUTOCAST
from kronlit.modules.optimizer import new_optimizer, parameter_groups
from kronlit.training.made_up_rows import made_up_batch
from kronlit.training.memory import step_memory, unloaded

TEXT = Task("mine", ("text",), (), (), "{text}", free_text=True, form="text", jobs=("CausalLM",))
FILMS = Task("films", ("sentence",), ("bad", "good"), ("accuracy",), "{sentence}")
CONFIGS = {  # model, method, precision, rows, tokens, recomputed
    "SmolLM2, KronA": ("smollm2", "KronA", "32-true", 4, 160, False),
    "SmolLM2, KronA, bf16-mixed": ("smollm2", "KronA", "bf16-mixed", 4, 160, False),
    "SmolLM2, LoRA, recomputed": ("smollm2", "LoRA", "32-true", 4, 256, True),
    "BERT-base, Compacter": ("bert", "Compacter", "32-true", 16, 128, False),
    "BERT-base, FullFineTuning": ("bert", "FullFineTuning", "32-true", 4, 128, False),
    "T5-small, KronA": ("t5", "KronA", "32-true", 16, 128, False),
}


def random_model(kind: str, folder: Path) -> Path:
    """A folder with a random BERT-base or T5-small."""
    vocab = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>", "a", "1", "0"])}
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", model_max_length=512, **special)
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig())
    else:
        model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0))
    words.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def make(name: str, folders: dict[str, str]) -> FrozenPLM:
    """The module of a config."""
    kind, method, _, _, length, recomputed = CONFIGS[name]
    job, task = {"smollm2": (CausalLM, TEXT), "bert": (SequenceClassification, FILMS), "t5": (TextToText, FILMS)}[kind]
    options = {"max_length": length, "gradient_checkpointing": recomputed}
    return job(folders[kind], getattr(kronlit, method)(), task, **options)


def resident(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def measure(name: str, folders: dict[str, str]) -> int:
    """The bytes that a step takes, with the model's weights."""
    _, _, precision, rows, _, _ = CONFIGS[name]
    module = make(name, folders)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = made_up_batch(module, rows)
    torch.ones(256, 256).requires_grad_().mm(torch.ones(256, 256)).sum().backward()  # what libraries take once
    before = resident("VmRSS")
    if module.backbone_dtype == "auto":
        module._frozen_dtype = AUTOCAST.get(precision, torch.float32)
    module.configure_model()
    module.to(device)
    batch["attention_mask"][0, -1] = 0
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    groups = parameter_groups(module, module.lr, 0.0, set())
    optimizer = new_optimizer(module.optimizer, groups, module.lr, 0.0, module.optimizer_args)
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        with torch.autocast(device, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            loss = module.train_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder of SmolLM2")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folders", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, json.loads(options.folders)))
        return
    with tempfile.TemporaryDirectory() as place:
        folders = {kind: str(random_model(kind, Path(place, kind))) for kind in ("bert", "t5")}
        folders["smollm2"] = options.plm
        print("| config | a step | told, MiB | measured, MiB | told / measured |\n|---|---|---|---|---|")
        for name, (_, _, precision, rows, length, _) in CONFIGS.items():
            module = make(name, folders)
            fake = unloaded(module, precision)
            cuda = torch.cuda.is_available()
            told = step_memory(module, fake, made_up_batch(module, rows), precision, cuda).total
            words = [sys.executable, __file__, "--plm", options.plm, "--measure", name]
            done = subprocess.run([*words, "--folders", json.dumps(folders)], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found = int(done.stdout.split()[-1])
            sizes = f"{told / 2**20:.0f} | {found / 2**20:.0f} | {told / found:.2f}"
            print(f"| {name} | {rows} x {length} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
