"""Tags of tokens: a row's loss by plain Transformers, first sub-words, and a run from a file to a merged model."""

import json

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerFast

import kronlit as api
from kronlit import FullFineTuning
from kronlit.data.tasks import GLUE_TASKS, Task
from kronlit.modules import SequenceClassification, TokenClassification

LABELS = ("O", "B-PER", "I-PER", "B-LOC")
TASK = Task("people", ("tokens",), LABELS, ("span_f1", "accuracy"), jobs=("TokenClassification",))
TOKENS = [
    ["Berlin", "is", "unbelievable", ",", "said", "Ada", "Lovelace"],
    ["unbelievable"],
    ["Ada", "said", "it", "is"],
]
TAGS = [[3, 0, 0, 0, 0, 1, 2], [0], [1, 0, 0, 0]]
TEXT = "Berlin is unbelievable , said Ada Lovelace it is the way they said"


def word_piece():
    """BERT's kind: words are cut, and a token begins and ends each row."""
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "un", "##believ", "##able", "love", "##lace", *TEXT.lower().split()]
    pieces = [piece for piece in dict.fromkeys(pieces) if piece not in ("unbelievable", "lovelace")]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.normalizer = normalizers.BertNormalizer()
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def byte_level():
    """GPT-2's and Llama 3's kind: a space belongs to the word after it, and there is nothing to pad with."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["</s>"], initial_alphabet=alphabet)
    backend.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", bos_token="</s>")


def sentence_piece():
    """Llama 2's and XLM-R's kind: a word begins with a mark, which may be a sub-word of its own."""
    backend = Tokenizer(
        models.Unigram([("<unk>", -9.0), ("▁", -3.0), ("▁is", -2.0), *((c, -4.0) for c in set(TEXT))], 0)
    )
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<unk>")


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SMALL |= {"max_position_embeddings": 128, "pad_token_id": 0}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
MODELS = {
    "bert": (hf.BertConfig, SMALL, word_piece),
    "deberta-v2": (
        hf.DebertaV2Config,
        SMALL | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        word_piece,
    ),
    "modernbert": (
        hf.ModernBertConfig,
        SMALL
        | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "global_attn_every_n_layers": 2},
        word_piece,
    ),
    "gpt2": (hf.GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128} | ENDS, byte_level),
    "llama": (hf.LlamaConfig, SMALL | ENDS, sentence_piece),
    "qwen2": (hf.Qwen2Config, SMALL | ENDS | {"num_key_value_heads": 2}, byte_level),
}


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with a random model whose outputs differ well, and its tokenizer."""

    def make(architecture):
        torch.manual_seed(0)
        kind, options, tokenizer = MODELS[architecture]
        words = tokenizer()
        model = AutoModelForTokenClassification.from_config(kind(**options, vocab_size=len(words) + 8, num_labels=4))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4 if parameter.ndim > 1 else 1)
        model.save_pretrained(tmp_path / "plm")
        words.save_pretrained(tmp_path / "plm")
        return str(tmp_path / "plm")

    return make


def ready(plm, task=TASK, **options):
    module = TokenClassification(plm, FullFineTuning(), task, **options)
    module.configure_model()
    return module.eval()


def rows_of(module, tokens=TOKENS, tags=TAGS):
    encoded = module.encode({"tokens": tokens})
    return [
        {name: column[i] for name, column in encoded.items()} | {"row": i, "label": tags[i], "length": 1}
        for i in range(len(tokens))
    ]


def by_transformers(plm, tokens, tags):
    """One row as the examples of Transformers have it: tokens that are split before, and labels on first sub-words."""
    tokenizer = AutoTokenizer.from_pretrained(plm)
    model = AutoModelForTokenClassification.from_pretrained(plm).eval()
    encoded = tokenizer(tokens, is_split_into_words=True, return_tensors="pt")
    words, labels = encoded.word_ids(), []
    for place, word in enumerate(words):
        first = word is not None and (place == 0 or words[place - 1] != word)
        labels.append(tags[word] if first else -100)
    return encoded, labels, model


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "modernbert"])
def test_the_loss_is_that_of_transformers_with_labels_on_first_sub_words(architecture, folder):
    plm = folder(architecture)
    module = ready(plm)
    rows = rows_of(module)
    for row, tokens, tags in zip(rows, TOKENS, TAGS, strict=True):
        encoded, labels, model = by_transformers(plm, tokens, tags)
        batch = module.collate([row])
        assert batch["input_ids"].tolist() == encoded["input_ids"].tolist()
        assert batch["label"].tolist() == [labels]
        with torch.no_grad():
            expected = model(**encoded, labels=torch.tensor([labels])).loss
            torch.testing.assert_close(module.training_pass(batch)[0].mean(), expected)


@pytest.mark.parametrize("architecture", MODELS)
def test_a_row_in_a_batch_is_what_it_is_alone(architecture, folder):
    module = ready(folder(architecture))
    rows = rows_of(module)
    with torch.no_grad():
        together, batch = module(module.collate(rows)), module.collate(rows)
        for number, row in enumerate(rows):
            one = module.collate([row])
            torch.testing.assert_close(together[number, : one["label"].shape[1]], module(one)[0], atol=1e-5, rtol=1e-5)
    assert batch["input_ids"].shape[1] > len(rows[1]["input_ids"])
    assert module._tags(batch, together) == [
        module._tags(one, module(one))[0] for one in map(module.collate, [[row] for row in rows])
    ]


@pytest.mark.parametrize("architecture", MODELS)
def test_each_token_is_tagged_at_the_sub_word_that_it_begins_with(architecture, folder):
    module = ready(folder(architecture))
    for row, tokens in zip(rows_of(module), TOKENS, strict=True):
        at = [place for place, number in enumerate(row["word_ids"]) if number >= 0]
        assert [row["word_ids"][place] for place in at] == list(range(len(tokens)))
        pieces = module.tokenizer.convert_ids_to_tokens([row["input_ids"][place] for place in at])
        for piece, token in zip(pieces, tokens, strict=True):
            assert token.lower().startswith(piece.lstrip("▁Ġ").lower())
            assert piece.lstrip("▁Ġ")
    assert len(row["input_ids"]) > len(tokens)


def test_tokens_beyond_the_longest_input_have_no_tag(folder):
    module = ready(folder("bert"), max_length=8)
    (row,) = rows_of(module, TOKENS[:1], TAGS[:1])
    batch = module.collate([row])
    assert row["unread"] == 3  # [CLS] berlin is un ##believ ##able , [SEP]
    out = module.predict_step(batch, 0)["columns"][0]["tags"]
    assert len(out) == 7
    assert out[4:] == [None, None, None]
    assert set(out[:4]) <= set(LABELS)


def test_a_token_that_is_nothing_to_the_tokenizer_has_no_tag(folder):
    module = ready(folder("bert"))
    (row,) = rows_of(module, [["Ada", "\u200b", "said"]], [[1, 0, 0]])
    assert row["unread"] == 1
    assert module.collate([row])["label"].tolist() == [[-100, 1, 0, -100]]


def test_rows_of_another_kind_are_refused(tiny_bert):
    with pytest.raises(ValueError, match=r"`TokenClassification` goes with `--data TokenFiles`: the rows of 'rte'"):
        TokenClassification(str(tiny_bert), FullFineTuning(), GLUE_TASKS["rte"])
    with pytest.raises(ValueError, match=r"rows of 'people' are for `TokenClassification`, not for `SequenceClass"):
        SequenceClassification(str(tiny_bert), FullFineTuning(), TASK)


SENTENCES = [
    "the O\nred B-LOC\nhouse I-LOC\nis O\ngood O\n",
    "a O\ncat B-PER\nsat O\non O\nthe O\nred B-LOC\ntree I-LOC\n",
    "dog B-PER\nran O\n",
]


@pytest.fixture
def conll(tmp_path):
    (tmp_path / "pets.conll").write_text("\n".join(SENTENCES * 8))
    return tmp_path / "pets.conll"


@pytest.mark.parametrize("plm", ["tiny_bert", pytest.param("tiny_gpt2", marks=pytest.mark.slow)])
def test_from_a_file_to_a_merged_model(plm, request, kronlit, conll, tmp_path):
    words = ["--model", "TokenClassification", "--model.plm", request.getfixturevalue(plm), "--model.lr", 0.02]
    words += ["--model.method", "LoRA", "--model.method.rank", 4, "--data", "TokenFiles", "--data.train", conll]
    words += ["--data.batch_size", 4, "--trainer.accelerator", "cpu", "--trainer.devices", 1, "--run_dir", "run"]
    fit = ["fit", *words, "--data.test", 0.2]
    code, _, err = kronlit(*fit, "--trainer.max_epochs", 4, "--stop_after_epochs", 2)
    assert code == 75, err
    code, out, err = kronlit(*fit, "--trainer.max_epochs", 4, "--ckpt_path", "last", "--test_after_fit", "true")
    assert code == 0, err
    summary = json.loads((tmp_path / "run/version_0/summary.json").read_text())
    assert summary["scores"]["test/span_f1"] >= 0.5
    assert summary["scores"]["test/accuracy"] > summary["chance"]["test/accuracy"] > 0.4  # more than always O

    new = tmp_path / "new.jsonl"
    new.write_text(json.dumps({"id": 3, "tokens": ["the", "red", "house"]}) + "\n")
    code, _, err = kronlit("predict", "--ckpt_path", "run", "--data.predict_file", new, "--predictions", "p.jsonl")
    assert code == 0, err
    (line,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert (line["id"], line["tokens"], len(line["tags"])) == (3, ["the", "red", "house"], 3)

    for command, *more in (["merge"], ["export", "--format", "kronlit"], ["export", "--format", "peft"]):
        code, out, err = kronlit(command, "--ckpt_path", "run", "--output", "-".join([command, *more[1:]]), *more)
        assert code == 0, err
        assert "not checked" not in out
    merged = AutoModelForTokenClassification.from_pretrained("merge").eval()
    assert merged.config.id2label[0] == "O"
    inputs = AutoTokenizer.from_pretrained("merge")("the red house", return_tensors="pt")
    with torch.no_grad():
        logits = merged(**inputs).logits
        for folder in ("export-kronlit", "export-peft"):
            torch.testing.assert_close(api.load(folder)(**inputs).logits, logits, atol=1e-5, rtol=1e-4)
    own = [merged.config.id2label[number] for number in logits[0].argmax(-1).tolist()]
    assert line["tags"] == (own[1:-1] if plm == "tiny_bert" else own)


def test_a_fault_in_a_row_ends_in_one_line(kronlit, tiny_bert, tmp_path):
    (tmp_path / "my.jsonl").write_text('{"tokens": ["a", "cat"], "tags": ["O"]}\n')
    words = ["--model", "TokenClassification", "--model.plm", tiny_bert, "--model.method", "LoRA"]
    code, _, err = kronlit("fit", *words, "--data", "TokenFiles", "--data.train", "my.jsonl")
    assert code == 2
    assert err.strip().splitlines()[-1].endswith("line 1, row 1: 2 tokens and 1 tags: give each token one tag.")
