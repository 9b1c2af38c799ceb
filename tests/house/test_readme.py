"""What the README and the pages show works as typed."""

import re

import pytest
from fixtures.pages import PAGES, blocks
from fixtures.runs import ROOT
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.adapters import placements
from kronlit.exchange.adapter_folder import config_of, write_adapter

README = ROOT / "README.md"


def block(page, start):
    return next(one.code for one in blocks(page) if one.language == "python" and one.code.startswith(start))


@pytest.mark.parametrize("page", ["README.md", "docs/howto/own_loop.md"])
def test_the_lines_without_lightning_train_and_merge(page, tiny_bert, capsys):
    code = block(ROOT / page, "import kronlit").replace("FacebookAI/roberta-base", str(tiny_bert))
    names = {}
    exec(code, names)
    assert "query.matrix.a" in capsys.readouterr().out
    assert not list(placements(names["model"]))


def test_the_lines_that_load_an_adapter_predict_and_merge(tiny_bert, tmp_path, capsys):
    model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(tiny_bert), kronlit.KronA())
    write_adapter(tmp_path, model, config_of(model, kronlit.KronA(), str(tiny_bert), "rte", 0))
    code = block(ROOT / "docs/howto/merge.md", "from transformers import AutoTokenizer")
    names = {}
    exec(code.replace("FacebookAI/roberta-base", str(tiny_bert)).replace('"adapter"', repr(str(tmp_path))), names)
    assert "tensor([[" in capsys.readouterr().out
    assert not list(placements(names["model"]))


def test_the_method_that_is_added_works(tiny_bert):
    names = {"__name__": "mine"}
    exec(block(ROOT / "docs/howto/add.md", "from dataclasses import dataclass"), names)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    kronlit.inject(model, names["KronAFFN"](scale=2.0))
    assert len(list(placements(model))) == 4  # two layers, two matrices each


NAMED = {path for page in PAGES for path in re.findall(r"configs/[\w/]+\.yaml", page.read_text())}


@pytest.mark.parametrize("path", sorted(NAMED))
def test_every_config_that_is_named_is_there(path):
    assert (ROOT / path).is_file()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_continuous_integration_runs_the_readmes_test_command():
    command = README.read_text().split("<!-- test command -->\n```sh\n")[1].split("\n```")[0]
    script = (ROOT / ".ci/run").read_text()
    assert command.endswith("-m pytest -n auto")
    assert "test command" in script
    assert "eval" in script
