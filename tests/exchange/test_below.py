"""A frozen adapter below a trained one (MAD-X), against plain PyTorch."""

import copy
import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.adapters import NAMES, Toy, adapter
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

import kronlit
from kronlit.adapters import Bottleneck, Delta, Insertion, SequentialAdapter, inject
from kronlit.adapters.below import put_below, take_out
from kronlit.adapters.several import Blend
from kronlit.adapters.state import adapter_state, with_current_names
from kronlit.exchange.adapter_folder import read_tensors
from kronlit.exchange.below import SeveralBelow
from kronlit.exchange.export import export_run
from kronlit.exchange.init_adapter import init_adapter
from kronlit.exchange.load import open_below
from kronlit.modules.quantisation import Quantisation
from kronlit.structured import Dense, Kronecker


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


def bottleneck(**kwargs):
    return kronlit.Pfeiffer(reduction_factor=4, activation="relu", sites=("ffn_output",), **kwargs)


@pytest.fixture
def languages(tiny_bert, tmp_path):
    """Three language adapters, bottlenecks; their heads are of classes of their own."""
    labels = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    return [
        adapter(tiny_bert, tmp_path / name, bottleneck(), labels, seed) for seed, name in enumerate(("en", "is", "fo"))
    ]


@pytest.fixture
def batch():
    return {"input_ids": torch.randint(4, 24, (5, 12), generator=torch.Generator().manual_seed(1))}


SITES = (r"layers\.\d+\.map",)
BODY = partial(Bottleneck, width=2, down=Dense, up=Dense, activation="relu")
KINDS = {
    "bottleneck": partial(SequentialAdapter, body=BODY),
    "change": partial(Delta, matrix=partial(Kronecker, a_shape=(2, 3))),
}


def random_adapter(model, kind):
    inject(model, [Insertion(SITES, KINDS[kind])])
    found = [layer["map"] for layer in model.layers]
    for placement in found:
        for parameter in placement.added():
            nn.init.normal_(parameter)
    return found


def by_hand(placement, x, h):
    """What an adapter gives for the input of its layer and the output of what it stands on."""
    if isinstance(placement, Delta):
        return h + x @ torch.kron(placement.matrix.a, placement.matrix.b).T
    body = placement.body
    return h + F.relu(h @ body.down.weight.T + body.down_bias) @ body.up.weight.T + body.up_bias


@pytest.mark.parametrize(("lower", "upper"), [("bottleneck",) * 2, ("change",) * 2, ("change", "bottleneck")])
@pytest.mark.parametrize("several", [False, True])
def test_the_upper_is_given_the_output_of_the_lower_or_the_mean_of_several(lower, upper, several):
    torch.manual_seed(0)
    model = Toy().requires_grad_(False)
    plain, below, blend = copy.deepcopy(model), [], Blend(3)
    for _ in range(3 if several else 1):
        random_adapter(model, lower)
        below.append(take_out(model))
    above = random_adapter(model, upper)
    put_below(model, below, blend if several else None)
    assert blend.layers == ({"layers.0": 0, "layers.1": 1} if several else {})
    if several:
        blend.weights = torch.full((2, 3), 1 / 3)
    x = torch.randn(40, 6)
    y = x
    for number, layer in enumerate(plain.layers):
        h = layer["map"](y)
        h = sum(by_hand(adapter[number], y, h) for adapter in below) / len(below)
        y = torch.tanh(by_hand(above[number], y, h))
    found = model(x)
    torch.testing.assert_close(found, plain.head(y), atol=1e-5, rtol=0)
    found.sum().backward()
    own = {id(p) for placement in above for name, p in placement.named_parameters() if "host" not in name}
    assert {id(p) for p in model.parameters() if p.requires_grad} == own
    assert all((p.grad is not None) == (id(p) in own) for p in model.parameters())


def test_what_cannot_stand_there_is_named():
    model = Toy().requires_grad_(False)
    random_adapter(model, "bottleneck")
    below = take_out(model)
    random_adapter(model, "change")
    with pytest.raises(ValueError, match=r"layers.0.map: a Delta changes a weight, .* leave it out of `sites`"):
        put_below(model, [below])


@torch.no_grad()
def bert_by_hand(folder, below, batch):
    """The logits of tiny BERT with two bottlenecks a layer, by hooks on a plain model."""
    upper, lower = (tensors_of(one) for one in (folder, below))
    model = AutoModelForSequenceClassification.from_pretrained(
        json.loads((Path(folder) / "adapter_config.json").read_text())["plm"], **NAMES
    ).eval()

    def hook(number):
        name = f"bert.encoder.layer.{number}.output.dense"

        def added(module, args, h):
            for tensors in (lower, upper):
                own = {part: tensors[f"{name}.body.{part}"] for part in ("down.weight", "up.weight")}
                biases = {part: tensors[f"{name}.body.{part}_bias"] for part in ("down", "up")}
                inside = F.relu(h @ own["down.weight"].T + biases["down"])
                h = h + inside @ own["up.weight"].T + biases["up"]
            return h

        return added

    for number, layer in enumerate(model.bert.encoder.layer):
        layer.output.dense.register_forward_hook(hook(number))
    model.load_state_dict({name: tensor for name, tensor in upper.items() if ".body." not in name}, strict=False)
    return model(**batch).logits


def tensors_of(folder):
    return read_tensors(Path(folder) / "adapter.safetensors")


@pytest.fixture
def run(kronlit_, tiny_bert, tmp_path):
    """Runs a command with a config of own rows."""
    words = ["good", "bad", "film", "cat", "the", "not"]
    rows = [{"text": f"{words[n % 6]} {words[n % 4]} {words[n % 5]}", "label": ("no", "yes")[n % 2]} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    method = {"class_path": "Pfeiffer", "init_args": {"reduction_factor": 4, "activation": "relu"}}
    method["init_args"]["sites"] = ["ffn_output"]
    config = {
        "model": {
            "class_path": "SequenceClassification",
            "init_args": {"plm": str(tiny_bert), "method": method, "lr": 0.05},
        },
        "data": {
            "class_path": "TextFiles",
            "init_args": dict.fromkeys(("train", "validation", "test"), "rows.jsonl") | {"eval_batch_size": 5},
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "max_epochs": 1},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    return kronlit_


def predictions(name):
    return torch.tensor([json.loads(line)["scores"]["yes"] for line in Path(name).read_text().splitlines()])


def test_fit_resume_export_load_and_test_with_others_below(run, languages, tiny_bert, tmp_path, batch):
    def ok(*words):
        code, out, err = run(*words)
        assert code == 0, err
        return out

    def refused(*words):
        code, _, err = run(*words)
        assert code == 2
        return err.strip().splitlines()[-1]

    en, other, _ = languages
    out = ok("fit", "--config", "own.yaml", "--below", en, "--run_dir", "runs/task")
    assert "dense.body.down.weight" in out
    assert "host.body" not in out  # the lower one is not trained
    assert "kronlit merge" not in out
    task = "runs/task/version_0"
    again = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    resume = ["fit", "--config", "own.yaml", "--run_dir", "runs/task", *again]
    assert "below" in refused(*resume, "--below", other)
    assert "below" in refused(*resume)
    ok(*resume, "--below", en)

    ok("export", "--ckpt_path", task, "--output", "up")
    assert "cannot be merged" in refused("merge", "--ckpt_path", task, "--output", "m")
    tensors = tensors_of("up")
    assert set(tensors_of("up/below")) == set(tensors_of(en))
    assert not any("host" in name for name in tensors)
    model = kronlit.load("up")
    logits = model(**batch).logits.detach()
    torch.testing.assert_close(logits, bert_by_hand("up", en, batch), atol=1e-5, rtol=0)
    assert (logits - bert_by_hand("up", other, batch)).abs().max() > 1e-3
    kronlit.save(model, "again")
    torch.testing.assert_close(kronlit.load("again")(**batch).logits, logits)

    # as it was trained, with another below, and with the export in place of the run
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]

    def expected(below):
        found = [bert_by_hand("up", below, dict(tokenizer(row["text"], return_tensors="pt"))) for row in rows]
        return torch.cat(found).softmax(-1)[:, 1]

    ok("predict", "--ckpt_path", task, "--predictions", "same.jsonl")
    torch.testing.assert_close(predictions("same.jsonl"), expected(en), atol=1e-5, rtol=0)
    ok("predict", "--ckpt_path", task, "--adapters", other, "--predictions", "other.jsonl")
    torch.testing.assert_close(predictions("other.jsonl"), expected(other), atol=1e-5, rtol=0)
    assert "name them as `adapters`" in refused("predict", "--ckpt_path", task, "--below", other)
    ok("predict", "--config", "own.yaml", "--init_adapter", "up", "--predictions", "export.jsonl")
    torch.testing.assert_close(predictions("export.jsonl"), expected(en), atol=1e-5, rtol=0)

    # goes on from an adapter that carries what is below it, as a queued job does
    more = ["fit", "--config", "own.yaml", "--init_adapter", "up", "--run_dir", "runs/more"]
    ok(*more)
    ok(*more, *again)
    both = ["--below", en, "--adapters", *languages]
    assert "both say what stands below" in refused("predict", "--config", "own.yaml", *both)
    assert "is not counted" in refused("memory", "--config", "own.yaml", "--below", en)

    # EMEA over the lower ones; the one that they replace need not be there
    shutil.move(en, "elsewhere")
    ok("predict", "--ckpt_path", task, "--adapters", other, "--predictions", "other-again.jsonl")
    torch.testing.assert_close(predictions("other-again.jsonl"), predictions("other.jsonl"))
    shutil.move("elsewhere", en)
    words = ["predict", "--ckpt_path", task, "--adapters", *languages]
    ok(*words, "--predictions", "uniform.jsonl")
    for steps in ("0", "10"):
        out = ok(*words, "--ensemble", "emea", "--steps", steps, "--predictions", f"{steps}.jsonl")
        assert "mean weights over layers and rows: en 0." in out
    uniform, surer = predictions("uniform.jsonl"), predictions("10.jsonl")
    torch.testing.assert_close(predictions("0.jsonl"), uniform, atol=1e-6, rtol=0)
    entropy = [(torch.special.entr(p) + torch.special.entr(1 - p)).mean() for p in (uniform, surer)]
    assert entropy[1] < entropy[0]


@pytest.mark.parametrize("lower", ["of another job", "weights", "peft"])
def test_what_is_below_may_be_of_another_job_or_kind(lower, tiny_bert, tmp_path, batch):
    """Trained biases of the hosts are read again, whatever stands below them."""
    if lower == "of another job":
        below = adapter(tiny_bert, tmp_path / "l", bottleneck(), kind=AutoModelForTokenClassification)
    elif lower == "weights":
        below = adapter(tiny_bert, tmp_path / "l", kronlit.KronA(sites=("query", "ffn_output")))
    else:
        folder = adapter(tiny_bert, tmp_path / "own", kronlit.LoRA(sites=("ffn_output",)))
        export_run(folder, str(below := tmp_path / "l"), "peft")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **NAMES).eval()
    before = model(**batch).logits
    method = bottleneck(trains=("head", "bias"))
    with open_below(str(below))(model):
        kronlit.inject(model, method)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.1 * torch.randn_like(parameter))
    kronlit.save(model, tmp_path / "up")
    logits = model(**batch).logits
    assert (logits - before).abs().max() > 1e-2
    torch.testing.assert_close(kronlit.load(tmp_path / "up")(**batch).logits, logits)
    alone = adapter(tiny_bert, tmp_path / "alone", method)
    names = [{re.sub(r"\.host\b", "", name) for name in tensors_of(folder)} for folder in (tmp_path / "up", alone)]
    assert names[0] == names[1]
    # on a mixture of one, whose modules have other names
    again = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **NAMES).eval()
    with SeveralBelow([open_below(str(below))], Blend(1))(again):
        kronlit.inject(again, method)
    init_adapter(again, method, str(tmp_path / "up"))
    torch.testing.assert_close(again(**batch).logits, logits)


def test_a_lower_one_of_another_job_knows_its_model_when_that_is_quantised(tiny_bert, tmp_path):
    below = adapter(tiny_bert, tmp_path / "l", bottleneck(), kind=AutoModelForTokenClassification)

    def quantised(change=0.0):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **NAMES)
        with torch.no_grad():
            model.bert.encoder.layer[0].attention.self.query.weight[0, 0] += change
        Quantisation("int8").apply(model, list(model.classifier.parameters()))
        return model

    model = quantised()
    with open_below(below)(model):
        kronlit.inject(model, bottleneck())
    other = quantised(1.0)
    with (
        pytest.raises(ValueError, match="are not those of this BertForSequenceClassification"),
        open_below(below)(other),
    ):
        kronlit.inject(other, bottleneck())


def test_mistakes_are_one_line(tiny_bert, tmp_path, languages):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **NAMES)

    def refused(folder, line, method=None):
        fresh = copy.deepcopy(model)
        with pytest.raises(ValueError, match=line), open_below(str(folder))(fresh):
            kronlit.inject(fresh, method or bottleneck())

    refused("nowhere", "`below`='nowhere'")
    refused(adapter(tiny_bert, tmp_path / "n", bottleneck(trains=("layer_norm",))), "has also trained .*LayerNorm")
    refused(adapter(tiny_bert, tmp_path / "h", kronlit.HeadOnly()), "a HeadOnly adds nothing to modules")
    refused(adapter(tiny_bert, tmp_path / "s", kronlit.IntrinsicSAID()), "IntrinsicSAID adds nothing to modules")
    weights = kronlit.KronA(sites=("ffn_output",))
    refused(languages[0], "en' is below what is added, .*a Delta changes a weight", weights)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.bert.encoder.layer[0].attention.self.query.weight[0, 0] += 1
    other.save_pretrained(tmp_path / "other")
    refused(adapter(tmp_path / "other", tmp_path / "o", bottleneck()), "was trained on .*other': its model has finger")
    shutil.copytree(languages[1], tmp_path / "two" / "below")
    for file in ("adapter_config.json", "adapter.safetensors"):
        shutil.copy(Path(languages[0]) / file, tmp_path / "two")
    refused(tmp_path / "two", "on another adapter itself")


def test_names_that_differ_only_by_what_is_left_out_stay_apart():
    class Two(nn.Module):
        def __init__(self, in_features, out_features):
            super().__init__()
            self.each = nn.ModuleList(nn.Linear(in_features, out_features) for _ in range(2))

        def forward(self, x):
            return self.each[0](x) + self.each[1](x)

    model = nn.ModuleDict({"map": nn.Linear(4, 4)}).requires_grad_(False)
    inject(model, [Insertion(("map",), partial(SequentialAdapter, body=Two))])
    state = adapter_state(model)
    assert len(state) == 4
    assert with_current_names(model, state).keys() == state.keys()
