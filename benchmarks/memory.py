r"""What `kronlit memory` tells beside what a step takes, for six configs.

    python benchmarks/memory.py --plm SMOLLM2_FOLDER

Each model is loaded and takes two steps on full rows, of which one lacks a token, as a mask belongs to most batches.
On a CPU what is measured is the most that PyTorch's allocator had more in these steps than before them, by its
profiler, and the bytes of the weights; on a GPU `max_memory_allocated`. The resident set of the process is more: it has
mapped files, and freed blocks that the C library keeps. The models beside SmolLM2 are random ones of usual sizes.
"""

import argparse
import itertools
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
    "T5-small, KronA": ("t5", "KronA", "32-true", 8, 64, False),
    "BERT-base, Compacter": ("bert", "Compacter", "32-true", 4, 64, False),
    "BERT-base, FullFineTuning": ("bert", "FullFineTuning", "32-true", 2, 64, False),
    "SmolLM2, KronA": ("smollm2", "KronA", "32-true", 2, 128, False),
    "SmolLM2, KronA, bf16-mixed": ("smollm2", "KronA", "bf16-mixed", 2, 128, False),
    "SmolLM2, LoRA, recomputed": ("smollm2", "LoRA", "32-true", 2, 128, True),
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


def measure(name: str, folders: dict[str, str]) -> int:
    """The bytes that a step takes, with the model's weights."""
    _, _, precision, rows, _, _ = CONFIGS[name]
    module = make(name, folders)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module._frozen_dtype = AUTOCAST.get(precision, torch.float32)
    module.configure_model()
    module.to(device)
    batch = made_up_batch(module, rows)
    batch["attention_mask"][0, -1] = 0
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    groups = parameter_groups(module, module.lr, 0.0, set())
    optimizer = new_optimizer(module.optimizer, groups, module.lr, 0.0, module.optimizer_args)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            with torch.autocast(device, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
                loss = module.train_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    weights = {id(tensor): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    return max(itertools.accumulate(sizes)) + sum(weights.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder of SmolLM2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = {kind: str(random_model(kind, Path(place, kind))) for kind in ("bert", "t5")}
        folders["smollm2"] = options.plm
        print("| config | a step | told, MiB | measured, MiB | told / measured |\n|---|---|---|---|---|")
        for name, (_, _, precision, rows, length, _) in CONFIGS.items():
            module = make(name, folders)
            fake = unloaded(module, precision)
            told = step_memory(module, fake, made_up_batch(module, rows), precision, torch.cuda.is_available()).total
            found = measure(name, folders)
            sizes = f"{told / 2**20:.0f} | {found / 2**20:.0f} | {told / found:.2f}"
            print(f"| {name} | {rows} x {length} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
