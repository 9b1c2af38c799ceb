"""Several adapters in one frozen model, against each alone, dense sums, and EMEA in plain PyTorch."""

import copy
import csv
import json
import random
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from fixtures.adapters import NAMES, Toy, adapter
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
)

import kronlit
from kronlit.adapters import Bottleneck, Delta, Insertion, QuantisedLinear, SequentialAdapter, inject
from kronlit.adapters.emea import minimise_entropy
from kronlit.adapters.several import join_several, share_frozen_weights
from kronlit.data import QuestionFiles
from kronlit.exchange.ensemble import Ensemble
from kronlit.exchange.load_many import load_many
from kronlit.modules import QuestionAnswering
from kronlit.modules.quantisation import Quantisation
from kronlit.structured import LowRank

opened = sys.modules[load_many.__module__]


@pytest.fixture
def kronlit_(kronlit):
    """The command line, beside the package of that name."""
    return kronlit


@pytest.fixture
def three(tiny_bert, tmp_path):
    """Adapters of three methods."""
    methods = {"films": kronlit.KronA(), "books": kronlit.Houlsby(), "news": kronlit.BitFit()}
    return {
        name: adapter(tiny_bert, tmp_path / name, method, seed=seed)
        for seed, (name, method) in enumerate(methods.items())
    }


@pytest.fixture
def batch():
    ids = torch.randint(4, 24, (5, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, 5:] = mask[3, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def test_each_row_is_what_its_own_adapter_alone_gives(three, batch):
    many, names = load_many(list(three.values())), ["news", "films", "books", "films", "news"]
    found = many(**batch, adapters=names).logits
    for row, name in enumerate(names):
        alone = kronlit.load(three[name])(**batch).logits[row]
        torch.testing.assert_close(found[row], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(found[0], many(**batch, adapters=["books"] * 5).logits[0], atol=1e-3)


@torch.no_grad()
def test_a_mixture_is_the_model_with_the_weighted_sum_of_the_changes(tiny_bert, tmp_path, batch):
    folders = [adapter(tiny_bert, tmp_path / str(k), kronlit.KronA(scale=1.0 + k), seed=k) for k in range(3)]
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]])
    alone = [kronlit.load(folder) for folder in folders]
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **NAMES).eval()
    for number, layer in enumerate(plain.bert.encoder.layer):
        for site in ("query", "value"):
            for k, model in enumerate(alone):
                own = getattr(model.bert.encoder.layer[number].attention.self, site).matrix
                change = (1.0 + k) * torch.kron(own.a, own.b)
                getattr(layer.attention.self, site).weight += weights[number, k] * change
    plain.classifier.weight.copy_(sum(model.classifier.weight for model in alone) / 3)
    plain.classifier.bias.copy_(sum(model.classifier.bias for model in alone) / 3)
    many = load_many(folders)
    many.mix(weights)
    torch.testing.assert_close(many(**batch).logits, plain(**batch).logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_weight_of_one_is_that_adapter_under_the_mean_of_the_heads(three, batch):
    many = load_many(three)
    heads = [kronlit.load(folder).classifier for folder in three.values()]
    many.mix([0, 1, 0])
    alone = kronlit.load(three["books"])
    # BitFit trained the embeddings' norm, outside of all layers, where the three are averaged
    norms = [kronlit.load(folder).bert.embeddings.LayerNorm for folder in three.values()]
    poolers = [kronlit.load(folder).bert.pooler.dense for folder in three.values()]
    for part, each in (
        (alone.classifier, heads),
        (alone.bert.embeddings.LayerNorm, norms),
        (alone.bert.pooler.dense, poolers),
    ):
        part.weight.copy_(sum(one.weight for one in each) / 3)
        part.bias.copy_(sum(one.bias for one in each) / 3)
    torch.testing.assert_close(many(**batch).logits, alone(**batch).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weights_of", ["batch", "row"])
def test_emea_is_what_its_algorithm_gives_in_plain_pytorch(weights_of):
    torch.manual_seed(0)
    plain, models, deltas = Toy().requires_grad_(False).double(), [], []
    for _ in range(3):
        model = copy.deepcopy(plain)
        inject(model, [Insertion((r"layers\.\d+\.map",), partial(Delta, matrix=partial(LowRank, rank=2)))])
        model.double()
        for parameter in (p for p in model.parameters() if p.requires_grad):
            nn.init.normal_(parameter)
        deltas.append([layer["map"].change(None).detach() for layer in model.layers])
        models.append(model)
    assert share_frozen_weights(models) is None
    joint, blend = join_several(models)
    x, real = torch.randn(4, 5, 6).double(), torch.arange(5) < torch.tensor([[5], [2], [4], [1]])

    def alone(x, weights):
        for number, layer in enumerate(plain.layers):
            change = sum(w * deltas[k][number] for k, w in enumerate(weights[number]))
            x = torch.tanh(x @ (layer["map"].weight + change).T + layer["map"].bias)
        return plain.head(x)

    def by_hand(x, real, steps=4, step_size=8.0):
        scores = torch.zeros(2, 3, requires_grad=True, dtype=torch.double)
        for _ in range(steps):
            p = alone(x, scores.softmax(-1)).softmax(-1)[real]
            scores.grad = None
            (-(p * p.log()).sum(-1).mean()).backward()
            scores = (scores - step_size * scores.grad).detach().requires_grad_()
        return scores.softmax(-1).detach()

    minimise_entropy(blend, lambda: (joint(x), real), 4, 4, 8.0, weights_of)
    rows = [slice(0, 4)] if weights_of == "batch" else [slice(row, row + 1) for row in range(4)]
    found = [by_hand(x[row], real[row]) for row in rows]
    expected = found[0] if weights_of == "batch" else torch.stack(found, 1)
    torch.testing.assert_close(blend.weights.double(), expected, atol=1e-5, rtol=0)
    assert (expected - 1 / 3).abs().max() > 0.05  # it has gone somewhere
    minimise_entropy(blend, lambda: (joint(x), real), 4, 0, 8.0, weights_of)
    torch.testing.assert_close(blend.weights, torch.full_like(blend.weights, 1 / 3))


def test_a_batch_of_rows_gives_what_rows_alone_give(three, batch):
    many, alone = load_many(three), []
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        one = {name: value[row : row + 1, :length] for name, value in batch.items()}
        many.minimise_entropy(one, steps=3, weights_of="batch")
        alone.append(many(**one).logits.detach())
    many.minimise_entropy(batch, steps=3)
    torch.testing.assert_close(many(**batch).logits, torch.cat(alone), atol=1e-4, rtol=0)


# --- by command ---


@pytest.fixture
def run(kronlit_, tiny_bert, tmp_path):
    """Runs `test` or `predict` with a config of own rows; gives the code and what was printed."""
    random.seed(0)
    rows = [
        {
            "text": " ".join(random.choices(["good", "bad", "film", "cat", "the", "not"], k=random.randint(2, 9))),
            "label": ("no", "yes")[number % 2],
            "who": ("films", "news", "books")[number % 3],
        }
        for number in range(12)
    ]

    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("rows.jsonl", rows)
    write("turned.jsonl", [row | {"label": {"no": "yes", "yes": "no"}[row["label"]]} for row in rows])
    config = {
        "model": {
            "class_path": "SequenceClassification",
            "init_args": {"plm": str(tiny_bert), "method": {"class_path": "KronA"}},
        },
        "data": {
            "class_path": "TextFiles",
            "init_args": {"train": "rows.jsonl", "test": "rows.jsonl", "eval_batch_size": 5},
        },
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    return lambda command, *words: kronlit_(command, "--config", "own.yaml", *words)


def predictions(name):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_steps_of_zero_predict_as_the_uniform_ensemble_and_ten_do_not(run, three):
    kinds = {"u": [], "zero": ["--steps", "0"], "ten": ["--steps", "10"]}
    for name, words in kinds.items():
        kind = ["--ensemble", "emea"] if words else []
        code, out, err = run("predict", "--adapters", *three.values(), *kind, *words, "--predictions", f"{name}.jsonl")
        assert code == 0, err
        assert ("mean weights over layers and rows: films 0." in out) == bool(words)
    scores = {name: torch.tensor([row["scores"]["yes"] for row in predictions(f"{name}.jsonl")]) for name in kinds}
    torch.testing.assert_close(scores["zero"], scores["u"], atol=1e-6, rtol=0)
    assert (scores["ten"] - scores["u"]).abs().max() > 1e-3
    # surer, which is what it minimises
    entropy = {name: (torch.special.entr(p) + torch.special.entr(1 - p)).mean() for name, p in scores.items()}
    assert entropy["ten"] < entropy["u"]


def test_weights_are_given_by_number_or_by_layer(run, three, tmp_path):
    (tmp_path / "layers.json").write_text("[[0.2, 0.9], [0.8, 0.1], 0]")  # each adapter's in both layers
    many = load_many(three)
    tokenizer = AutoTokenizer.from_pretrained(many.model.config.name_or_path)
    for words, weights in {
        ("0.1", "0.7", "0.2"): [0.1, 0.7, 0.2],
        ("layers.json",): [[0.2, 0.8, 0], [0.9, 0.1, 0]],
    }.items():
        code, _, err = run(
            "predict", "--adapters", *three.values(), "--weights", *words, "--predictions", f"{words[0]}.jsonl"
        )
        assert code == 0, err
        many.mix(weights)
        for row in predictions(f"{words[0]}.jsonl"):
            with torch.no_grad():
                p = many(**tokenizer(row["text"], return_tensors="pt")).logits.softmax(-1)[0, 1].item()
            assert row["scores"]["yes"] == pytest.approx(p, abs=1e-5)


def test_labels_change_the_score_and_nothing_else(run, three):
    found = []
    for name in ("rows", "turned"):
        words = ["--data.test", f"{name}.jsonl", "--scored_rows", "true", "--run_dir", name, "--step_size", "3"]
        code, _, err = run("test", "--adapters", *three.values(), "--ensemble", "emea", *words)
        assert code == 0, err
        found.append(list(csv.DictReader(Path(name, "version_0/test_rows.csv").read_text().splitlines())))
    same, turned = found
    assert [row["prediction"] for row in same] == [row["prediction"] for row in turned]
    assert all(one["target"] != other["target"] for one, other in zip(same, turned, strict=True))


def test_rows_name_their_adapter(run, three, tmp_path):
    code, _, err = run(
        *("predict", "--adapters", *three.values(), "--adapter_column", "who"),
        *("--data.predict_file", "rows.jsonl", "--predictions", "p.jsonl"),
    )
    assert code == 0, err
    alone = {name: kronlit.load(folder) for name, folder in three.items()}
    tokenizer = AutoTokenizer.from_pretrained(alone["films"].config.name_or_path)
    for row in predictions("p.jsonl"):
        with torch.no_grad():
            p = alone[row["who"]](**tokenizer(row["text"], return_tensors="pt")).logits.softmax(-1)[0, 1].item()
        assert row["scores"]["yes"] == pytest.approx(p, abs=1e-5)


def test_mistakes_are_one_line(run, three, tiny_bert, tmp_path):
    other = tmp_path / "other"
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.query.weight[0, 0] += 1
    model.save_pretrained(other)
    foreign = adapter(other, tmp_path / "foreign", kronlit.KronA())
    labels = {"id2label": {0: "red", 1: "blue"}, "label2id": {"red": 0, "blue": 1}}
    colours = adapter(tiny_bert, tmp_path / "colours", kronlit.KronA(), labels)
    subspace = adapter(tiny_bert, tmp_path / "subspace", kronlit.IntrinsicSAID())
    (tmp_path / "named.jsonl").write_text('{"text": "good film", "who": "film"}\n')
    films, books = three["films"], three["books"]
    named = ["--adapters", films, books, "--adapter_column", "who", "--data.predict_file", "named.jsonl"]
    for words, line in {
        ("--adapters", films, foreign): "was trained on",
        ("--ensemble", "emea"): "name them as `adapters`",
        ("--adapters", films, books, "--steps", "-1"): "`steps`=-1 must be at least 0",
        ("--adapters", films, books, "--weights", "1"): "`weights`=1 has 1 number for 2 adapters",
        ("--adapters", films, books, "--weights", "1", "1"): "must sum to 1",
        ("--adapters", films, books, "--weights", "1", "0", "--ensemble", "emea"): "emea, which finds its own",
        ("--weights", "1", "0"): "name them as `adapters`",
        tuple(named): "row 1: 'film' is none of films, books; did you mean 'films'?",
    }.items():
        code, _, err = run("predict", *words)
        assert code == 2
        assert line in err.strip().splitlines()[-1], err
        assert "Traceback" not in err
    for sources, line in {
        (films,): "must be two or more",
        (films, films): "both named 'films'",
        (films, colours): "classes red, blue",
        (films, subspace): "can stand beside no other",
        (films, "nowhere"): "'nowhere'",
    }.items():
        with pytest.raises(ValueError, match=line):
            load_many(sources)
    with pytest.raises(ValueError, match="other frozen weights than '0'"):
        load_many({"0": films, "1": foreign})
    with pytest.raises(ValueError, match="must sum to 1"):
        load_many([films, books]).mix([1, 1])


def test_bottlenecks_mix_their_outputs_and_not_what_is_within():
    torch.manual_seed(0)
    plain, models = Toy().requires_grad_(False), []
    body = partial(Bottleneck, width=2, down=partial(LowRank, rank=2), up=partial(LowRank, rank=2))
    for _ in range(2):
        model = copy.deepcopy(plain)
        inject(model, [Insertion((r"layers\.1\.map",), partial(SequentialAdapter, body=body))])
        for parameter in (p for p in model.parameters() if p.requires_grad):
            nn.init.normal_(parameter)
        models.append(model)
    share_frozen_weights(models)
    joint, blend = join_several(models)
    blend.weights = torch.tensor([[0.3, 0.7]])
    x = torch.randn(3, 6)
    h = plain.layers[1]["map"](torch.tanh(plain.layers[0]["map"](x)))
    added = 0.3 * models[0].layers[1]["map"].body(h) + 0.7 * models[1].layers[1]["map"].body(h)
    torch.testing.assert_close(joint(x), plain.head(torch.tanh(h + added)))


# --- what would go wrong unseen ---


@pytest.mark.parametrize("how", [["--model.quantization", "nf4"], ["--trainer.precision", "bf16-true"]])
def test_the_frozen_model_is_stored_as_the_config_says(run, three, tiny_bert, how, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    models = []
    monkeypatch.setattr(Ensemble, "on_predict_end", lambda ensemble, *_: models.append(ensemble.many.model))
    found = {}
    for name, words in {"plain": [], "stored": how}.items():
        code, _, err = run(
            "predict", "--adapters", three["films"], three["books"], *words, "--predictions", f"{name}.jsonl"
        )
        assert code == 0, err
        found[name] = torch.tensor([row["scores"]["yes"] for row in predictions(f"{name}.jsonl")])
    layer = models[1].bert.encoder.layer[0]
    if "nf4" in how:
        assert isinstance(layer.attention.output.dense.each[0], QuantisedLinear)
    else:
        assert models[1].bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16
        assert models[1].classifier.each[0].weight.dtype == torch.float32  # it was trained
    assert 0 < (found["plain"] - found["stored"]).abs().max() < 0.2


def test_a_run_that_is_quantised_otherwise_than_the_config_is_refused(tmp_path, monkeypatch):
    def of(kind):
        return SimpleNamespace(quantisation=Quantisation(kind), task=None, model=object())

    (tmp_path / "run").write_text("")
    monkeypatch.setattr(opened, "saved_run", lambda source: SimpleNamespace(module=lambda: of("int8")))
    monkeypatch.setattr(opened, "check_task", lambda *tasks: None)
    assert opened.open_adapter(tmp_path / "run", of("int8")) is not None
    with pytest.raises(ValueError, match=r"'int8'.*'none'"):
        opened.open_adapter(tmp_path / "run", of("none"))


def test_models_that_are_quantised_otherwise_do_not_go_together(three):
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    kinds = {"nf4": ("nf4", False), "double": ("nf4", True), "int8": ("int8", False)}

    def model(name, kind):
        return kronlit.load(three[name], quantization=kinds[kind][0], double_quantization=kinds[kind][1])

    for kind, line in {"double": "has another absmax", "int8": "class Int8Linear, not NF4Linear"}.items():
        with pytest.raises(ValueError, match=f"'books' is quantised otherwise than 'films': .*{line}"):
            opened.together({"films": model("films", "nf4"), "books": model("books", kind)})
    other = model("books", "nf4")
    for module in other.modules():
        if isinstance(module, QuantisedLinear):
            module.compute_dtype = torch.bfloat16
    with pytest.raises(ValueError, match=r"compute_dtype torch.bfloat16, not None"):
        opened.together({"films": model("films", "nf4"), "books": other})
    opened.together({"films": model("films", "nf4"), "books": model("books", "nf4")})


def test_a_batch_of_other_rows_than_named_or_weighed_is_refused(three, batch):
    many = load_many(three)
    four = {name: value[:4] for name, value in batch.items()}
    with pytest.raises(ValueError, match="names 2 adapters, and the batch has 4 rows"):
        many(**four, adapters=["films", "books"])
    many.minimise_entropy({name: value[:2] for name, value in batch.items()}, steps=1)
    with pytest.raises(ValueError, match=r"batch has 4 rows, and .* each of 2 others"):
        many(**four)
    many(**four, adapters=["films"] * 4)  # the weights are not used
    many.mix()
    many(**four)


@torch.no_grad()
def test_each_window_goes_through_the_adapter_of_its_row(tiny_bert, tmp_path):
    folders = [
        adapter(tiny_bert, tmp_path / name, kronlit.KronA(), {}, seed, AutoModelForQuestionAnswering)
        for seed, name in enumerate(("films", "books"))
    ]
    contexts = ["the cat sat on the red house " * 6, "not a film"]
    answers = {"text": ["a"], "answer_start": [4]}
    (tmp_path / "q.jsonl").write_text(
        json.dumps({"id": "a", "question": "the cat", "context": contexts[1], "answers": answers}) + "\n"
    )
    task = QuestionFiles(str(tmp_path / "q.jsonl"), validation=str(tmp_path / "q.jsonl")).task
    module = QuestionAnswering(str(tiny_bert), kronlit.KronA(), task, max_length=24, stride=4)
    ensemble = Ensemble(folders, adapter_column="who")
    ensemble.many, ensemble.chosen = opened.for_module(folders, module), [["films", "books"]]
    encoded = module.encode({"question": ["the cat", "film"], "context": contexts})
    rows = [{name: column[row] for name, column in encoded.items()} | {"row": row} for row in range(2)]
    batch = module.collate(rows)
    assert batch["owner"].tolist() == [0] * 3 + [1]  # four windows, which two rows divide
    ensemble._prepare(None, module, batch, 0)
    found = module.eval()(batch)
    for window, owner in enumerate(batch["owner"].tolist()):
        alone = kronlit.load(folders[owner])
        inputs = {name: batch[name][window : window + 1] for name in ("input_ids", "token_type_ids", "attention_mask")}
        real = batch["attention_mask"][window].bool()
        torch.testing.assert_close(found[window, 0][real], alone(**inputs).start_logits[0][real], atol=1e-5, rtol=0)


def test_emea_needs_a_layer(run, tiny_bert, tmp_path, batch):
    folders = [adapter(tiny_bert, tmp_path / name, kronlit.HeadOnly(), seed=seed) for seed, name in enumerate("ab")]
    many = load_many(folders)
    assert many.layers == ()
    with pytest.raises(ValueError, match="change no layer"):
        many.minimise_entropy(batch)
    code, _, err = run("predict", "--adapters", *folders, "--ensemble", "emea")
    assert code == 2
    assert "change no layer" in err.strip().splitlines()[-1]
    assert run("predict", "--adapters", *folders)[0] == 0


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_deberta_are_not_split_where_all_share_its_table(shared, tmp_path, batch):
    size = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    distances = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": shared}
    config = DebertaV2Config(vocab_size=30, max_position_embeddings=32, **size, **distances, **NAMES)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "plm")
    folders = [adapter(tmp_path / "plm", tmp_path / name, kronlit.KronA(), seed=seed) for seed, name in enumerate("ab")]
    many = load_many(folders)
    many(**batch)
    if shared:
        with pytest.raises(ValueError, match="query_proj also computes DeBERTa's table"):
            many(**batch, adapters=list("abbab"))
    else:
        found = many(**batch, adapters=list("abbab")).logits
        torch.testing.assert_close(found[3], kronlit.load(folders[0])(**batch).logits[3], atol=1e-5, rtol=0)
