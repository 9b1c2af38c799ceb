"""Splits, limits, batches, and what bad data gets."""

import csv
import json

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Trainer

from kronlit import HeadOnly
from kronlit.data import GLUE, MovieReviews
from kronlit.data.batches import LengthGroupedBatches, ResumableLoader
from kronlit.data.tasks import GLUE_TASKS
from kronlit.modules import SequenceClassification

SIZES = {"train": 41, "validation": 23}


def rows(data, split):
    return data.rows(split)["idx"]


@pytest.mark.parametrize("task", GLUE_TASKS)
def test_official_splits_are_the_files(glue, task):
    data = GLUE(task, path=str(glue))
    assert len(data.rows("test")) == 17
    if task != "ax":
        assert len(data.rows("validation")) == 23
        assert rows(data, "train") == list(range(len(data.rows("train"))))


def test_mnli_has_two_validation_and_two_test_sets(glue):
    data = GLUE("mnli", path=str(glue))
    assert data.validation_splits() == ("validation", "validation_mismatched")
    assert data.prediction_splits() == ("test_matched", "test_mismatched")
    assert data.rows("validation")["premise"] == data.read("validation_matched")["premise"]


@pytest.mark.parametrize("task", ["cola", "rte", "mrpc", "stsb", "wnli"])
def test_mahabadi_halves_the_development_set_of_small_tasks(glue, task):
    # Compacter's code, seq2seq/data/tasks.py: the first half of a permutation seeded with 42 is validation
    order = torch.randperm(23, generator=torch.Generator().manual_seed(42)).tolist()
    data = GLUE(task, path=str(glue), splits="mahabadi")
    assert rows(data, "validation") == order[:11]
    assert rows(data, "test") == order[11:]
    assert rows(data, "train") == list(range(41))


@pytest.mark.parametrize("task", ["qqp", "qnli", "sst2"])
def test_mahabadi_holds_out_a_thousand_training_rows_of_large_tasks(glue, task):
    order = torch.randperm(1141, generator=torch.Generator().manual_seed(42)).tolist()
    data = GLUE(task, path=str(glue), splits="mahabadi")
    assert rows(data, "validation") == order[:1000]
    assert rows(data, "train") == order[1000:]
    assert rows(data, "test") == list(range(23))


def test_mahabadi_selects_mnli_on_mismatched_and_tests_on_matched(glue):
    data, official = GLUE("mnli", path=str(glue), splits="mahabadi"), GLUE("mnli", path=str(glue))
    assert data.validation_splits() == ("validation",)
    assert data.rows("validation")["premise"] == official.rows("validation_mismatched")["premise"]
    assert data.rows("test")["premise"] == official.rows("validation")["premise"]


def test_a_limit_draws_rows_by_its_seed(glue):
    def drawn(seed):
        return rows(GLUE("rte", path=str(glue), max_train_samples=10, sample_seed=seed), "train")

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 10
    assert rows(GLUE("rte", path=str(glue), max_train_samples=99), "train") == list(range(41))


def test_movie_reviews_are_the_8530_rows_and_the_parts_do_not_meet():
    data = MovieReviews()
    parts = [data.rows(split)["text"] for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [7030, 500, 1000]
    labels = [label for split in ("train", "validation", "test") for label in data.rows(split)["label"]]
    assert sum(labels) == 4265  # the published set is balanced
    assert MovieReviews(split_seed=1).rows("test")["text"] != parts[2]


# --- bad data ---


def spoilt(glue, tmp_path, task="rte", **changes):
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]} | changes
    folder = tmp_path / "data" / task
    folder.mkdir(parents=True)
    Dataset.from_dict({k: v for k, v in columns.items() if v is not None}).to_parquet(folder / "train.parquet")
    return GLUE(task, path=str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sentence2": None}, "rte/train has no column 'sentence2'; it has sentence1, label"),
        ({"label": [0, 2]}, r"rte/train has the label 2; rte has 0 to 1 \(entailment, not_entailment\)"),
        ({"label": [0, -7]}, "rte/train has the label -7"),
        ({"label": [0, None]}, "rte/train has rows without a label"),
        ({"label": [[0], [1]]}, "column 'label' must hold numbers, whole ones, not (List|Sequence)"),
        ({"sentence1": [{"a": "b"}, {"a": "c"}]}, "column 'sentence1' must hold text, not dict"),
        ({"sentence1": ["a", None]}, "column 'sentence1' is empty in 1 rows"),
        ({"sentence1": [1, 2]}, "column 'sentence1' must hold text, not int64"),
        ({"label": ["0", "1"]}, "column 'label' must hold numbers, whole ones, not string"),
        ({"label": [0.5, 1.0]}, "column 'label' must hold numbers, whole ones, not float64"),
        ({"sentence1": [], "sentence2": [], "label": []}, r"rte/train\.parquet cannot be read.*no data"),
    ],
)
def test_bad_rows_get_one_clear_line(glue, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        spoilt(glue, tmp_path, **changes).rows("train")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (float("nan"), "stsb/train has rows without a label"),
        (97.0, r"stsb/train has the label 97.0; stsb has 0.0 to 5.0"),
    ],
)
def test_a_number_out_of_range_is_no_label(glue, tmp_path, label, words):
    with pytest.raises(ValueError, match=words):
        spoilt(glue, tmp_path, task="stsb", label=[1.0, label]).rows("train")


def test_a_csv_that_excel_wrote_is_read(tmp_path):
    (tmp_path / "my.csv").write_text("\ufeffsentence1,sentence2\na,b\n", encoding="utf-8")
    assert GLUE("rte", predict_file=str(tmp_path / "my.csv")).rows("predict")["sentence1"] == ["a"]


def test_a_damaged_file_is_named(glue, tmp_path):
    data = spoilt(glue, tmp_path)
    (tmp_path / "data/rte/train.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(ValueError, match=r"rte/train\.parquet cannot be read"):
        data.rows("train")


def test_missing_data_is_named():
    with pytest.raises(ValueError, match=r"`data.path`='/nowhere' has no rte/train\.parquet"):
        GLUE("rte", path="/nowhere").rows("train")


def test_an_unreachable_hub_points_to_the_local_folder():
    with pytest.raises(ValueError, match=r"nyu-mll/glue has no rte/train that can be reached.*`--data.path`"):
        GLUE("rte").rows("train")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GLUE("rtee"), "`data.task`='rtee' is no GLUE task; there are cola"),
        (lambda: GLUE("ax", splits="mahabadi"), "has no ax"),
        (lambda: GLUE("rte", batch_size=0), "`data.batch_size`=0"),
        (lambda: GLUE("rte", eval_batch_size=-1), "`data.eval_batch_size`=-1"),
        (lambda: GLUE("rte", max_train_samples=0), "`data.max_train_samples`=0"),
    ],
)
def test_bad_arguments_name_themselves(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# --- a file of one's own ---


def write(path, lines):
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_of_ones_own_are_read_as_they_are(tmp_path, kind):
    lines = [
        {"sentence1": "NA", "sentence2": "a, b", "more": "x"},
        {"sentence1": "ü\n2", "sentence2": "null", "more": ""},
    ]
    data = GLUE("rte", predict_file=write(tmp_path / f"my.{kind}", lines))
    assert data.rows("predict")["sentence1"] == ["NA", "ü\n2"]
    assert data.rows("predict")["sentence2"] == ["a, b", "null"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("no.csv", None, "there is no file"),
        ("my.txt", "x", r"must be a \.csv or \.jsonl file with the columns sentence1, sentence2"),
        ("my.csv", "sentence1,other\na,b\n", "row 1: no text in column 'sentence2'; it has sentence1, other"),
        ("my.csv", "sentence1,sentence2\n", "has no rows"),
        ("my.jsonl", '{"sentence1": "a"', r"line 1: no JSON object \(Expecting ',' delimiter, character 18\)"),
        ("my.jsonl", "[1, 2]\n", r"line 1: \[1, 2\] is no JSON object"),
        ("my.jsonl", '{"sentence1": "a", "sentence2": 3}\n', "row 1: no text in column 'sentence2'"),
        ("my.csv", b"sentence1,sentence2\n\xff\xfe,b\n", "cannot be read as UTF-8 csv"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        GLUE("rte", predict_file=str(tmp_path / name)).rows("predict")


# --- batches ---


def lengths(n=4000):
    # Log-normal, as GLUE's are: mean 24 tokens, a few over 100
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(n, generator=generator) * 0.6 + 3).exp().round().int().clamp(3, 128).tolist()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 3])
def test_every_row_comes_once(shuffle, world_size):
    shards = [list(LengthGroupedBatches(lengths(1001), 7, shuffle, 0, r, world_size)) for r in range(world_size)]
    assert {len(shard) for shard in shards} == {len(LengthGroupedBatches(lengths(1001), 7, shuffle, 0, 0, world_size))}
    assert sorted(row for shard in shards for batch in shard for row in batch) == list(range(1001))


def test_a_last_batch_of_fewer_rows_than_processes_is_filled_up():
    shards = [list(LengthGroupedBatches([5] * 9, 2, False, 0, rank, 4)) for rank in range(4)]
    assert {len(shard) for shard in shards} == {2}
    assert {row for shard in shards for batch in shard for row in batch} == set(range(9))


def test_several_processes_train_on_the_rows_of_one():
    one = list(LengthGroupedBatches(lengths(), 32, True, seed=3))
    two = [list(LengthGroupedBatches(lengths(), 16, True, 3, rank, 2)) for rank in range(2)]
    assert [set(batch) for batch in one] == [set(a + b) for a, b in zip(*two, strict=True)]


def test_padding_is_a_few_per_cent():
    sizes = lengths()
    for shuffle in (True, False):
        batches = list(LengthGroupedBatches(sizes, 32, shuffle))
        padded = sum(len(batch) * max(sizes[row] for row in batch) for batch in batches)
        assert padded / sum(sizes) < 1.10


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_budget_of_tokens_holds_and_is_used(world_size):
    sizes = lengths()
    shards = [list(LengthGroupedBatches(sizes, 32, True, 0, rank, world_size, 512)) for rank in range(world_size)]
    assert sorted(row for shard in shards for batch in shard for row in batch) == list(range(4000))
    assert len({len(shard) for shard in shards}) == 1
    padded = [len(batch) * max(sizes[row] for row in batch) for shard in shards for batch in shard]
    assert max(padded) <= 512
    assert sum(padded) / sum(sizes) < 1.05
    assert sorted(padded)[3 * world_size] > 512 - 128  # but for the shortest rows' batch, no row of 128 fits in beside

    epochs = []
    for epoch in range(3):
        sampler = LengthGroupedBatches(sizes, 32, True, 0, 0, world_size, 512)
        sampler.epoch = epoch
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
    assert len({len(batches) for batches in epochs}) == 1  # the learning rate's schedule counts on it
    assert len({str(batches) for batches in epochs}) == 3


def test_a_budget_of_tokens_has_room_for_the_longest_row():
    assert list(LengthGroupedBatches([5, 9, 2], 1, True, max_tokens=9))
    with pytest.raises(ValueError, match=r"`data\.max_tokens`=8 must be at least 9, the longest row's"):
        LengthGroupedBatches([5, 9, 2], 1, True, max_tokens=8)


def test_several_processes_share_a_budget_of_tokens():
    one = list(LengthGroupedBatches(lengths(), 1, True, 3, 0, 1, 1024))
    two = [list(LengthGroupedBatches(lengths(), 1, True, 3, rank, 2, 512)) for rank in range(2)]
    # Not the batches of one: into 1,024 tokens fit more rows than twice those that fit into 512.
    assert sum(map(len, one)) == sum(len(batch) for shard in two for batch in shard)
    assert all(0 <= len(a) - len(b) <= 1 for a, b in zip(*two, strict=True))


def test_order_depends_on_seed_and_epoch_alone():
    def batches(seed, epoch):
        sampler = LengthGroupedBatches(lengths(300), 8, True, seed)
        sampler.epoch = epoch
        return list(sampler)

    assert batches(1, 0) == batches(1, 0)
    assert len({str(batches(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def loader(per_epoch=float("inf"), workers=0, max_tokens=None):
    batches = LengthGroupedBatches(list(range(1, 41)), 4, True, seed=5, max_tokens=max_tokens)
    return ResumableLoader(range(40), batches, lambda: per_epoch, collate_fn=list, num_workers=workers)


@pytest.mark.parametrize(("workers", "max_tokens"), [(0, None), (2, None), (0, 100)])
@pytest.mark.parametrize("stop", [0, 1, 7, 10, 13, 20])
def test_a_loader_goes_on_where_it_stopped(stop, workers, max_tokens):
    def stream(source, n):
        while True:
            for batch in source:
                yield batch
                n -= 1
                if n == 0:
                    return

    whole = list(stream(loader(max_tokens=max_tokens), 25))
    first = loader(workers=workers, max_tokens=max_tokens)
    taken = list(stream(first, stop)) if stop else []
    second = loader(workers=workers, max_tokens=max_tokens)
    second.load_state_dict(first.state_dict())
    assert taken + list(stream(second, 25 - stop)) == whole


def test_an_epoch_that_the_trainer_cut_short_counts_as_over():
    first = loader(per_epoch=3)
    for _, _batch in zip(range(3), first, strict=False):
        pass
    assert first.state_dict() == {"seed": 5, "epoch": 1, "given": 0, "batch_size": 4}


def test_a_loader_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before)


# --- the cache ---


def attached(glue, tiny_bert, max_length=32):
    data = GLUE("rte", path=str(glue))
    module = SequenceClassification(str(tiny_bert), HeadOnly(), data.task, max_length=max_length)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy._lightning_module = module
    data.trainer = trainer
    return data, module


def test_rows_are_tokenised_once(glue, tiny_bert):
    splits = ("train", "validation", "test")
    data, _ = attached(glue, tiny_bert)
    expected = [data.encode_once(split).to_list() for split in splits]
    again, module = attached(glue, tiny_bert)
    module.encode = None  # would fail if it were called
    assert [again.encode_once(split).to_list() for split in splits] == expected


def test_what_changes_the_tokens_changes_the_cache(glue, tiny_bert, tmp_path):
    data, _ = attached(glue, tiny_bert)
    assert max(data.encode_once("train")["length"]) > 10
    shorter, _ = attached(glue, tiny_bert, max_length=10)
    assert max(shorter.encode_once("train")["length"]) == 10
    # The same vocabulary in a tokenizer that gives no segments, as DistilBERT's is to BERT's
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(settings | {"model_input_names": ["input_ids", "attention_mask"]})
    )
    assert "token_type_ids" in data.encode_once("train").column_names
    assert "token_type_ids" not in attached(glue, tmp_path)[0].encode_once("train").column_names
