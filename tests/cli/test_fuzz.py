"""Whatever a YAML, a data file or a checkpoint holds: a result or one line, never a traceback, never code."""

import contextlib
import copy
import json
import os
import sys
from pathlib import Path

import pandas
import pytest
import torch
import yaml
from datasets import Dataset
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from kronlit.__main__ import main
from kronlit.config.mistakes import one_line
from kronlit.data import FewShot
from kronlit.training.checkpoint import AtomicCheckpoint

FEW, MANY = 4, 250
"""Cases of each property in the default suite, always the same, and with `-m fuzz`, drawn anew."""


def cases(test):
    """Runs a property, a function of what is drawn, on few cases, or with `-m fuzz` on many."""

    def run(request, kronlit_line, files, count):
        settled = settings(
            max_examples=count,
            derandomize=count == FEW,
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # a smaller case of a failure would cost minutes
            suppress_health_check=list(HealthCheck),
        )
        settled(test(request, kronlit_line, files))()

    return pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.fuzz)])(run)


@pytest.fixture
def files(tmp_path, tiny_bert, glue, config):
    """The folder of a test, the settings of a small run, and a checkpoint of it."""
    return tmp_path, yaml.safe_load(config.read_text()), glue


@pytest.fixture
def kronlit_line(monkeypatch, capsys, tmp_path):
    """Runs a command; its exit code is 0, or 2 with one line."""

    def run(*words):
        for path in tmp_path.glob("runs/**/*.csv"):
            path.unlink()
        monkeypatch.setattr(sys, "argv", ["kronlit", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        err = capsys.readouterr().err
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.startswith("kronlit: ")]
        assert (code, len(lines)) in ((0, 0), (2, 1)), err
        return code, "".join(lines)

    return run


# --- YAMLs ---

NUMBERS = [0, -1, 3, 10**30, -(10**30), 1e308, float("inf"), float("nan"), 0.5, -0.0]
WORDS = [
    "",
    " ",
    "x",
    "null",
    "[",
    "{",
    "\0",
    "é",
    "💥",
    "../..",
    "$(touch x)",
    "KronA",
    "torch.nn.Linear",
    "os.system",
]
scalars = st.sampled_from([*NUMBERS, *WORDS, None, True, False]) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
PLACES = [
    "model",
    "model.class_path",
    "model.init_args.plm",
    "model.init_args.lr",
    "model.init_args.max_length",
    "model.init_args.weight_decay",
    "model.init_args.warmup",
    "model.init_args.consistency",
    "model.init_args.typo",
    "model.init_args.method",
    "model.init_args.method.init_args.a_shape",
    "model.init_args.method.init_args.scale",
    "model.init_args.method.init_args.sites",
    "data",
    "data.class_path",
    "data.init_args.task",
    "data.init_args.path",
    "data.init_args.batch_size",
    "data.init_args.max_train_samples",
    "data.init_args.splits",
    "trainer",
    "trainer.precision",
    "trainer.gradient_clip_val",
    "trainer.accumulate_grad_batches",
    "trainer.plugins",
    "seed_everything",
    "run_dir",
    "predictions",
    "test_after_fit",
    "best_checkpoint.monitor",
    "slurm",
    "slurm.nodes",
    "typo",
]


@cases
def test_no_yaml_gives_a_traceback(request, kronlit_line, files):
    folder, small, _ = files

    @given(changes=st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=2))
    def check(changes):
        config = copy.deepcopy(small)
        for path, value in changes:
            place = config
            *parents, last = path.split(".")
            for name in parents:
                place = place.setdefault(name, {}) if isinstance(place, dict) else {}
            if isinstance(place, dict):
                place[last] = value
        (folder / "fuzz.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        one_batch = ["--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"]
        kronlit_line("fit", "--config", folder / "fuzz.yaml", *one_batch)

    return check


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"model: \xe9",
        b"a: b: c",
        b"- 1",
        b"!!python/object/apply:os.system ['true']",
        b"\x00",
        b"? {",
        BOMB.encode(),
    ],
)
def test_no_text_that_is_no_config_gives_a_traceback(kronlit_line, files, content):
    (files[0] / "fuzz.yaml").write_bytes(content)
    assert kronlit_line("fit", "--config", files[0] / "fuzz.yaml")[0] == 2


# --- data ---

CELLS = ["", " ", "a cat", "x" * 20_000, "a\0b", "\ud7ff", "💥", "NaN", None, ["a"], {"a": "b"}, b"a", True]
cells = st.sampled_from(CELLS) | st.text(max_size=10)
LABELS = st.sampled_from([0, 1, -1, 2, 7, -5, 10**15, None, 0.5, float("nan"), "1", "entailment"])
COLUMNS = {"sentence1": cells, "sentence2": cells, "label": LABELS, "idx": st.integers(), "other": LABELS}


@cases
def test_no_data_file_gives_a_traceback(request, kronlit_line, files):
    folder, small, glue = files
    (folder / "mine/rte").mkdir(parents=True)
    for split in ("validation", "test"):
        (folder / f"mine/rte/{split}.parquet").write_bytes((glue / f"rte/{split}.parquet").read_bytes())
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    words = ["--data.path", folder / "mine", "--data.splits", "official", "--trainer.fast_dev_run", "true"]

    @given(data=st.data())
    def check(data):
        needed = st.just({"sentence1", "sentence2", "label"})
        names = data.draw(st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1) | needed)
        size = data.draw(st.integers(0, 6))
        table = {name: data.draw(st.lists(COLUMNS[name], min_size=size, max_size=size)) for name in sorted(names)}
        assume(written(table, folder / "mine/rte/train.parquet"))
        kronlit_line("fit", "--config", folder / "small.yaml", *words)

    return check


def written(table, path):
    """Whether a table, which may mix types, is one that such a file can hold."""
    try:
        Dataset.from_pandas(pandas.DataFrame(table)).to_parquet(path)
    except Exception:
        return False
    return True


# What a cell of a file may be, as it stands there: quotation marks astray, half characters, long and deep ones too.
CSV_CELLS = [
    "",
    " ",
    "a",
    "b",
    "nan",
    "NaN",
    "a, b",
    '"a, b"',
    '"a',
    'a"',
    '"a\nb"',
    '"a"" b"',
    '\\"',
    "\0",
    "1",
    "9" * 5000,
]
CSV_CELLS += ["x" * 200_000, "\r", "\n", "\t", "é", "💥", "'", "\ufeff", "\u2028", "-1", "inf", "1e999"]
JSON_CELLS = [
    '""',
    '" "',
    '"a"',
    '"b"',
    "NaN",
    "null",
    "true",
    "1",
    "1.0",
    "-1",
    "1e999",
    "9" * 5000,
    "[]",
    '{"a": 1}',
    '["a"]',
]
JSON_CELLS += [
    '"\\ud83d"',
    '"\\ud83d\\ude00"',
    '"\\u0000"',
    '"a',
    "[" * 2000 + "]" * 2000,
    "[" * 300 + "]" * 300,
    '"é"',
    '"NaN"',
]
JSON_LINES = ["", " ", "[]", "null", "{}", "{", "1", '"a"', '{"text": "a", "text": "b", "label": 1}', "{} {}", "\0"]
NAMES = ["text", "label", "text ", " label", "other", "", "TEXT"]
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]


@st.composite
def row_files(draw):
    """The suffix and the content of a file of rows, most of them right."""
    kind, end = draw(st.sampled_from(["csv", "jsonl"])), draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    usual = st.just(["text", "label"])
    names = draw(usual | usual | st.lists(st.sampled_from(NAMES), max_size=4))
    odd = st.sampled_from(CSV_CELLS if kind == "csv" else JSON_CELLS) | st.text(max_size=4)
    lines = [",".join(names)] if kind == "csv" else []
    for number in range(draw(st.integers(0, 5))):
        right = ["a text", f"{number % 2}"] if kind == "csv" else ['"a text"', f"{number % 2}"]
        cells = draw(st.just(right) | st.just(right) | st.lists(odd, max_size=4))
        pairs = (f"{json.dumps(name)}: {cell}" for name, cell in zip(names, cells, strict=False))
        lines.append(
            ",".join(cells) if kind == "csv" else draw(st.just(f"{{{', '.join(pairs)}}}") | st.sampled_from(JSON_LINES))
        )
    return kind, end.join([*lines, *draw(st.lists(st.sampled_from(["", " "]), max_size=2))]).encode(
        draw(st.sampled_from(ENCODINGS)), "replace"
    )


@cases
def test_no_file_of_ones_own_rows_gives_a_traceback(request, kronlit_line, files):
    folder, small, _ = files
    small["data"] = {"class_path": "TextFiles", "init_args": {"train": "a.csv"}}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    words = ["--config", folder / "small.yaml", "--trainer.fast_dev_run", "true", "--data.batch_size", "2"]

    @given(
        file=row_files(), kind=st.sampled_from([[], ["--data.span", "[0, 2]"], ["--data.labels", "['0', '1']"]]),
        empty=st.sampled_from(["refuse", "skip"]),
    )  # fmt: skip
    def check(file, kind, empty):
        path = folder / f"mine.{file[0]}"
        path.write_bytes(file[1])
        own = ["--data.train", path, "--data.validation", path, *kind, "--data.empty_rows", empty]
        kronlit_line("fit", *words, *own)

    return check


@cases
def test_no_file_to_draw_few_rows_from_gives_a_traceback(request, kronlit_line, files):
    folder = files[0]
    (folder / "mine/mr").mkdir(parents=True)

    @given(file=row_files(), raw=st.booleans())
    def check(file, raw):
        path = folder / f"mine/mr/train.{file[0]}"
        content = file[1].split(b"\n", 1)[-1] if raw else file[1]  # LM-BFF's files have no header
        path.write_bytes(content)
        with contextlib.suppress(SystemExit), one_line():
            FewShot("mr", path=str(folder / "mine"), k=1).rows("train")
        path.unlink()

    return check


texts = st.lists(cells.filter(lambda cell: isinstance(cell, str)), max_size=8).map(
    lambda cells: ",".join(cells).encode()
)


@cases
def test_no_file_to_predict_gives_a_traceback(request, kronlit_line, files):
    folder, small, _ = files
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    words = ["predict", "--config", folder / "small.yaml", "--data.predict_file", folder / "mine.csv"]

    @given(content=st.binary(max_size=60) | texts | row_files().map(lambda file: file[1]))
    def check(content):
        (folder / "mine.csv").write_bytes(b"sentence1,sentence2\n" + content)
        kronlit_line(*words, "--trainer.logger", "false")

    return check


# --- checkpoints ---


class Harm:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def places(content, *before):
    """Every place in a checkpoint, three keys deep, as the keys that lead to it; of the weights the first alone."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict) and len(before) < 2:
            first = dict(list(value.items())[: 1 if key == "state_dict" else None])
            yield from places(first, *before, key)


def put(content, place, value):
    *before, last = place
    for key in before:
        content = content[key]
    content.pop(last, None)
    if value is not KeyError:
        content[last] = value


tensors = st.sampled_from(
    [torch.zeros(0), torch.zeros(3, 3), torch.full((2,), float("nan")), torch.zeros(1, dtype=torch.int8)]
)


@pytest.fixture
def trained(files, kronlit_line):
    folder, small, _ = files
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    assert kronlit_line("fit", "--config", folder / "small.yaml", "--run_dir", folder / "run")[0] == 0
    return folder / "run/version_0/checkpoints/last.ckpt"


@pytest.mark.parametrize("harm", [Harm(), {"state_dict": Harm()}, {"state_dict": {}, "epoch": Harm()}], ids=range(3))
def test_no_code_in_a_checkpoint_is_run(kronlit_line, files, harm, trained):
    path = files[0] / "harm.ckpt"
    torch.save(harm, path)
    for command in ("fit", "validate", "test", "predict"):  # in a folder of its own
        code, line = kronlit_line(command, "--config", files[0] / "small.yaml", "--ckpt_path", path)
        assert code == 2
        assert "harm.ckpt' cannot be read: it is damaged, no checkpoint, or holds more than tensors" in line
    assert not Path("harm").exists()


@cases
def test_no_checkpoint_gives_a_traceback(request, kronlit_line, files):
    folder, trained = files[0], request.getfixturevalue("trained")
    whole = torch.load(trained, weights_only=True)
    path = folder / "fuzz.ckpt"

    @given(
        place=st.sampled_from(list(places(whole))),
        value=st.just(KeyError) | tensors | values,
        command=st.sampled_from(["fit", "test"]),
    )
    def check(place, value, command):
        content = copy.deepcopy(whole)
        put(content, place, value)
        AtomicCheckpoint().save_checkpoint(content, path)
        kronlit_line(command, "--config", folder / "small.yaml", "--ckpt_path", path, "--trainer.max_epochs", "3")

    return check


PARTS = [
    ("callbacks", "ModelCheckpoint{}", "best_model_path"),
    ("GLUE",),
    ("GLUE", "rows"),
    ("GLUE", "rows", "draws"),
    ("GLUE", "train"),
    ("GLUE", "train", "epoch"),
    ("GLUE", "train", "given"),
    ("GLUE", "train", "seed"),
    ("kronlit",),
    ("kronlit", "reads"),
    ("kronlit", "settings"),
    ("kronlit", "settings", "lr"),
    ("kronlit", "settings", "steps"),
    ("kronlit", "task"),
    ("kronlit", "task", "columns"),
    ("kronlit", "task", "free_text"),
    ("kronlit", "task", "labels"),
]


def test_parts_of_a_checkpoint_that_are_not_as_they_are_written(kronlit_line, files, trained):
    whole, path = torch.load(trained, weights_only=True), files[0] / "harmed.ckpt"
    whole["callbacks"]["ModelCheckpoint{}"] = {}
    for place in PARTS:
        for command in ("fit", "test") if len(place) == 1 else ("fit",):
            content = copy.deepcopy(whole)
            put(content, place, torch.tensor([float("nan"), 0.0]))
            AtomicCheckpoint().save_checkpoint(content, path)
            code, line = kronlit_line(command, "--config", files[0] / "small.yaml", "--ckpt_path", path)
            assert code == 2
            assert "which kronlit does not write there" in line
            assert f"[{place[-1]!r}]" in line or place[-1] in ("GLUE", "task")


@pytest.mark.parametrize("state", [[1, 2], {"best_model_path": None}])
def test_a_users_own_callback_may_keep_anything(kronlit_line, files, trained, state):
    content, path = torch.load(trained, weights_only=True), files[0] / "mine.ckpt"
    content["callbacks"]["Mine"] = state
    AtomicCheckpoint().save_checkpoint(content, path)
    assert kronlit_line("test", "--config", files[0] / "small.yaml", "--ckpt_path", path)[0] == 0


@pytest.mark.parametrize("place", [("GLUE", "train", "given"), ("GLUE", "rows", "max_train_samples")])
def test_parts_of_a_checkpoint_that_are_missing(kronlit_line, files, trained, place):
    content, path = torch.load(trained, weights_only=True), files[0] / "harmed.ckpt"
    put(content, place, KeyError)
    AtomicCheckpoint().save_checkpoint(content, path)
    code, line = kronlit_line("fit", "--config", files[0] / "small.yaml", "--ckpt_path", path)
    assert code == 2
    assert f"has no {place[-1]!r}, which kronlit writes there" in line
