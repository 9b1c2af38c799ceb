"""Methods and structures from a file of the user's own: trained, merged, exported and loaded as kronlit's."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.runs import environment
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.saved_run import saved_run
from kronlit.methods.written import describe_method, to_plain
from kronlit.structured import Kronecker, LowRank

MINE = '''
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from kronlit.adapters import Delta, Insertion
from kronlit.methods import Method
from kronlit.methods.base import Group
from kronlit.structured import LowRank, StructuredLinear

class Monarch(LowRank):
    """A structure.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: of it.
    """

    def __init__(self, in_features: int, out_features: int, rank: int = 2) -> None:
        super().__init__(in_features, out_features, rank)

@dataclass(frozen=True)
class MonarchA(Method):
    """A method.

    Args:
        matrix: what is added.
        scale: its factor.
        trains: what is trained beside it.
    """

    matrix: Callable[[int, int], StructuredLinear] = Monarch
    scale: float = 1.0
    trains: tuple[Group, ...] = ("head",)

    def insertions(self) -> list[Insertion]:
        return [Insertion(("query",), partial(Delta, matrix=self.matrix, scale=self.scale))]
'''


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


@pytest.fixture
def mine(tmp_path, monkeypatch, request):
    """A module in the working folder, of a name of its own, that nothing has imported yet."""
    name = "mine_" + re.sub(r"\W", "_", request.node.name)
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    yield name
    sys.modules.pop(name, None)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(4, 16).view(2, 6)).logits


def exported(kronlit_, run_of, tiny_bert, name, **arguments):
    """A folder of an adapter whose method is in the module `name`, and the logits of its run."""
    sys.path.append("")
    run, _ = run_of(tiny_bert, f"{name}.MonarchA", **arguments)
    code, _, err = kronlit_("export", "--ckpt_path", run, "--output", "own", "--format", "kronlit")
    assert code == 0, err
    return Path("own"), logits(saved_run(str(run)).module().model)


def test_a_whole_path_is_written_and_loaded(kronlit_, run_of, tiny_bert, mine):
    matrix = {"class_path": f"{mine}.Monarch", "init_args": {"rank": 3}}
    folder, expected = exported(kronlit_, run_of, tiny_bert, mine, matrix=matrix, scale=2.0)
    method = json.loads((folder / "adapter_config.json").read_text())["method"]
    assert method == {
        "class_path": f"{mine}.MonarchA",
        "init_args": {"matrix": matrix, "scale": 2.0, "trains": ["head"]},
    }
    torch.testing.assert_close(logits(kronlit.load(folder)), expected)
    assert f"import {mine}  # has MonarchA" in (folder / "README.md").read_text()
    code, out, err = kronlit_("info", folder)
    assert code == 0, err
    assert f"method   MonarchA(matrix={{'class_path': '{mine}.Monarch', 'init_args': {{'rank': 3}}}}" in out


def test_an_adapter_of_the_hub_may_name_structures_of_kronlit_alone(kronlit_, run_of, tiny_bert, tmp_path, monkeypatch):
    run, _ = run_of(tiny_bert, "Structured", matrix={"class_path": "LDR", "init_args": {"rank": 3}})
    assert kronlit_("export", "--ckpt_path", run, "--output", "own", "--format", "kronlit")[0] == 0
    monkeypatch.setattr("kronlit.exchange.load.is_here", lambda source: False)
    monkeypatch.setattr("kronlit.exchange.load.snapshot_download", lambda *_, **__: "own")
    torch.testing.assert_close(logits(kronlit.load("me/adapter")), logits(saved_run(str(run)).module().model))
    Path("hidden.py").write_text(MINE)
    sys.path.append("")
    for value in HIDDEN:
        renamed(Path("own"), "Structured", matrix=value)
        with pytest.raises(ValueError, match="which might be imported"):
            kronlit.load("me/adapter")
        assert "hidden" not in sys.modules
    renamed(Path("own"), "Structured", matrix="LDR", **{"matrix.class_path": "hidden.Monarch"})
    with pytest.raises(ValueError, match="which might be imported"):
        kronlit.load("me/adapter")
    assert "hidden" not in sys.modules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Nope"], "'Nope' names no class that is known; there are "),
        (["torch.nn.Linear"], "'torch.nn.Linear' is no StructuredLinear; there are "),
        (["LDR", "--model.method.matrix.rnk", "3"], "there is no option 'rnk'; did you mean 'rank'?"),
    ],
)
def test_a_matrix_that_is_none_is_told_with_those_that_there_are(kronlit_, config, words, message):
    code, _, err = kronlit_("fit", "--config", config, "--model.method", "Structured", "--model.method.matrix", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert "Circulant, " in err or "rnk" in words[1]


def renamed(folder, name, **arguments):
    """Let the folder's config name another class, and other arguments."""
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text())
    content["method"] |= {"class_path": name}
    content["method"]["init_args"] |= arguments
    path.write_text(json.dumps(content))


HIDDEN = [
    '{"class_path": "hidden.Monarch"}',
    '{"class_path": "hidden\\x2eMonarch"}',
    '"hidden\\x2eMonarch"',
    "class_path: hidden.Monarch",
    "'hidden.Monarch'",
    "- hidden.Monarch",
    {"hidden.Monarch": 1},
    {"class_path": "LowRank", "init_args": {"rank": ["hidden.Monarch"]}},
    "kronlit.config.mistakes.sys",
]
"""Ways to name a class of a module that was not imported, in what is read as YAML."""


def test_a_folder_may_name_a_module_and_the_hub_may_not_unasked(
    kronlit_, run_of, tiny_bert, mine, tmp_path, monkeypatch
):
    folder, expected = exported(kronlit_, run_of, tiny_bert, mine)
    Path("fresh.py").write_text(MINE + "\nprint('imported')\n")
    renamed(folder, "fresh.MonarchA", matrix="fresh.Monarch")
    monkeypatch.setattr("kronlit.exchange.load.is_here", lambda source: False)
    monkeypatch.setattr("kronlit.exchange.init_adapter.is_here", lambda source: False)
    monkeypatch.setattr("kronlit.exchange.load.snapshot_download", lambda *_, **__: str(folder))
    for load, cure in (
        (kronlit.load, r"import fresh before, or.* `trust_code=True`"),
        (
            lambda source: init_adapter(None, None, source),
            r"name that .*`model.method`, or.* download .* give its path",
        ),
    ):
        with pytest.raises(ValueError, match=cure) as caught:
            load("me/adapter")
        assert "\n" not in str(caught.value)
        assert "fresh" not in sys.modules
    torch.testing.assert_close(logits(kronlit.load("me/adapter", trust_code=True)), expected)
    assert sys.modules.pop("fresh")
    # Known by now, but an argument may still name something.
    with pytest.raises(ValueError, match=r"has the argument 'fresh\.Monarch', which might be imported"):
        kronlit.load("me/adapter")
    Path("hidden.py").write_text(MINE)
    for value in HIDDEN:
        renamed(folder, "fresh.MonarchA", matrix=value)
        with pytest.raises(ValueError, match="which might be imported"):
            kronlit.load("me/adapter")
        assert "hidden" not in sys.modules
    content = json.loads((folder / "adapter_config.json").read_text())
    whole, beside = content["method"], {"matrix": "hidden.Monarch"}
    for method in (
        {"class_path": "fresh.MonarchA", "dict_kwargs": beside},
        {"class_path": "KronA", "dict_kwargs": beside},
        {"class_path": "fresh.MonarchA", "init_args": json.dumps(beside)},
    ):
        (folder / "adapter_config.json").write_text(json.dumps(content | {"method": method}))
        with pytest.raises(ValueError, match=r"might be imported|`dict_kwargs`"):
            kronlit.load("me/adapter")
    (folder / "adapter_config.json").write_text(json.dumps(content | {"method.init_args.matrix": "hidden.Monarch"}))
    with pytest.raises(ValueError, match=r"'method\.init_args\.matrix'"):
        kronlit.load("me/adapter")
    assert "hidden" not in sys.modules
    (folder / "adapter_config.json").write_text(json.dumps(content | {"method": whole}))
    own = {"class_path": "kronlit.structured.low_rank.LowRank", "init_args": {"rank": 2}}  # may be named
    renamed(folder, "fresh.MonarchA", matrix=own)
    kronlit.load("me/adapter")
    renamed(folder, "fresh.MonarchA", matrix=None)
    content = json.loads((folder / "adapter_config.json").read_text())
    del content["method"]["init_args"]["matrix"]
    (folder / "adapter_config.json").write_text(json.dumps(content))
    torch.testing.assert_close(logits(kronlit.load("me/adapter")), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.MonarchA", "needs the module absent, which is not found"),
        ("absent.deep.MonarchA", "needs the module absent, which is not found"),
        ("json.MonarchA", "the module json has no method MonarchA"),
        ("json.dumps", "the module json has no method dumps"),
        ("broken.MonarchA", "the module broken cannot be imported: ZeroDivisionError"),
        ("needy.MonarchA", "needs the module absent_too, which is not found"),
    ],
)
def test_a_module_that_is_missing_or_wrong_is_named_in_one_line(kronlit_, run_of, tiny_bert, mine, name, message):
    folder, _ = exported(kronlit_, run_of, tiny_bert, mine)
    Path("broken.py").write_text("1 / 0")
    Path("needy.py").write_text("import absent_too")
    renamed(folder, name)
    with pytest.raises(ValueError, match=message) as caught:
        kronlit.load(folder)
    assert "\n" not in str(caught.value)
    code, _, err = kronlit_("info", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize("command", ["merge", "export", "info"])
def test_a_run_whose_module_is_missing_names_it_in_one_line(kronlit_, run_of, tiny_bert, mine, command):
    sys.path.append("")
    run, _ = run_of(tiny_bert, f"{mine}.MonarchA")
    config = (run / "config.yaml").read_text().replace(mine, "absent")
    (run / "config.yaml").write_text(config)
    words = [run / "config.yaml"] if command == "info" else ["--ckpt_path", run, "--output", "new"]
    code, _, err = kronlit_(command, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "`class_path`='absent.MonarchA' needs the module absent, which is not found" in err
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.MonarchA", "`class_path`='absent.MonarchA' needs the module absent, which is not found"),
        ("json.MonarchA", "`class_path`='json.MonarchA': the module json has no MonarchA"),
    ],
)
def test_a_yaml_that_names_what_is_not_there_says_so(kronlit_, config, name, message):
    code, _, err = kronlit_("fit", "--config", config, "--model.method", name)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


@pytest.fixture
def twin(tmp_path):
    """A module whose method is called as one of kronlit's is."""
    (tmp_path / "twin.py").write_text(MINE.replace("MonarchA", "LoRA"))
    sys.path.append("")
    yield "twin.LoRA"
    other = sys.modules.pop("twin").LoRA
    other.__name__ = other.__qualname__ = "Twin"  # it lives on: for the tests that come, under another name


def test_classes_of_one_name_are_not_mistaken_for_each_other(kronlit_, run_of, tiny_bert, twin):
    run, _ = run_of(tiny_bert, twin, scale=3.0)
    assert kronlit_("export", "--ckpt_path", run, "--output", "own", "--format", "kronlit")[0] == 0
    torch.testing.assert_close(logits(kronlit.load("own")), logits(saved_run(str(run)).module().model))
    model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), kronlit.LoRA())
    kronlit.save(model, "kronlits")
    assert json.loads(Path("kronlits/adapter_config.json").read_text())["method"]["class_path"] == "LoRA"
    torch.testing.assert_close(logits(kronlit.load("kronlits")), logits(model))


def test_what_a_checkpoint_says_of_a_method_is_the_same_in_every_process():
    assert describe_method(kronlit.KronA()) == repr(kronlit.KronA())
    assert to_plain(partial(Kronecker, a_shape=(2, 3))) == {
        "class_path": "kronlit.structured.kronecker.Kronecker",
        "init_args": {"a_shape": [2, 3]},
    }
    assert to_plain(LowRank) == "kronlit.structured.low_rank.LowRank"
    with pytest.raises(ValueError, match="no form in a file"):
        to_plain(lambda: 0)


# A console script has its own folder on the path, not the current one.
SCRIPT = "import sys\nfrom kronlit.__main__ import main\nsys.exit(main())\n"


OWN = {
    "mine.MonarchA": {"scale": 2.0},
    "Structured": {"matrix": {"class_path": "mine.Monarch", "init_args": {"rank": 3}}, "scale": 2.0},
}
"""A method of one's own, and a structure of one's own in the method that takes any."""


@pytest.mark.slow
@pytest.mark.parametrize("method", OWN)
def test_a_file_in_the_current_folder_is_fitted_merged_exported_and_loaded(config, tmp_path, method):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kronlit").write_text(SCRIPT)
    (tmp_path / "mine.py").write_text(MINE)
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"]["method"] = {"class_path": method, "init_args": OWN[method]}
    content["trainer"]["max_epochs"] = 1
    config.write_text(yaml.safe_dump(content))

    def run(*words, here=tmp_path):
        return subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, cwd=here, env=environment()
        )

    command = tmp_path / "bin/kronlit"
    for words in (
        ["fit", "--config", config],
        ["fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", "2"],
        ["merge", "--ckpt_path", "runs/small", "--output", "merged"],
        ["export", "--ckpt_path", "runs/small", "--output", "adapter", "--format", "kronlit"],
    ):
        done = run(command, *words)
        assert done.returncode == 0, done.stderr
    done = run(command, "info", "adapter")
    assert "Monarch" in done.stdout, done.stderr
    study = {"configs": [str(config)], "methods": {"Own": {}}, "tasks": ["rte"], "seeds": [1, 2]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    done = run(command, "study", "--config", "study.yaml", "--dir", "study", "--side_by_side", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(file.read_text()) for file in (tmp_path / "study").rglob("run.json")]
    assert [(result["status"], result["side_by_side"]) for result in results] == [("done", 2)] * 2
    loads = "import kronlit; print(type(kronlit.load('../adapter')).__name__)"
    (tmp_path / "elsewhere").mkdir()
    assert run("-c", loads.replace("../", "")).stdout == "BertForSequenceClassification\n"
    done = run(command, "info", tmp_path / "adapter", here=tmp_path / "elsewhere")
    assert done.returncode == 2
    assert "needs the module mine, which is not found" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_expression_over_names_of_modules_is_no_import(tiny_bert, tmp_path, monkeypatch):
    model = kronlit.inject(
        AutoModelForSequenceClassification.from_pretrained(tiny_bert), kronlit.LoRA(sites=(r".*self.(query|value)",))
    )
    kronlit.save(model, tmp_path / "adapter")
    monkeypatch.setattr("kronlit.exchange.load.is_here", lambda source: False)
    monkeypatch.setattr("kronlit.exchange.load.snapshot_download", lambda *_, **__: str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(kronlit.load("me/adapter")), logits(model))
