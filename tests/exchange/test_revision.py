"""A model of the hub at a revision: config, tokenizer and weights are of that one, wherever they are loaded again."""

import json
import shutil

import pytest
import torch
from fixtures.models import bert
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

import kronlit
from kronlit.__main__ import main
from kronlit.exchange.init_adapter import init_adapter
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
        assert 'from_pretrained("me/tiny", num_labels=2, ignore_mismatched_sizes=True, revision="v1")' in card
    moved = kronlit.load(out)
    shutil.rmtree(hub[NEW])  # nothing comes from there
    again = kronlit.load(out)
    inputs = {"input_ids": torch.tensor([[1, 5, 2]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    torch.testing.assert_close(moved(**inputs).logits, again(**inputs).logits)
    assert again.config.hidden_size == 24


def test_the_class_names_of_a_peft_folder_are_those_of_its_revision(hub, tmp_path):
    for revision, names in ((OLD, ("a", "b")), (NEW, ("b", "a"))):
        path = hub[revision] / "config.json"
        id2label = dict(enumerate(names))
        label2id = {name: number for number, name in id2label.items()}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": id2label, "label2id": label2id}))
    base = AutoModelForSequenceClassification.from_pretrained(hub[OLD])
    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=8, target_modules=["query", "value"], revision="v1")
    get_peft_model(base, config).save_pretrained(tmp_path / "peft")
    path = tmp_path / "peft/adapter_config.json"
    content = json.loads(path.read_text()) | {"base_model_name_or_path": "me/tiny", "revision": "v1"}
    path.write_text(json.dumps(content))
    head = load_file(tmp_path / "peft/adapter_model.safetensors")["base_model.model.classifier.weight"]
    assert torch.equal(kronlit.load(tmp_path / "peft").classifier.weight, head)
    ours = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(hub[OLD]), kronlit.LoRA())
    init_adapter(ours, kronlit.LoRA(), str(tmp_path / "peft"))
    assert torch.equal(ours.classifier.weight, head)
