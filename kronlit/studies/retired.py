"""Maps names of YAMLs from earlier versions to words that mean the same now. To be removed with version 0.3."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from os.path import isfile
from pathlib import Path

from kronlit.config.files import read_yaml
from kronlit.config.shipped import config_path, shipped_folder
from kronlit.studies.study import Study

TASKS = "cola|rte|mrpc|sst2|stsb|mnli|qnli|qqp"
STRUCTURES = "circulant|toeplitz|kronecker|ldr"
LARGE = ("mnli", "qnli", "qqp", "sst2", "multirc", "record")
BRANCHES = {"krona_ab": "KronA^B", "krona_ab_res": "KronA^B_res", "pa": "PA", "lora": "LoRA"}
MODELS = {"roberta": "AdaMix, RoBERTa-large", "bert": "AdaMix, BERT-base"}
GENERATORS = {"lora": "LoRA", "adamix": "AdaMix Adapter", "adamix_lora": "AdaMix LoRA"}
FILTER = "sentence-transformers/roberta-large-nli-stsb-mean-tokens"


def retired_words(name: str) -> list[str] | None:
    """The words that replace `--config NAME` for the name of a former YAML; `None` if there was none of this name."""
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    for pattern, words in RETIRED:
        if found := re.fullmatch(pattern, stem):
            return words(*found.groups())
    return None


def cell(study: str, method: str, task: str) -> list[str]:
    """The words of a run of a shipped study, without its seed and its scored rows."""
    from kronlit.studies.plan import make_run  # late, because it imports this module

    content = read_yaml(shipped_folder() / f"studies/{study}.yaml")
    found = make_run(replace(Study(**content | {"published": None}), seed_sets=[]), task, method, {}, 0)
    return [*found.words, "--scored_rows", "false"]


def file(name: str, **options: str) -> list[str]:
    """The words for a shipped YAML and further options."""
    words = ["--config", config_path(name)]
    for option, value in options.items():
        words += [f"--{option.replace('__', '.')}", value]
    return words


def method(name: str, **arguments: str) -> list[str]:
    """The words for a method's YAML and further arguments of the method."""
    return file(f"methods/{name}", **{f"model__method__{key}": value for key, value in arguments.items()})


def options_of_task(task: str) -> list[str]:
    """The words for a task of GLUE or SuperGLUE, with the epochs of Mahabadi et al."""
    words = ["--data.task", task, "--trainer.max_epochs", "3" if task in LARGE else "20"]
    return [*words, "--data.copa_question", "false"] if task == "copa" else words


RETIRED: tuple[tuple[str, Callable[..., list[str]]], ...] = (
    (r"(bert_glue|t5_glue|t5_super_glue|lm_bff|adamix_few_shot)", lambda name: file(f"bases/{name}")),
    (r"list_few_shot", lambda: method("list")),
    (
        r"lm_bff_demonstrations",
        lambda: ["--model.demonstrations", "true", "--model.demonstration_filter", FILTER],
    ),
    (rf"(krona_ab|krona_ab_res|pa|lora)_({TASKS})", lambda name, task: cell("krona_table_1", BRANCHES[name], task)),
    (rf"adamix_(roberta|bert)_({TASKS})", lambda plm, task: cell("adamix_glue", MODELS[plm], task)),
    (
        r"(lora|adamix|adamix_lora)_gpt2_(e2e|webnlg|dart)",
        lambda name, task: cell("adamix_nlg", GENERATORS[name], task),
    ),
    (r"methods/(compacter|compacter_pp|phm_adapter)_n(\d+)", lambda name, n: method(name, phm_dim=n)),
    (r"methods/prompt_tuning_vocabulary", lambda: method("prompt_tuning")),
    (r"methods/prompt_tuning_random", lambda: [*method("prompt_tuning", init="random"), "--model.lr", "3e-2"]),
    (rf"methods/(surm|surm_adapter)_({STRUCTURES})", lambda name, structure: method(name, structure=structure)),
    (r"tasks/(\w+)", options_of_task),
)


def current_words(words: list[str], folder: str = "") -> list[str]:
    """The words of a command line with the names of former YAMLs replaced.

    Args:
        words: the words after the command.
        folder: the subfolder of the shipped YAMLs to look in first.
    """
    out: list[str] = []
    for option, value in option_pairs(words):
        path = config_path(value, folder) if option == "--config" else value
        now = retired_words(value) if option == "--config" and not isfile(path) else None
        out += [word for word in (option, path) if word] if now is None else now
    return out


def option_pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Each `--config` with its value, and every other word with an empty value."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in ("-c", "--config") and waiting:
            yield "--config", waiting.pop(0)
        elif word.startswith("--config="):
            yield "--config", word.removeprefix("--config=")
        else:
            yield word, ""


def with_run_dir(words: list[str]) -> list[str]:
    """`current_words` with `--run_dir` added, if replaced names would otherwise change the folder of the runs."""
    now = current_words(words)
    before, after = ([Path(value).stem for option, value in option_pairs(some) if value] for some in (words, now))
    if before == after or any(word.split("=")[0] == "--run_dir" for word in words):
        return now
    return [*now, "--run_dir", str(Path("runs", "-".join(before)))]
