"""Tokenizers and models that do not suit each other are refused in one line before any training."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from fixtures.models import WORDS, tokenizer
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from kronlit import HeadOnly
from kronlit.data.tasks import GLUE_TASKS
from kronlit.modules import TextToText


@pytest.fixture
def plm(tmp_path, tiny_bert):
    """A copy of the tiny BERT that may be changed."""
    shutil.copytree(tiny_bert, tmp_path / "plm")
    return tmp_path / "plm"


@pytest.fixture
def refused(kronlit, config):
    """The last line of what a fit says that is refused before it trains."""

    def line(*words):
        code, out, err = kronlit("fit", "--config", config, *words)
        assert code == 2, err
        assert "Traceback" not in err
        assert "trained" not in out
        return err.strip().splitlines()[-1]

    return line


def test_a_folder_without_a_tokenizer_is_refused(plm, refused):
    for file in plm.glob("token*"):
        file.unlink()
    assert "no tokenizer that knows a word" in refused("--model.plm", plm)
    AutoTokenizer.from_pretrained(plm).save_pretrained(plm)  # the empty one that Transformers makes up
    assert "no tokenizer that knows a word" in refused("--model.plm", plm)


def test_a_damaged_tokenizer_is_refused(plm, refused):
    content = (plm / "tokenizer.json").read_text()
    (plm / "tokenizer.json").write_text(content.replace('"WordLevel"', '"Odd"'))
    assert "its tokenizer cannot be read" in refused("--model.plm", plm)


@pytest.mark.parametrize(
    ("change", "count"), [({"tokens": ["word"]}, 1), ({"pad_token": "<fill>"}, 1), ({"markup": ["<page>"]}, 0)], ids=str
)
def test_tokens_that_the_model_does_not_embed_are_refused(change, count, plm, refused, kronlit, config):
    words = AutoTokenizer.from_pretrained(plm)
    size = len(words)
    words.add_tokens(change.pop("tokens", []))
    words.add_special_tokens({"extra_special_tokens": change.pop("markup", [])} | change)
    words.save_pretrained(plm)
    assert len(AutoTokenizer.from_pretrained(plm)) == size + 1
    if count:
        line = refused("--model.plm", plm)
        assert f"its tokenizer has {size + 1} tokens" in line
        assert f"embeds {size}" in line
    else:  # a mark that no row has
        code, _, err = kronlit("fit", "--config", config, "--model.plm", plm, "--trainer.max_steps", 1)
        assert code == 0, err


@pytest.fixture
def long_rows(tmp_path):
    """Rows of 90 words; the tiny BERT has 64 positions."""
    path = tmp_path / "long.csv"
    lines = [f"{' '.join(WORDS * 4 + WORDS[: 8 + n % 3])},{'yes' if n % 2 else 'no!'}" for n in range(20)]
    path.write_text("\n".join(["text,label", *lines]))
    return ["--data", "TextFiles", "--data.train", path]


def test_rows_beyond_the_positions_are_refused_and_the_cure_cures(config, refused, kronlit, long_rows):
    line = refused(*long_rows)
    assert "`model.max_length`=128 lets rows be 92 tokens long" in line
    assert "64 positions: set `model.max_length` to 64" in line
    code, _, err = kronlit("fit", "--config", config, *long_rows, "--model.max_length", 64, "--trainer.max_steps", 1)
    assert code == 0, err


def test_robertas_positions_begin_behind_its_padding(tmp_path, config, refused, kronlit, long_rows):
    words = tokenizer("bert")
    words.save_pretrained(tmp_path / "roberta")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    setting = RobertaConfig(
        vocab_size=len(words), max_position_embeddings=66, type_vocab_size=2, pad_token_id=1, **sizes
    )
    RobertaForMaskedLM(setting).save_pretrained(tmp_path / "roberta")
    plm = ["--model.plm", tmp_path / "roberta"]
    assert "64 positions" in refused(*long_rows, *plm)
    code, _, err = kronlit(
        "fit", "--config", config, *long_rows, *plm, "--model.max_length", 64, "--trainer.max_steps", 1
    )
    assert code == 0, err


def test_a_tokenizer_in_python_alone_is_read(tmp_path, config, kronlit):
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 384}
    T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).save_pretrained(tmp_path / "byt5")
    words = ["--model", "TextToText", "--model.plm", tmp_path / "byt5", "--model.method", "LoRA", "--run_dir", "runs/b"]
    code, _, err = kronlit("fit", "--config", config, *words, "--trainer.max_steps", 2)
    assert code == 0, err
    code, _, err = kronlit("merge", "--ckpt_path", "runs/b", "--output", "merged")
    assert code == 0, err
    assert AutoTokenizer.from_pretrained("merged")("a 0")["input_ids"] == [ord("a") + 3, ord(" ") + 3, ord("0") + 3, 1]


def test_a_change_of_a_python_tokenizer_changes_the_cache(tmp_path):
    def key(**options):
        ByT5Tokenizer(**options).save_pretrained(tmp_path / "byt5")
        T5Config(vocab_size=500).save_pretrained(tmp_path / "byt5")
        return TextToText(str(tmp_path / "byt5"), HeadOnly(), GLUE_TASKS["rte"]).encoding_key

    assert key() == key()
    assert key(extra_ids=20) != key()


# --- answers ---


def answers_of(words, folder, task):
    content = json.loads((folder / "tokenizer.json").read_text())
    for word in words:
        content["model"]["vocab"][f"#{word}"] = content["model"]["vocab"].pop(word)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return TextToText(str(folder), HeadOnly(), GLUE_TASKS[task])


@pytest.mark.parametrize(
    ("task", "lost", "named"),
    [
        ("rte", ["0", "1"], "the answers 0 (entailment), 1 (not_entailment), which it"),
        ("mnli", ["2"], "the answers 2 (contradiction), which it"),
        ("stsb", ["0.3", "5.0"], "the answers 0.3, 5.0, which it"),
    ],
)
def test_labels_that_the_model_cannot_write_are_refused_by_name(task, lost, named, tmp_path, tiny_t5):
    shutil.copytree(tiny_t5, tmp_path / "t5")
    answers_of([], tmp_path / "t5", task).check_answers()
    with pytest.raises(ValueError, match=re.escape(named)):
        _ = answers_of(lost, tmp_path / "t5", task).encoding_key


def test_labels_that_the_model_cannot_write_end_a_fit_before_it(tmp_path, tiny_t5, refused):
    shutil.copytree(tiny_t5, tmp_path / "t5")
    answers_of(["0"], tmp_path / "t5", "rte")
    line = refused("--model", "TextToText", "--model.plm", tmp_path / "t5", "--model.method", "LoRA")
    assert "no tokens for the answers 0 (entailment)" in line


def test_the_longest_answer_is_that_of_the_tasks_own_span(tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")  # a token for each letter, and an end
    T5Config(vocab_size=384).save_pretrained(tmp_path / "byt5")
    for span, text in (((0.0, 5.0), "0.0"), ((0.0, 1000.0), "1000.0")):
        task = replace(GLUE_TASKS["stsb"], span=span)
        assert TextToText(str(tmp_path / "byt5"), HeadOnly(), task).answer_length == 1 + len(text) + 1
