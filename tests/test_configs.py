"""Every YAML that is shipped: it runs, its header says what it is, and it says what the paper says."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from kronlit.__main__ import main

CONFIGS = sorted(Path(__file__).parents[1].joinpath("configs").glob("**/*.yaml"))
every = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


@every
def test_it_runs_on_a_tiny_model(path, monkeypatch, glue, request):
    config = yaml.safe_load(path.read_text())
    kind = "wide_t5" if config["model"]["class_path"] == "TextToText" else "wide_bert"
    arguments = ["kronlit", "fit", "--config", str(path), "--model.plm", str(request.getfixturevalue(kind))]
    arguments += ["--model.max_length", "32"]
    arguments += ["--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    if config["data"]["class_path"] == "GLUE":
        arguments += ["--data.path", str(glue)]
    monkeypatch.setattr(sys, "argv", arguments)
    main()


@every
def test_its_header_names_paper_row_and_command(path):
    header = path.read_text().split("\n\n")[0]
    comment = " ".join(line for line in header.splitlines() if line.startswith("#"))
    assert "arXiv:" in comment
    assert re.search(r"table \d, row .*, column .*: \d\d\.\d\d|[Nn]o table row|no row of a table", comment)
    assert f"kronlit fit --config configs/{path.name}" in comment
    assert len(path.read_text().splitlines()) <= 40


# Edalati et al., arXiv:2212.10650, tables 9, 10 and 16; everything else is the same for all tasks.
KRONA = {
    "cola": ([32, 24], 1e-3),
    "rte": ([32, 24], 2e-3),
    "mrpc": ([32, 24], 1e-3),
    "sst2": ([24, 32], 1e-3),
    "stsb": ([2, 384], 1e-3),
    "mnli": ([2, 384], 1e-3),
    "qnli": ([3, 256], 1e-3),
    "qqp": ([24, 32], 1e-3),
}


@pytest.mark.parametrize("task", KRONA)
def test_krona_is_set_as_the_paper_has_it(task):
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == f"krona_{task}").read_text())
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    method = model["method"]["init_args"]
    assert (method["a_shape"], float(model["lr"])) == KRONA[task]
    assert method.get("scale", 1.0) == 1.0
    assert method["trains"] == ["layer_norm"]
    assert (model["plm"], model["warmup"], model.get("max_length", 128)) == ("google-t5/t5-base", 500, 128)
    assert data == {"task": task, "splits": "mahabadi", "batch_size": 100}
    assert trainer["max_epochs"] == 20


def test_lora_is_set_as_its_row_of_the_paper_has_it():
    ours, krona = (
        yaml.safe_load(next(path for path in CONFIGS if path.stem == f"{name}_mnli").read_text())
        for name in ("lora", "krona")
    )
    # Table 10: rank 1, learning rate 1e-3, and all else as for KronA
    assert ours["model"]["init_args"].pop("method") == {
        "class_path": "LoRA",
        "init_args": {"rank": 1, "trains": ["layer_norm"]},
    }
    del krona["model"]["init_args"]["method"]
    assert ours == krona
