"""`kronlit combine`: the weighted sum of adapters, against dense sums, and PEFT's `add_weighted_adapter`."""

import json
import sys

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from scipy.linalg import circulant
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import kronlit
from kronlit.adapters import placements
from kronlit.exchange.combine.few import few_batches, search_weights
from kronlit.structured import Circulant, WeightedSum

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture
def kronlit_(kronlit):
    return kronlit


def base(folder, **more):
    return AutoModelForSequenceClassification.from_pretrained(folder, **(LABELS | more)).eval()


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(4, 18).reshape(2, 7)).logits


def moved(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


QUERY = "bert.encoder.layer.{}.attention.self.query"
VALUE = QUERY.replace("query", "value")


@pytest.fixture
def three(tiny_bert, tmp_path):
    """The folders of a KronA, a LoRA of PEFT's and a circulant one, and the dense changes and heads of each."""
    changes, heads = [], []
    one = moved(kronlit.inject(base(tiny_bert), kronlit.KronA(a_shape=(8, 6), scale=2.0)), 1)
    changes.append({n: 2 * torch.kron(p.matrix.a, p.matrix.b) for n, p in placements(one)})
    lora = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=6, target_modules=["value"])
    two = moved(get_peft_model(base(tiny_bert), lora), 2)
    tuned = {name.removeprefix("base_model.model."): module for name, module in two.named_modules()}
    values = [VALUE.format(layer) for layer in (0, 1)]
    changes.append({n: 2 * tuned[n].lora_B["default"].weight @ tuned[n].lora_A["default"].weight for n in values})
    three = kronlit.Structured(matrix=Circulant, scale="auto", sites=("query",))
    three = moved(kronlit.inject(base(tiny_bert), three), 3)
    changes.append({n: p.scale * torch.tensor(circulant(p.matrix.column.detach())) for n, p in placements(three)})
    for name, model in zip("ABC", (one, two, three), strict=True):
        if name == "B":
            model.save_pretrained(tmp_path / name)
            heads.append(model.base_model.model.classifier.modules_to_save["default"].weight.detach())
        else:
            kronlit.save(model, tmp_path / name)
            heads.append(model.classifier.weight.detach())
    return [tmp_path / name for name in "ABC"], changes, heads


def dense_sum(folder, changes, heads, weights):
    """The model with sums formed one by one; `weights` are by adapter and layer."""
    model = base(folder)
    means = [sum(own) / len(own) for own in weights]
    shares = [abs(w) / sum(map(abs, means)) for w in means]
    with torch.no_grad():
        for change, own in zip(changes, weights, strict=True):
            for name, matrix in change.items():
                model.get_submodule(name).weight += own[int(name.split(".")[3])] * matrix.float()
        model.classifier.weight.copy_(sum(s * h for s, h in zip(shares, heads, strict=True)))
    return model


def bias_of(model, loaded):
    model.classifier.bias.data.copy_(loaded.classifier.bias.data)
    return model


@pytest.mark.parametrize("kind", ["uniform", "numbers", "negative", "by layer"])
def test_mixed_structures_are_the_dense_sum(kind, kronlit_, three, tiny_bert, tmp_path):
    folders, changes, heads = three
    numbers = {"uniform": [1 / 3] * 3, "numbers": [0.5, 0.3, 0.2], "negative": [1.2, -0.5, 0.1]}
    words, weights = ["uniform"], [[w, w] for w in numbers.get(kind, numbers["uniform"])]
    if kind == "by layer":
        weights = [[0.5, 1.0], [0.3, 0.3], [0.0, -1.0]]
        (tmp_path / "w.yaml").write_text(yaml.safe_dump([weights[0], 0.3, weights[2]]))
        words = [tmp_path / "w.yaml"]
    elif kind != "uniform":
        words = numbers[kind]
    code, out, err = kronlit_("combine", *folders, "--weights", *words, "--output", tmp_path / "D")
    assert code == 0, err
    loaded = kronlit.load(tmp_path / "D", base(tiny_bert))
    expected = bias_of(dense_sum(tiny_bert, changes, heads, weights), loaded)
    torch.testing.assert_close(logits(loaded), logits(expected), rtol=1e-5, atol=1e-5)
    assert "the sum of all structures, exactly" in out
    kinds = {name: [type(m).__name__ for m in p.matrix.matrices] for name, p in placements(loaded)}
    assert kinds == {
        **{QUERY.format(n): ["Kronecker", "Circulant"] for n in (0, 1)},
        **{VALUE.format(n): ["Kronecker", "LowRank"] for n in (0, 1)},
    }
    kronlit.merge(loaded)
    torch.testing.assert_close(logits(loaded), logits(expected), rtol=1e-5, atol=1e-5)


def test_the_sum_is_an_adapter_like_any_other(kronlit_, three, config, tiny_bert, tmp_path):
    folders, changes, heads = three
    D = tmp_path / "D"
    assert kronlit_("combine", *folders, "--weights", "0.5", "0.3", "0.2", "--output", D)[0] == 0
    loaded = kronlit.load(D)
    expected = logits(bias_of(dense_sum(tiny_bert, changes, heads, [[w, w] for w in (0.5, 0.3, 0.2)]), loaded))
    for number, words in enumerate((["export", "--format", "lora", "--rank", "48"], ["export", "--format", "kronlit"])):
        folder = tmp_path / str(number)
        code, out, err = kronlit_(words[0], "--ckpt_path", D, "--output", folder, *words[1:])
        assert code == 0, err
        torch.testing.assert_close(logits(kronlit.load(folder, base(tiny_bert))), expected, rtol=1e-5, atol=1e-5)
    code, out, err = kronlit_("merge", "--ckpt_path", D, "--output", tmp_path / "merged")
    assert code == 0, err
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert kronlit_("info", D)[0] == 0

    # again in a sum, half of it: half of every change
    code, _, err = kronlit_("combine", D, folders[0], "--weights", "0.5", "0", "--output", tmp_path / "E")
    assert code == 0, err
    again = kronlit.load(tmp_path / "E", base(tiny_bert))
    half = [[w / 2, w / 2] for w in (0.5, 0.3, 0.2)]
    torch.testing.assert_close(
        logits(again), logits(bias_of(dense_sum(tiny_bert, changes, heads, half), again)), rtol=1e-5, atol=1e-5
    )

    # it is tested as it is, and training goes on from it
    words = ("--config", config, "--config", D / "method.yaml", "--init_adapter", D, "--run_dir", "tested")
    code, out, err = kronlit_("test", *words, "--scored_rows", "true")
    assert code == 0, err
    assert "with nothing trained" not in err
    told = {row.split(",")[1] for row in next(tmp_path.rglob("test_rows.csv")).read_text().splitlines()[1:]}
    assert told <= {"0", "1", "0.0", "1.0"}
    words = ("--config", config, "--config", D / "method.yaml", "--init_adapter", D, "--trainer.max_epochs", "1")
    code, out, err = kronlit_("fit", *words)
    assert code == 0, err
    assert f"starting from {D}" in out
    code, _, err = kronlit_(
        "merge", "--ckpt_path", tmp_path / "runs/small-method/version_0", "--output", tmp_path / "m"
    )
    assert code == 0, err


def test_a_change_that_depends_on_the_weight_is_kept_dense(kronlit_, tiny_bert, tmp_path):
    methods = {"A": kronlit.DoRA(), "B": kronlit.LiST(bottleneck_width=4)}  # the latter changes biases, too
    alone = {}
    for name, method in methods.items():
        model = moved(kronlit.inject(base(tiny_bert), method), 4)
        kronlit.save(model, tmp_path / name)
        kronlit.merge(model)
        alone[name] = model.state_dict()
    words = ("--weights", "0.75", "0.25", "--output", tmp_path / "D")
    code, _, err = kronlit_("combine", tmp_path / "A", tmp_path / "B", *words)
    assert code == 0, err
    expected = base(tiny_bert)
    start = expected.state_dict()
    expected.load_state_dict(
        {n: start[n] + 0.75 * (alone["A"][n] - start[n]) + 0.25 * (alone["B"][n] - start[n]) for n in start}
    )
    loaded = kronlit.load(tmp_path / "D", base(tiny_bert))
    torch.testing.assert_close(logits(loaded), logits(expected), rtol=1e-4, atol=1e-5)


def test_language_models_have_no_head_to_average(kronlit_, tiny_gpt2, tmp_path):
    expected = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    for name, weight, seed in (("A", 0.5, 1), ("B", -1.5, 2)):
        model = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
        moved(kronlit.inject(model, kronlit.LoRA(rank=2, trains=("layer_norm",))), seed)
        kronlit.save(model, tmp_path / name)
        kronlit.merge(model)
        start = AutoModelForCausalLM.from_pretrained(tiny_gpt2).state_dict()
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key != "lm_head.weight":  # the embeddings'
                    expected.state_dict()[key] += weight * (value - start[key])
    words = ("--weights", "0.5", "-1.5", "--output", tmp_path / "D")
    code, _, err = kronlit_("combine", tmp_path / "A", tmp_path / "B", *words)
    assert code == 0, err
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "D")), logits(expected), rtol=1e-4, atol=1e-4)


def peft_pair(folder, tmp_path):
    """Two LoRAs in a model of PEFT's, and their folders."""
    configs = [LoraConfig(r=4, lora_alpha=alpha, target_modules=["query", "value"]) for alpha in (8, 2)]
    model = get_peft_model(base(folder), configs[0], adapter_name="A")
    model.add_adapter("B", configs[1])
    for seed, name in enumerate("AB"):
        model.set_adapter(name)
        moved(model, seed)
        model.save_pretrained(tmp_path, selected_adapters=[name])
        file = tmp_path / name / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"task_type": "SEQ_CLS"}))
    return model


def add(model, how, rank):
    density = None if how == "cat" else 0.4
    model.add_weighted_adapter(["A", "B"], [0.7, -0.4], "D", combination_type=how, density=density, **rank)


HOW = ["cat", "ties", "dare_ties", "dare_linear", "magnitude_prune", "ties_svd", "dare_linear_svd"]


@pytest.mark.parametrize("how", HOW)
def test_loras_are_combined_as_peft_combines_them(how, kronlit_, tiny_bert, tmp_path, monkeypatch):
    theirs = peft_pair(tiny_bert, tmp_path)
    words = [] if how == "cat" else ["--how", how, "--density", "0.4", "--seed", "7"]
    words += ["--rank", "3"] if how.endswith("_svd") else []
    code, _, err = kronlit_(
        "combine", tmp_path / "A", tmp_path / "B", "--weights", "0.7", "-0.4", *words, "--output", tmp_path / "D"
    )
    assert code == 0, err
    rank = {"svd_rank": 3} if how.endswith("_svd") else {}
    with monkeypatch.context() as patch:  # the start of the new adapter, which draws numbers before dare does
        patch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, **_: tensor)
        torch.manual_seed(7)
        add(theirs, how, rank)
    theirs.set_adapter("D")
    loaded = kronlit.load(tmp_path / "D", base(tiny_bert))
    torch.testing.assert_close(logits(loaded), logits(theirs), rtol=1e-4, atol=1e-5)
    code, _, err = kronlit_("export", "--ckpt_path", tmp_path / "D", "--output", tmp_path / "p", "--format", "peft")
    assert code == 0, err
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(base(tiny_bert), tmp_path / "p")), logits(theirs), rtol=1e-4, atol=1e-5
    )


def test_ties_of_mixed_structures_acts_on_whole_changes(kronlit_, three, tiny_bert, tmp_path):
    from peft.utils.merge_utils import ties

    folders, changes, _ = three
    words = ("--weights", "0.5", "0.3", "0.2", "--how", "ties", "--density", "0.3", "--output", tmp_path / "D")
    code, out, err = kronlit_("combine", *folders, *words)
    assert code == 0, err
    assert "dense matrices: ties on each whole ΔW" in out
    loaded = kronlit.load(tmp_path / "D", base(tiny_bert))
    for name, placement in placements(loaded):
        there = [(change[name], w) for change, w in zip(changes, (0.5, 0.3, 0.2), strict=True) if name in change]
        expected = ties([c.detach().float() for c, _ in there], torch.tensor([w for _, w in there]), 0.3)
        torch.testing.assert_close(placement.matrix.to_dense().detach(), expected, rtol=1e-5, atol=1e-6)


def test_few_rows_find_the_adapter_that_they_are_of(kronlit_, config, tiny_bert, tmp_path, monkeypatch):
    """Of two adapters, the one whose head knows the word gets more weight, and the loss is no more than at first."""
    rows = [{"text": f"{word} film", "label": word} for word in ("good", "bad") for _ in range(3)]
    for name in ("few", "train"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    content = yaml.safe_load(config.read_text())
    content["data"] = {"class_path": "TextFiles", "init_args": {"train": "train.jsonl", "validation": 0.1, "test": 0.1}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    for seed, name in ((1, "A"), (2, "B")):
        kronlit.save(moved(kronlit.inject(base(tiny_bert), kronlit.LoRA(rank=2)), seed), tmp_path / name)
    words = ("--few", "few.jsonl", "--config", "own.yaml", "--steps", "15", "--output", tmp_path / "D")
    batches = []
    read = lambda *given: batches.extend(few_batches(*given)) or batches  # noqa: E731
    monkeypatch.setattr("kronlit.exchange.combine.few.few_batches", read)
    code, out, err = kronlit_("combine", "A", "B", *words)
    assert code == 0, err
    assert sum(len(batch["input_ids"]) for batch in batches) == len(rows)  # the config's shares hold out none of them
    line = next(line for line in out.splitlines() if "readings" in line)
    found, first = (float(word.strip(".,")) for word in (line.split()[9], line.split()[-1]))
    assert found <= first
    assert int(line.split()[0]) <= 15


def test_the_search_finds_a_minimum_that_is_known(monkeypatch):
    """Of the loss (w1 - 1)² + (w2 + 0.5)² + λ (|w1| + |w2|) / 2, it lies at 1 - λ/4 and -0.5 + λ/4."""

    class Known:
        members, layers, model = [0, 1], 1, None

        def set_weights(self, weights):
            self.at = [own[0] for own in weights]

    known = Known()
    module = torch.nn.Linear(1, 1)
    loss = lambda *_: (known.at[0] - 1) ** 2 + (known.at[1] + 0.5) ** 2  # noqa: E731
    monkeypatch.setattr("kronlit.exchange.combine.few.mean_loss", loss)
    found = search_weights(known, module, [], steps=100, penalty=0.4)
    assert [own[0] for own in found] == pytest.approx([0.9, -0.4], abs=0.02)
    loss = lambda *_: (known.at[0] - 3) ** 2 + known.at[1] ** 2  # noqa: E731
    monkeypatch.setattr("kronlit.exchange.combine.few.mean_loss", loss)
    assert search_weights(known, module, [], steps=100)[0][0] == pytest.approx(1.5, abs=0.01)


TRAINED = {"BitFit": kronlit.BitFit(), "LoRA": kronlit.LoRA(rank=2), "HeadOnly": kronlit.HeadOnly()}
TIES = ("--how", "ties", "--density", "0.5")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("BitFit", "LoRA"), ()),
        (("BitFit", "BitFit"), ()),
        (("HeadOnly", "HeadOnly"), TIES),
        (("HeadOnly", "HeadOnly"), (*TIES, "--rank", "4")),
    ],
)
def test_what_adds_no_matrix_is_a_part_of_the_sum_too(pair, words, kronlit_, tiny_bert, tmp_path):
    """Biases move as the weights do, and a head is the mean: so it is with each adapter's merged model."""
    states = []
    for seed, (folder, name) in enumerate(zip("AB", pair, strict=True)):
        model = moved(kronlit.inject(base(tiny_bert), TRAINED[name]), seed)
        kronlit.save(model, tmp_path / folder)
        kronlit.merge(model)
        states.append(model.state_dict())
    code, _, err = kronlit_("combine", "A", "B", *words, "--weights", "0.75", "0.5", "--output", "D")
    assert code == 0, err
    expected, (a, b) = base(tiny_bert), states
    start = expected.state_dict()
    total = {n: start[n] + 0.75 * (a[n] - start[n]) + 0.5 * (b[n] - start[n]) for n in start}
    total |= {n: 0.6 * a[n] + 0.4 * b[n] for n in start if n.startswith("classifier.")}
    expected.load_state_dict(total)
    torch.testing.assert_close(logits(kronlit.load("D", base(tiny_bert))), logits(expected), rtol=1e-4, atol=1e-5)
    trained = [name for name, p in kronlit.load("D").named_parameters() if p.requires_grad]
    assert any(name.endswith("LayerNorm.bias") for name in trained) == ("BitFit" in pair)  # when training goes on


def test_a_new_pooler_is_the_mean_as_the_head_is(kronlit_, mlm_bert, tmp_path):
    """The pre-trained files lack one, so that each reading of them draws another."""
    poolers = []
    for seed, name in enumerate("AB"):
        model = kronlit.inject(base(mlm_bert), kronlit.LoRA(rank=2))
        model.bert.pooler.requires_grad_(True)
        kronlit.save(moved(model, seed), tmp_path / name)
        poolers.append(model.bert.pooler.dense.weight.detach())
    code, _, err = kronlit_("combine", "A", "B", "--weights", "1.5", "-0.5", "--output", "D")
    assert code == 0, err
    found = kronlit.load("D").bert.pooler.dense.weight
    torch.testing.assert_close(found.detach(), 0.75 * poolers[0] + 0.25 * poolers[1])


def test_a_run_is_combined_as_its_export_is(kronlit_, run_of, tiny_bert, tmp_path):
    glue_run, _ = run_of(tiny_bert, "SURM", structure="toeplitz")
    assert kronlit_("export", "--ckpt_path", glue_run, "--output", "A", "--format", "kronlit")[0] == 0
    assert kronlit_("export", "--ckpt_path", glue_run, "--output", "B", "--format", "lora")[0] == 0
    for number, first in enumerate(("A", glue_run, glue_run.parent, *glue_run.glob("checkpoints/*"))):
        code, _, err = kronlit_("combine", first, "B", "--weights", "0.7", "0.2", "--output", str(number))
        assert code == 0, err
        expected, found = (load_file(tmp_path / str(n) / "adapter.safetensors") for n in (0, number))
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert len(kronlit.load(str(number)).config.id2label) == 2


def test_the_hub_does_not_say_what_is_imported(kronlit_, tiny_bert, tmp_path, monkeypatch):
    """A folder of one's own may name a module, and a repository of the hub may not."""
    kronlit.save(kronlit.inject(base(tiny_bert), kronlit.LoRA()), tmp_path / "A")
    snapshot = tmp_path / "hub/models--me--mine/snapshots/0123456789012345678901234567890123456789"
    kronlit.save(kronlit.inject(base(tiny_bert), kronlit.LoRA()), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert kronlit_("combine", "A", "me/mine", "--output", "D")[0] == 0
    (tmp_path / "imported_by_hub.py").write_text("import kronlit\nclass Own(kronlit.LoRA): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = snapshot / "adapter_config.json"
    content = json.loads(file.read_text())
    content["method"]["class_path"] = "imported_by_hub.Own"
    file.write_text(json.dumps(content))
    code, _, err = kronlit_("combine", "A", "me/mine", "--output", "E")
    assert code == 2
    assert "'imported_by_hub.Own' is not kronlit's own" in err.strip().splitlines()[-1]
    assert "imported_by_hub" not in sys.modules
    assert kronlit_("combine", "A", snapshot, "--output", "E")[0] == 0
    assert "imported_by_hub" in sys.modules


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["A"], "must name two or more"),
        (["A", "B", "--weights", "0.5"], "has 1 number for 2 adapters"),
        (["A", "B", "--weights", "0.5", "half"], "'half', which is no finite number"),
        (["A", "B", "--weights", "huge.json"], "which is no finite number"),
        (["A", "B", "--weights", "day.yaml"], "which is no finite number"),
        (["A", "B", "--weights", "w.yaml"], "has a list of 3 numbers, and the model has 2 layers"),
        (["A", "other"], "they are others"),
        (["A", "labels"], "heads of other labels cannot be averaged"),
        (["A", "bottleneck"], "'bottleneck', which does not merge"),
        (["A", "bottleneck"], "--ensemble"),
        (["A", "nowhere"], "'nowhere' is no folder"),
        (["A", "empty"], "`adapters`='empty' is neither a checkpoint nor the folder of a run"),
        (["A", "B", "--how", "ties"], "give it as `density`"),
        (["A", "B", "--how", "ties", "--density", "2"], "`density`=2.0 must be a share"),
        (["A", "B", "--density", "0.5"], "`density`=0.5 is not for the plain sum"),
        (["A", "B", "--how", "ties", "--density", "0.5", "--rank", "99"], "`rank`=99 must be at most 48"),
        (["A", "B", "--few", "few.jsonl"], "give it as `config`"),
        (["A", "B", "--config", "own.yaml"], "give that too"),
        (
            ["A", "B", "--few", "few.jsonl", "--config", "quickstart"],
            "data, MovieReviews, reads none",
        ),  # a shipped name
    ],
)
def test_what_cannot_be_combined_is_one_line(words, reason, kronlit_, tiny_bert, refusals, tmp_path):
    code, _, err = kronlit_("combine", *words, "--output", tmp_path / "D")
    assert code == 2, err
    assert reason in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "D").exists()


@pytest.fixture
def refusals(tiny_bert, tmp_path):
    """Adapters that go together, and others that do not."""
    other = base(tiny_bert)
    torch.nn.init.normal_(other.bert.embeddings.word_embeddings.weight)
    models = {
        "A": (base(tiny_bert), kronlit.KronA()),
        "B": (base(tiny_bert), kronlit.LoRA()),
        "other": (other, kronlit.LoRA()),
        "labels": (base(tiny_bert, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}), kronlit.LoRA()),
        "bottleneck": (base(tiny_bert), kronlit.Pfeiffer()),
    }
    for name, (model, method) in models.items():
        kronlit.save(kronlit.inject(model, method), tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.yaml").write_text("[[1, 2, 3], 1]")
    (tmp_path / "huge.json").write_text(f"[{10**400}, 1]")  # larger than any float
    (tmp_path / "day.yaml").write_text("[2026-11-27, 1]")
    (tmp_path / "few.jsonl").touch()


def test_the_weights_of_a_sum_are_loaded_and_not_rounded():
    matrix = WeightedSum(8, 8, [Circulant, Circulant], [0.1, 0.2]).bfloat16()
    other = WeightedSum(8, 8, [Circulant, Circulant])
    other.load_state_dict(matrix.state_dict())
    assert other.weights == [0.1, 0.2]
