"""Every study that is shipped: its command expands into the runs of the table that it names."""

import shlex
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from fixtures.runs import ROOT

from kronlit.__main__ import main

STUDIES = {path.stem: path for path in sorted((ROOT / "configs/studies").iterdir())}
LM_BFF = [
    "sst2",
    "sst5",
    "mr",
    "cr",
    "mpqa",
    "subj",
    "trec",
    "cola",
    "mnli",
    "snli",
    "qnli",
    "rte",
    "mrpc",
    "qqp",
    "stsb",
]
LIST = ["mnli", "rte", "qqp", "sst2", "subj", "mpqa"]
GLUE = ["cola", "rte", "mrpc", "sst2", "stsb", "mnli", "qnli", "qqp"]
SUPER_GLUE = ["boolq", "cb", "copa", "multirc", "record", "wic"]
# By study: methods times the points of the grid, tasks, seeds
SIZES = {
    "quickstart": (3 * 6, ["film reviews"], 1),  # of its search
    "film_reviews": (12 * 5 + 3 * 2, ["film reviews"], 1),  # as well
    "appointments": (2 * 4, ["appointments"], 1),
    "krona_table_1": (9, GLUE, 3),
    "compacter_table_1": (12, GLUE, 3),
    "compacter_table_2": (12, SUPER_GLUE, 3),
    "adamix_nlg": (3, ["e2e", "webnlg", "dart"], 3),
    "adamix_glue": (4, GLUE, 3),
    "surm_glue": (9, GLUE, 3),
    "lm_bff_16_shot": (3 * 9, LM_BFF, 5),
    "adamix_few_shot": (7, LIST, 5),
    "sixteen_shot": (9 * 5, ["mr", "rte"], 1),
    "glue_flan_t5_small": (11 * 5 + 3 * 2, ["mrpc", "rte", "sst2"], 1),
    "glue_minilm": (12 * 5 + 3 * 2, ["stsb", "cola", "mrpc", "rte"], 1),
    "adamix_minilm": (4, ["rte", "mrpc", "cola"], 3),
    "mnist_vit": (7 * 3, ["digits 5 to 9"], 3),
    "e2e_small": (4, ["e2e"], 1),
}
SEARCHES = dict.fromkeys(("quickstart", "film_reviews", "appointments", "glue_flan_t5_small", "glue_minilm"), 0)
SEARCHES |= {"sixteen_shot": 13}
"""The studies that search a rate first, and the seed of that."""
FIRST_SEED = {"adamix_glue": 0, "lm_bff_16_shot": 13, **SEARCHES}

OWN_ROWS = ("quickstart", "film_reviews", "appointments")  # of the task that the study is named after, or does not name
DEVELOPMENT_SETS = ("adamix_glue", "surm_glue")  # are what these tables are of
every = pytest.mark.parametrize("name", SIZES)


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a command line prints, run where the configs lie."""
    monkeypatch.chdir(ROOT)

    def run(words):
        monkeypatch.setattr(sys, "argv", list(words))
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def header(name):
    return [line for line in STUDIES[name].read_text().splitlines() if line.startswith("#")]


EXPANDED = {}
"""What `commands` found, by study: a command is expanded once for all tests."""


@pytest.fixture
def commands(printed):
    """By task, method and seed, the words of a study's runs, from the command in its header."""

    def expand(name):
        if name in EXPANDED:
            return EXPANDED[name]
        line = next(line for line in header(name) if line.startswith("# kronlit study --config"))
        words = shlex.split(line[1:])
        assert words[3] == f"configs/studies/{name}.yaml"
        lines = printed([*words, "--dry_run", "true"]).splitlines()
        found = {}
        lines = [line for line in lines if not line.startswith("#")]  # a tuned study says what follows its search
        for one in map(shlex.split, lines):
            folder = Path(one[one.index("--run_dir") + 1]).relative_to("runs/studies", name)
            task, *method, seed = folder.parts[folder.parts[0] == "tune" :]
            found[task, "/".join(method), int(seed.removeprefix("seed-"))] = one
        assert len(found) == len(lines)
        EXPANDED[name] = found
        return found

    return expand


def test_every_study_is_under_test():
    assert set(STUDIES) == set(SIZES)


@pytest.mark.parametrize("name", STUDIES)
def test_its_header_names_paper_and_row(name):
    text = " ".join(header(name))
    assert "arXiv:" in text
    assert ", row " in text or "row by row" in text or "No row of a table" in text
    assert len(STUDIES[name].read_text().splitlines()) <= 60  # a table of a paper, and what differs in its cells


@every
def test_its_command_expands_into_all_runs(commands, name):
    methods, tasks, seeds = SIZES[name]
    found = commands(name)
    assert len(found) == methods * len(tasks) * seeds
    assert {task for task, _, _ in found} == {task.replace(" ", "_") for task in tasks}
    assert len({method for _, method, _ in found}) == methods
    for (_, _, seed), words in found.items():
        assert words[words.index("--seed_everything") + 1] == str(seed)


# What a run resolves to, from the papers' tables: class of the method, learning rate, epochs, rows a step
CELLS = {
    ("krona_table_1", "rte", "KronA"): ("KronA", 2e-3, 20, 100),
    ("krona_table_1", "mnli", "KronA^B_res"): ("KronABRes", 1e-3, 20, 100),
    ("krona_table_1", "mrpc", "KronA^B"): ("KronAB", 5e-3, 20, 100),
    ("krona_table_1", "mnli", "Compacter"): ("Compacter", 3e-3, 20, 100),  # 20 epochs everywhere, unlike Compacter's
    ("krona_table_1", "cola", "PA"): ("PA", 3e-3, 20, 100),
    ("krona_table_1", "qqp", "Fine-tuning"): ("FullFineTuning", 3e-4, 20, 100),
    ("compacter_table_1", "mnli", "Compacter++"): ("CompacterPP", 3e-3, 3, 100),
    ("compacter_table_1", "rte", "PHM-Adapter"): ("PHMAdapter", 3e-3, 20, 100),
    ("compacter_table_1", "stsb", "Prompt_tuning-T"): ("PromptTuning", 3e-1, 20, 50),
    ("compacter_table_2", "multirc", "Compacter"): ("Compacter", 3e-3, 3, 32),
    ("compacter_table_2", "copa", "Prompt_tuning-R"): ("PromptTuning", 3e-2, 20, 16),
    ("adamix_nlg", "webnlg", "AdaMix_LoRA"): ("AdaMixLoRA", 2e-4, 25, 8),
    ("adamix_nlg", "dart", "LoRA"): ("LoRA", 2e-4, 5, 8),
    ("adamix_glue", "mnli", "AdaMix_RoBERTa-large"): ("AdaMix", 3e-4, 20, 64),
    ("adamix_glue", "stsb", "AdaMix_BERT-base"): ("AdaMix", 5e-4, 80, 32),
    ("adamix_glue", "stsb", "one_adapter_BERT-base"): ("AdaMix", 5e-4, 80, 32),
    ("surm_glue", "rte", "LDR"): ("SURM", 1e-3, 20, 64),
    ("surm_glue", "mnli", "circulant_adapter"): ("SURMAdapter", 2e-3, 3, 64),
    ("surm_glue", "stsb", "LoRA_rank_1"): ("LoRA", 1e-3, 20, 64),
    ("quickstart", "film_reviews", "LoRA_rank_1/lr=0.01"): ("LoRA", 1e-2, 2, 16),
    ("film_reviews", "film_reviews", "circulant/lr=0.0003"): ("SURM", 3e-4, 2, 16),
    ("appointments", "appointments", "KronA/lr=0.03"): ("KronA", 3e-2, 2, 8),
    ("adamix_few_shot", "mnli", "AdaMix"): ("AdaMix", 3e-4, 50, 4),
    ("adamix_few_shot", "rte", "LiST_adapter"): ("LiST", 3e-4, 50, 4),
    ("adamix_few_shot", "subj", "full_prompt-based_fine-tuning"): ("FullFineTuning", 1e-5, 50, 4),
    ("adamix_few_shot", "mpqa", "Houlsby"): ("Houlsby", 3e-4, 50, 4),
    ("glue_flan_t5_small", "mrpc", "KronA^B/lr=0.003"): ("KronAB", 3e-3, 2, 8),
    ("glue_flan_t5_small", "rte", "full_fine-tuning/lr=1e-05"): ("FullFineTuning", 1e-5, 2, 8),
    ("glue_minilm", "stsb", "KronA/lr=0.03"): ("KronA", 3e-2, 3, 16),
    ("glue_minilm", "cola", "circulant/lr=0.01"): ("SURM", 1e-2, 3, 16),
    ("sixteen_shot", "mr", "prompts_full_fine-tuning/lr=0.0001"): ("FullFineTuning", 1e-4, -1, 4),
    ("adamix_minilm", "cola", "single_adapter"): ("AdaMix", 1e-3, 2, 16),
    ("adamix_minilm", "rte", "AdaMix"): ("AdaMix", 1e-3, 1, 16),
    ("e2e_small", "e2e", "LoRA"): ("LoRA", 2e-3, 2, 16),
}


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_a_run_is_set_as_its_row_of_the_paper_has_it(commands, printed, cell):
    name, task, method = cell
    seed = FIRST_SEED.get(name, 1)
    config = yaml.safe_load(printed([*commands(name)[task, method, seed], "--print_config"]))
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    found = model["method"]["class_path"].split(".")[-1], model["lr"], config["trainer"]["max_epochs"]
    assert (*found, data["batch_size"]) == CELLS[cell]
    assert config["seed_everything"] == seed
    assert data.get("task") == (None if name in OWN_ROWS else task)
    searches = "--test_after_fit false" in " ".join(commands(name)[task, method, seed])  # and reads no test rows
    assert config["test_after_fit"] == (name not in DEVELOPMENT_SETS and not searches)
    assert searches == (name in SEARCHES)
    weight = 100 if name == "adamix_nlg" else 1  # of the consistency loss
    assert model["consistency"] == (weight if method.startswith("AdaMix") else 0)
    if name == "adamix_few_shot":  # 30 rows in all, none to validate on
        assert (data["k"], data["sampling"], data["protocol"]) == (30, "list", "true_few_shot")
        assert data["split_seed"] == seed
    if method.startswith("one_adapter"):
        assert (model["method"]["init_args"]["num_experts"], model["consistency"]) == (1, 0)


@pytest.mark.slow
def test_lm_bff_tries_its_grid_on_each_split(commands, printed):
    found = commands("lm_bff_16_shot")
    assert {seed for _, _, seed in found} == {13, 21, 42, 87, 100}
    runs = [words for (task, _, seed), words in found.items() if (task, seed) == ("rte", 87)]
    grids = []
    for words in runs:
        config = yaml.safe_load(printed([*words, "--print_config"]))
        model, data, trainer = config["model"], config["data"]["init_args"], config["trainer"]
        assert (data["k"], data["split_seed"], config["seed_everything"]) == (16, 87, 87)
        assert (data["protocol"], data["sampling"], data["dev"]) == ("lm_bff", "lm_bff", "k_shot")
        assert (trainer["max_steps"], trainer["val_check_interval"], trainer["gradient_clip_val"]) == (1000, 100, 1.0)
        assert model["init_args"]["method"]["class_path"] == "kronlit.FullFineTuning"
        grids.append((model["class_path"].split(".")[-1], data["batch_size"], model["init_args"]["lr"]))
    classes = ["PromptClassification", "PromptClassification", "SequenceClassification"]
    assert sorted(grids) == sorted(product(classes, [2, 4, 8], [1e-5, 2e-5, 5e-5]))


# The averages that the papers print. Compacter's are over eleven and nine numbers, of which some tasks have two each.
AVERAGES = {
    "krona_table_1": [85.65, 84.17, 85.30, 85.73, 85.82, 85.86, 86.14, 86.28, 86.57],
    "compacter_table_1": [86.50, 85.78, 86.32, 85.85, 85.82, 71.49, 75.95, 85.45, 84.97, 86.40, 86.62, 86.47],
    "compacter_table_2": [70.06, 70.55, 71.01, 69.84, 67.34, 55.41, 56.03, 66.32, 67.30, 69.20, 71.57, 71.82],
    "adamix_glue": [89.9],  # BERT's is with F1
    "adamix_few_shot": [77.5, 66.9, 68.3, 56.4, 57.8, 77.6, 79.3],
}

TWICE = {"compacter_table_1": ["mrpc", "qqp", "stsb"], "compacter_table_2": ["cb", "multirc", "record"]}


def mean(score):
    return score[0] if isinstance(score, list) else score


@pytest.mark.parametrize("name", AVERAGES)
def test_what_is_published_adds_up_to_the_averages_in_the_paper(name):
    scores = yaml.safe_load(STUDIES[name].read_text())["published"]["scores"]
    rows = {"adamix_few_shot": LIST, "compacter_table_2": SUPER_GLUE}.get(name, GLUE)
    assert all(set(row) == set(rows) for row in scores.values())
    twice = {"compacter_table_1": ["mrpc", "qqp", "stsb"], "compacter_table_2": ["cb", "multirc", "record"]}.get(
        name, []
    )
    found = [fmean([*map(mean, row.values()), *(row[task] for task in twice)]) for row in scores.values()]
    printed = AVERAGES[name]
    digits = 1 if name in ("adamix_glue", "adamix_few_shot") else 2
    assert found[: len(printed)] == pytest.approx(printed, abs=0.51 * 10**-digits + 1e-9)


@pytest.mark.parametrize(
    ("only", "count"), [("KronA/rte", 3), ("*/rte", 27), ("KronA^B/*", 24), ("KronA/rte PA/mnli", 6)]
)
def test_only_names_cells(printed, only, count):
    words = ["kronlit", "study", "--config", "krona_table_1", "--dry_run", "true", "--only", *only.split()]
    assert len(printed(words).splitlines()) == count


@pytest.mark.parametrize("given", [["--options.data.path", "else where"], ["--options.data.path=else where"]])
def test_an_option_of_all_runs_is_set_beside_those_of_the_yaml(printed, given):
    *lines, _ = printed(["kronlit", "study", "--config", "sixteen_shot", *given, "--dry_run", "true"]).splitlines()
    assert lines
    for words in map(shlex.split, lines):
        assert (words.count("--data"), words.count("--data.path")) == (1, 1)
        assert words[words.index("--data") + 1] == "FewShot"
        assert words[words.index("--data.path") + 1] == "else where"


def test_a_cell_that_is_not_there_is_a_line(kronlit):
    code, _, err = kronlit("study", "--config", "krona_table_1", "--only", "KronA/rt", "--dry_run", "true")
    assert code == 2
    assert "`only`='KronA/rt' names no METHOD/TASK" in err
    assert "did you mean 'KronA/rte'?" in err
    assert err.count("\n") == 1


def test_a_job_array_is_of_the_cells_that_only_names(kronlit):
    words = ["submit", "study", "--config", "krona_table_1", "--dry_run", "--only", "Fine-tuning/rte"]
    code, out, err = kronlit(*words)
    assert code == 0, err
    assert "--array=9,81,153\n" in out.replace("'", "")  # of each seed 72 runs, the second task after nine methods
