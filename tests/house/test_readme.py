"""What the README shows works as typed."""

import re
from dataclasses import dataclass
from functools import partial

import pytest
from fixtures.runs import ROOT
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.adapters import Delta, Insertion, placements
from kronlit.exchange.adapter_folder import config_of, write_adapter
from kronlit.methods import Method
from kronlit.methods.base import Group
from kronlit.structured import Kronecker

README = (ROOT / "README.md").read_text()


def block(start):
    return next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if code.startswith(start))


def test_the_lines_without_lightning_train_and_merge(tiny_bert, capsys):
    code = block("import kronlit").replace("FacebookAI/roberta-base", str(tiny_bert))
    names = {}
    exec(code, names)
    assert "query.matrix.a" in capsys.readouterr().out
    assert not list(placements(names["model"]))


def test_the_lines_that_load_an_adapter_predict_and_merge(tiny_bert, tmp_path, capsys):
    model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), kronlit.KronA())
    write_adapter(tmp_path, model, config_of(model, kronlit.KronA(), str(tiny_bert), "rte", 0))
    code = block("from transformers import AutoTokenizer")
    names = {}
    exec(code.replace("FacebookAI/roberta-base", str(tiny_bert)).replace('"adapter"', repr(str(tmp_path))), names)
    assert "tensor([[" in capsys.readouterr().out
    assert not list(placements(names["model"]))


def test_the_method_that_is_added_works(tiny_bert):
    names = {
        "dataclass": dataclass, "Method": Method, "Group": Group, "Insertion": Insertion,
        "partial": partial, "Delta": Delta, "Kronecker": Kronecker, "__name__": "mine",
    }  # fmt: skip
    exec(block("@dataclass"), names)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    kronlit.inject(model, names["KronAFFN"](scale=2.0))
    assert len(list(placements(model))) == 4  # two layers, two matrices each


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/]+\.yaml", README))))
def test_every_config_that_is_named_is_there(path):
    assert (ROOT / path).is_file()


def test_continuous_integration_runs_the_readmes_test_command():
    command = README.split("<!-- test command -->\n```sh\n")[1].split("\n```")[0]
    script = (ROOT / ".ci/run").read_text()
    assert command.endswith("-m pytest -n auto")
    assert "test command" in script
    assert "eval" in script
