"""Causal language models that write texts after a prompt: tokens, losses, beam search, and what is scored."""

import csv
import json
import subprocess
import sys

import pytest
import torch
from fixtures.runs import environment
from lightning.pytorch import seed_everything
from test_modules import batch_of, build, trainer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

import kronlit
from kronlit import AdaMix, AdaMixLoRA, FullFineTuning, KronA, LoRA
from kronlit.__main__ import main
from kronlit.adapters import placements
from kronlit.data import E2E
from kronlit.data.tasks import GENERATION_TASKS, GLUE_TASKS
from kronlit.modules import CausalLM, SequenceClassification
from kronlit.modules.decoding import Decoding
from kronlit.modules.repetition import NoRepeatInText

TASK = GENERATION_TASKS["e2e"]


@pytest.fixture
def module(request):
    """A module with its model, and its data."""

    def made(method=None, **options):
        module, data = build(CausalLM, request, None, method or FullFineTuning(), **options)
        module.configure_model()
        return module.eval(), data

    return made


def plain(request):
    return AutoModelForCausalLM.from_pretrained(request.getfixturevalue("tiny_gpt2")).eval()


def ids(module, text):
    return module.tokenizer(text)["input_ids"]


# --- tokens ---


def test_the_end_of_text_stands_between_prompt_and_target_and_after_it(module):
    module, _ = module()
    encoded = module.encode({"context": ["name : red cat"], "answers": [["the cat sat .", "a cat"]]})
    words = module.tokenizer.convert_ids_to_tokens
    assert words(encoded["input_ids"][0]) == ["<|endoftext|>", ":", "red", "cat", "<|endoftext|>"]  # `name` is no word
    assert [words(target) for target in encoded["target_ids"][0]] == [
        ["the", "cat", "sat", ".", "<|endoftext|>"],
        ["a", "cat", "<|endoftext|>"],
    ]
    assert encoded["length"] == [10]


def test_a_target_begins_with_a_space(module):
    # GPT-2's own tokens of a word differ with a space before it; LoRA's code has encode(" " + completion)
    module, _ = module()
    seen, end = [], module.end
    module.__dict__["tokenizer"] = lambda text, **options: seen.append((text, options)) or {"input_ids": [5]}
    assert module._target("the cat") == [5, end]
    assert seen == [(" the cat", {"add_special_tokens": False})]


def test_a_long_prompt_keeps_its_end_and_a_long_target_its_beginning(module):
    module, _ = module(max_new_tokens=8)  # of 32
    encoded = module.encode({"context": [" ".join(["cat"] * 40 + ["dog"] * 3)], "answers": [["red " * 30 + "blue"]]})
    (prompt,), ((target,),) = encoded["input_ids"], encoded["target_ids"]
    dog, cat, red = (ids(module, word)[0] for word in ("dog", "cat", "red"))
    assert prompt == [cat] * 20 + [dog] * 3 + [0]
    assert target == [red] * 8


def test_answers_are_filled_up_on_the_left_and_masked(module):
    module, data = module()
    _, batch = batch_of(module, data, 4)
    for row, owner in enumerate(batch["owner"].tolist()):
        there = batch["attention_mask"][row].bool()
        target = batch["target_ids"][row]
        sequence = batch["input_ids"][row][there].tolist()
        prompt = batch["prompt_ids"][owner][batch["prompt_mask"][owner].bool()].tolist()
        assert sequence == prompt + target[target >= 0].tolist()
        assert there.tolist() == sorted(there.tolist())
        assert (target >= 0).tolist() == sorted((target >= 0).tolist())


def test_what_changes_the_tokens_changes_the_cache(module):
    keys = [module(max_new_tokens=length)[0].encoding_key for length in (8, 12)]
    assert keys[0] != keys[1]


# --- losses, against transformers' own ---


def sequences(module, rows):
    """Tokens by hand, filled up on the right with a label of -100, as is the prompt."""
    each = []
    for context, answers in zip(rows["context"], rows["answers"], strict=True):
        for answer in answers:
            prompt = [*ids(module, context), 0]
            each.append((prompt, [*ids(module, f" {answer}"), 0]))
    longest = max(len(prompt) + len(target) for prompt, target in each)
    tokens = [prompt + target + [0] * (longest - len(prompt) - len(target)) for prompt, target in each]
    labels = [[-100] * len(p) + target + [-100] * (longest - len(p) - len(target)) for p, target in each]
    return torch.tensor(tokens), torch.tensor(labels)


def test_the_loss_is_transformers_own_over_target_tokens(module, request):
    module, data = module()
    rows, batch = batch_of(module, data)
    tokens, labels = sequences(module, rows)
    theirs = plain(request)(input_ids=tokens, labels=labels).loss
    torch.testing.assert_close(module.train_loss(batch), theirs)


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_label_smoothing_is_torchs(module, request, smoothing):
    module, data = module(label_smoothing=smoothing)
    rows, batch = batch_of(module, data)
    tokens, labels = sequences(module, rows)
    logits = plain(request)(input_ids=tokens).logits[:, :-1]
    theirs = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(module.train_loss(batch), theirs)


def test_validation_is_over_the_tokens_of_all_references(module, request, tmp_path):
    module, data = module(label_smoothing=0.1)  # which is of training alone
    fitted = trainer(tmp_path)
    (values,) = fitted.validate(module, data, verbose=False)
    tokens, labels = sequences(module, data.rows("validation"))
    assert len(tokens) == 23
    expected = plain(request)(input_ids=tokens, labels=labels).loss.item()
    assert values["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert values["val/perplexity"] == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-5)
    assert values["val/score"] == -values["val/loss"]


def test_a_row_of_many_references_is_computed_in_parts(module, monkeypatch):
    module, data = module()
    rows = data.rows("validation")
    _, batch = batch_of_split(module, rows, 3)
    whole = module._losses(batch)
    sizes = []
    original = module._logits
    monkeypatch.setattr(module, "_logits", lambda *tensors: sizes.append(len(tensors[0])) or original(*tensors))
    torch.testing.assert_close(module._losses(batch), whole)
    assert max(sizes) == 3 < sum(sizes) == len(batch["owner"])
    assert whole[1].tolist() == [sum(len(ids(module, f" {a}")) + 1 for a in rows["answers"][i]) for i in range(3)]


def batch_of_split(module, rows, n):
    columns = module.encode(rows[:n]) | {"answers": rows["answers"]}
    return rows, module.collate([{name: column[i] for name, column in columns.items()} | {"row": i} for i in range(n)])


def test_the_dropout_of_the_model_is_as_its_config_says_or_as_set(module):
    def shares(module):
        return {m.p for m in module.model.modules() if isinstance(m, torch.nn.Dropout)}

    assert shares(module()[0]) == {0.1}
    assert shares(module(dropout=0.0)[0]) == {0.0}


# --- beam search ---


def test_the_settings_of_the_search_reach_it(module, monkeypatch):
    module, data = module(num_beams=7, length_penalty=0.3, no_repeat_ngram_size=2, max_new_tokens=9)
    _, batch = batch_of(module, data, 3)
    asked = {}
    monkeypatch.setattr(module.model, "generate", lambda **options: asked.update(options) or batch["prompt_ids"])
    assert module.texts(batch) == ["", "", ""]
    wanted = {"num_beams": 7, "length_penalty": 0.3, "max_new_tokens": 9, "do_sample": False}
    assert {name: asked[name] for name in wanted} == wanted
    (processor,) = asked["logits_processor"]
    assert isinstance(processor, NoRepeatInText)
    assert processor.forbid.ngram_size == 2
    assert processor.prompt_length == batch["prompt_ids"].shape[1]


def test_the_papers_search_is_the_default():
    assert CausalLM("x", KronA(), TASK).decoding == Decoding(10, 0.8, 4, 64)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_row_is_written_as_it_is_alone(module, request, beams):
    module, data = module(num_beams=beams, no_repeat_ngram_size=0)
    rows, batch = batch_of(module, data, 5)
    alone = []
    for context in rows["context"]:
        prompt = torch.tensor([[*ids(module, context), 0]])
        options = {"max_new_tokens": 12, "num_beams": beams, "length_penalty": 0.8, "do_sample": False}
        tokens = plain(request).generate(prompt, attention_mask=torch.ones_like(prompt), pad_token_id=0, **options)
        alone.append(module.tokenizer.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True).strip())
    assert len({len(prompt) for prompt in module.encode(rows)["input_ids"]}) > 1
    assert module.texts(batch) == alone


def test_n_grams_of_the_text_do_not_come_twice_but_those_of_the_prompt_may():
    processor = NoRepeatInText(2, prompt_length=3)
    scores = processor(torch.tensor([[7, 8, 9, 7], [7, 8, 9, 1]]), torch.zeros(2, 10))
    assert scores.isfinite().all()  # 7 8 is the prompt's
    scores = processor(torch.tensor([[7, 8, 9, 5, 6, 5]]), torch.zeros(1, 10))
    assert scores[0].isinf().nonzero().flatten().tolist() == [6]


def test_no_n_gram_is_repeated_in_what_is_written(module):
    module, data = module(no_repeat_ngram_size=2, num_beams=1)
    _, batch = batch_of(module, data)
    for text in module.texts(batch):
        pairs = list(zip(text.split(), text.split()[1:], strict=False))
        assert len(set(pairs)) == len(pairs)


def test_a_text_ends_at_an_empty_line(module, monkeypatch):
    # NLG/src/gpt2_decode.py: split at the end of text, then at an empty line, then strip
    module, data = module()
    _, batch = batch_of(module, data, 2)
    decoded = [" the cat .\n\nmore", " a dog \n"]
    monkeypatch.setattr(type(module.tokenizer), "batch_decode", lambda *_, **__: decoded)
    assert module.texts(batch) == ["the cat .", "a dog"]


# --- training ---


@pytest.mark.parametrize("by", ["loss", "generation"])
def test_validation_writes_texts_where_it_is_to(module, tmp_path, by, monkeypatch):
    module, data = module(validate_by=by)
    written = []
    monkeypatch.setattr(CausalLM, "texts", lambda self, batch: written.append(1) or ["the cat sat"] * len(batch["row"]))
    (values,) = trainer(tmp_path).validate(module, data, verbose=False)
    assert bool(written) == (by == "generation")
    assert ("val/cider" in values) == (by == "generation")
    (values,) = trainer(tmp_path).test(module, data, verbose=False)
    assert {"test/bleu", "test/nist", "test/rouge_l", "test/cider", "test/loss"} <= values.keys()
    assert values["test/score"] == values["test/bleu"]


def test_what_was_taught_is_written_and_scored(request, tmp_path):
    lines = ["cat : red||the red cat sat on a tree .", "dog : blue||a dog ran in the house and was blue ."]
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    seed_everything(0)
    data = E2E("e2e", path=str(tmp_path), batch_size=2)
    options = {"lr": 1e-2, "max_length": 32, "max_new_tokens": 14, "num_beams": 2, "dropout": 0.0}
    module = CausalLM(str(request.getfixturevalue("tiny_gpt2")), FullFineTuning(), data.task, **options)
    fitted = trainer(tmp_path, max_epochs=40, check_val_every_n_epoch=40, enable_checkpointing=False)
    fitted.fit(module, data)
    (values,) = fitted.test(module, data, verbose=False)
    assert values["test/bleu"] == values["test/rouge_l"] == pytest.approx(1.0)
    assert values["test/perplexity"] < 1.2


@pytest.mark.parametrize(
    "method", [LoRA(rank=2, alpha=8, dropout=0.1), AdaMixLoRA(rank=2, num_experts=3), KronA()], ids=repr
)
def test_a_merged_gpt2_writes_and_scores_as_its_adapters_did(request, tmp_path, method):
    module, data = build(CausalLM, request, None, method)
    trainer(tmp_path, max_steps=9, enable_checkpointing=False).fit(module, data)
    module.eval()
    _, batch = batch_of(module, data)
    loss, texts = module._losses(batch)[0], module.texts(batch)
    kronlit.merge(module.model)
    assert not list(placements(module.model))
    torch.testing.assert_close(module._losses(batch)[0], loss, rtol=1e-4, atol=1e-4)
    assert module.texts(batch) == texts


def test_the_adapter_of_gpt2_stands_in_its_block_before_dropout_and_residual(module):
    module, _ = module(AdaMix(bottleneck_width=4, num_experts=1))
    block, x = module.model.transformer.h[1], torch.randn(2, 5, 48)
    adapter = block.mlp.c_proj
    h = adapter.host(block.mlp.act(block.mlp.c_fc(block.ln_2(x))))
    body = adapter.body
    down = F.gelu(h @ body.down.weight[0].T + body.down.bias[0])
    expected = h + down @ body.up.weight.T + body.up_bias
    torch.testing.assert_close(block.mlp(block.ln_2(x)), expected)


# --- what does not fit ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing": 1.0}, "`model.label_smoothing`=1.0 must be a share"),
        ({"dropout": -0.1}, "`model.dropout`=-0.1 must be a share"),
        ({"num_beams": 0}, "`model.num_beams`=0 must be at least 1"),
        ({"no_repeat_ngram_size": -1}, "`model.no_repeat_ngram_size`=-1 must be at least 0"),
        ({"max_new_tokens": 512}, "`model.max_new_tokens`=512 must lie between 1 and `model.max_length`=512"),
        ({"max_new_tokens": 0}, "`model.max_new_tokens`=0 must lie"),
    ],
)
def test_bad_numbers_name_themselves(options, words):
    with pytest.raises(ValueError, match=words):
        CausalLM("x", KronA(), TASK, **options)


def test_more_tokens_than_there_are_positions_are_refused(request):
    module = CausalLM(str(request.getfixturevalue("tiny_gpt2")), KronA(), TASK)
    with pytest.raises(ValueError, match=r"`model\.max_length`=512 exceeds the 64 positions"):
        module.configure_model()


@pytest.mark.parametrize(
    ("kind", "task", "words"),
    [
        (CausalLM, GLUE_TASKS["rte"], "'rte' is no task of generated texts"),
        (SequenceClassification, TASK, "'e2e' is scored on generated texts: use `CausalLM` or `TextToText`"),
    ],
)
def test_a_task_of_another_kind_is_refused(kind, task, words):
    with pytest.raises(ValueError, match=words):
        kind("x", KronA(), task)


# --- the command line ---


def command(name, request, *more):
    words = [name, "--model", "CausalLM", "--model.plm", request.getfixturevalue("tiny_gpt2"), "--model.method", "LoRA"]
    words += ["--model.max_length", "32", "--model.max_new_tokens", "8", "--model.num_beams", "2"]
    words += ["--data", "E2E", "--data.task", "e2e", "--data.path", request.getfixturevalue("e2e")]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", *more]
    return ["kronlit", *map(str, words)]


@pytest.mark.parametrize("own", [False, True])
def test_predict_writes_the_texts_in_the_rows_order(request, tmp_path, monkeypatch, own):
    (tmp_path / "mine.csv").write_text("context\ncat : red\ndog : blue\n")
    more = ["--data.predict_file", tmp_path / "mine.csv"] if own else []
    monkeypatch.setattr(sys, "argv", command("predict", request, "--predictions", tmp_path / "out.jsonl", *more))
    main()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    contexts = ["cat : red", "dog : blue"]
    if not own:
        contexts = list(E2E("e2e", path=str(request.getfixturevalue("e2e"))).rows("test")["context"])
    assert [line["context"] for line in lines] == contexts
    assert all(isinstance(line["answer"], str) and line["answer"] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_sharded"])
def test_two_processes_score_as_one(request, tmp_path, strategy):
    # 7 rows of 17 references, 2 a batch: uneven over two processes
    def tested(name, *more):
        words = command("test", request, "--run_dir", name, "--data.eval_batch_size", *more)
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, env=environment()
        )
        assert done.returncode == 0, done.stderr
        (row,) = csv.DictReader((tmp_path / name / "version_0/metrics.csv").open())
        return {key: float(value) for key, value in row.items() if key.startswith("test/")}

    one = tested("one", "4")
    two = tested("two", "2", "--trainer.devices", "2", "--trainer.strategy", strategy)
    assert one.keys() == two.keys() >= {"test/bleu", "test/nist", "test/rouge_l", "test/cider", "test/perplexity"}
    for name, value in one.items():
        assert two[name] == (pytest.approx(value, rel=1e-5) if "loss" in name or "perp" in name else value)
    assert min(one["test/rouge_l"], one["test/nist"]) > 0
