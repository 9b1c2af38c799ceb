"""A model of the hub at a revision: config, tokenizer and weights are of that one, wherever they are loaded again."""

import json
import shutil

import pytest
import torch
from conftest import bert
from transformers import AutoConfig, AutoModelForSequenceClassification

import kronlit
from kronlit.__main__ import main
from kronlit.modules.plm import at_revision, load_config, load_model, load_tokenizer

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache with two revisions of me/tiny, told apart by widths, words and weights; gives their folders."""
    folder = tmp_path / "hub/models--me--tiny"
    for revision, width in ((OLD, 24), (NEW, 48)):
        (folder / "snapshots" / revision).mkdir(parents=True)
        bert(folder / "snapshots" / revision, width)
    old = folder / "snapshots" / OLD / "tokenizer.json"
    content = json.loads(old.read_text())
    content["model"]["vocab"] = {word.replace("cat", "lion"): n for word, n in content["model"]["vocab"].items()}
    old.write_text(json.dumps(content))
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(NEW)
    (folder / "refs/v1").write_text(OLD)
    for place in ("huggingface_hub.constants.HF_HUB_CACHE", "transformers.utils.hub.constants.HF_HUB_CACHE"):
        monkeypatch.setattr(place, str(tmp_path / "hub"))
    return {OLD: folder / "snapshots" / OLD, NEW: folder / "snapshots" / NEW}


@pytest.mark.parametrize(
    ("plm", "width", "word"), [("me/tiny", 48, "cat"), ("me/tiny@v1", 24, "lion"), (f"me/tiny@{OLD}", 24, "lion")]
)
def test_config_tokenizer_and_weights_are_of_one_revision(hub, plm, width, word):
    assert load_config(plm).hidden_size == width
    assert word in load_tokenizer(plm).get_vocab()
    model, _ = load_model(AutoModelForSequenceClassification, plm)
    assert model.get_input_embeddings().weight.shape[1] == width


def test_a_folder_with_the_sign_in_its_name_is_a_folder(tmp_path):
    (tmp_path / "mine@v1").mkdir()
    assert at_revision(str(tmp_path / "mine@v1")) == (str(tmp_path / "mine@v1"), None)
    assert at_revision("me/mine@v1") == ("me/mine", "v1")
    assert at_revision("me/mine") == ("me/mine", None)


def test_a_revision_that_is_not_there_is_named(hub):
    with pytest.raises(ValueError, match=r"`model\.plm`='me/tiny@v2' cannot be loaded"):
        load_config("me/tiny@v2")


@pytest.mark.parametrize("form", ["merge", "kronlit", "peft"])
def test_a_run_is_merged_and_exported_at_its_revision(hub, run_of, tmp_path, monkeypatch, form):
    run, _ = run_of("me/tiny@v1", "LoRA")
    out = tmp_path / "out"
    words = ["merge"] if form == "merge" else ["export", "--format", form]
    monkeypatch.setattr("sys.argv", ["kronlit", *words, "--ckpt_path", str(run), "--output", str(out)])
    main()
    card = (out / "README.md").read_text()
    assert "base_model: me/tiny\n" in card
    if form == "merge":
        assert AutoConfig.from_pretrained(out).hidden_size == 24
        return
    if form == "peft":
        assert json.loads((out / "adapter_config.json").read_text())["revision"] == "v1"
        assert 'from_pretrained("me/tiny", num_labels=2, revision="v1")' in card
    moved = kronlit.load(out)
    shutil.rmtree(hub[NEW])  # nothing comes from there
    again = kronlit.load(out)
    inputs = {"input_ids": torch.tensor([[1, 5, 2]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    torch.testing.assert_close(moved(**inputs).logits, again(**inputs).logits)
    assert again.config.hidden_size == 24
