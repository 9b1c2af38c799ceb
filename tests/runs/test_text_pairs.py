"""Targets of encoder-decoders: loss and texts of plain Transformers, and a run on sources and targets of one's own."""

import json

import pytest
import torch
import transformers as hf
from fixtures.models import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from kronlit import FullFineTuning
from kronlit.data import TextPairs
from kronlit.data.tasks import GLUE_TASKS, Task
from kronlit.modules import TextToText

TASK = Task("pairs", ("source",), (), ("exact_match",), source="{source}", free_text=True, jobs=("TextToText",))
SOURCES = ["the cat sat", "a dog ran in the red house and sat on a tree", "bad"]
TARGETS = ["a red house", "dog", "the film was not good and"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
NAMES = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
VOCABULARY = [*SPECIAL, *WORDS, *map(str, range(10)), ":", "sentence1", "sentence2"]
SIZE = len(VOCABULARY)


def words(template="$A </s>"):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [("<s>", 0), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **NAMES)


def many_languages(kind):
    """A tokenizer of mBART's, whose texts end (or begin, in mBART-50) with a language."""
    pieces = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return kind(vocab=[*pieces, *((f"▁{word}", -2.0) for word in VOCABULARY[4:])], src_lang="en_XX")


IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
BART = {"d_model": 32, "max_position_embeddings": 64, "decoder_start_token_id": 2, "forced_eos_token_id": None} | IDS
BART |= {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("layers", 2), ("attention_heads", 4))}
BART |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 1, "eos_token_id": 2}
STACK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "head_dim": 8}
STACK |= IDS | {"num_key_value_heads": 2, "vocab_size": SIZE}


def t5gemma():
    stacks = {name: hf.T5GemmaModuleConfig(**STACK) for name in ("encoder", "decoder")}
    return hf.T5GemmaConfig(**stacks, vocab_size=SIZE, **IDS)


# By architecture its config, its tokenizer, and the first tokens that the decoder reads, as its documentation has them.
MODELS = {
    "t5": (lambda: hf.T5Config(**T5, vocab_size=SIZE, decoder_start_token_id=1), words, [1]),
    "mt5": (lambda: hf.MT5Config(**T5, vocab_size=SIZE, decoder_start_token_id=1), words, [1]),
    "bart": (
        lambda: hf.BartConfig(**BART, vocab_size=SIZE, forced_bos_token_id=0),
        lambda: words("<s> $A </s>"),
        [2, 0],
    ),
    "pegasus": (lambda: hf.PegasusConfig(**BART | {"decoder_start_token_id": 1}, vocab_size=SIZE), words, [1]),
    "marian": (lambda: hf.MarianConfig(**BART | {"decoder_start_token_id": 1}, vocab_size=SIZE), words, [1]),
    "t5gemma": (t5gemma, lambda: words("<s> $A"), [0]),  # as Gemma's tokenizer, no end of a text
    "mbart": (
        lambda: hf.MBartConfig(**{k: v for k, v in BART.items() if k != "decoder_start_token_id"}, vocab_size=128),
        lambda: many_languages(hf.MBartTokenizer),
        ["ro_RO"],
    ),
    "mbart50": (
        lambda: hf.MBartConfig(**BART, vocab_size=128),
        lambda: many_languages(hf.MBart50Tokenizer),
        [2, "ro_RO"],
    ),
}
every = pytest.mark.parametrize("architecture", MODELS)


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with a random model whose outputs differ well, and its tokenizer."""

    def make(architecture, wild=False, **generation):
        torch.manual_seed(0)
        config, tokenizer, _ = MODELS[architecture]
        model = AutoModelForSeq2SeqLM.from_config(config())
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                std = 1.0 if "shared" in name or "embed" in name else 0.5
                parameter.data = torch.randn_like(parameter) * std if wild else parameter.data * 3
        if wild:  # so that it writes other texts for other rows, and no special tokens alone
            model.get_input_embeddings().weight.data[:4] *= 0.1
            getattr(model, "final_logits_bias", torch.zeros(1, SIZE))[:, :4] -= 30
        model.generation_config.update(**generation)
        model.save_pretrained(tmp_path / "plm")
        tokenizer().save_pretrained(tmp_path / "plm")
        return str(tmp_path / "plm")

    return make


def ready(plm, task=TASK, **options):
    many = ("src_lang" in vars(type(AutoTokenizer.from_pretrained(plm)))) and {"languages": ("en_XX", "ro_RO")}
    module = TextToText(plm, FullFineTuning(), task, **options | (many or {}))
    module.configure_model()
    return module.eval()


def rows_of(module, **columns):
    encoded = module.encode(columns)
    answers = {"answers": columns["answers"]} if "answers" in columns else {}
    count = len(encoded["input_ids"])
    rows = {"label": [0] * count} | encoded | answers
    return [{name: column[i] for name, column in rows.items()} | {"row": i} for i in range(count)]


@every
def test_the_loss_is_that_of_transformers(architecture, folder):
    plm = folder(architecture)
    module = ready(plm)
    rows = rows_of(module, source=SOURCES, answers=[[target] for target in TARGETS])
    plain = AutoModelForSeq2SeqLM.from_pretrained(plm).eval()
    batch = module.collate(rows)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        losses, _ = module.training_pass(batch)
        torch.testing.assert_close(losses.mean(), plain(**inputs, labels=batch["target_ids"]).loss)
        alone = [plain(input_ids=torch.tensor([r["input_ids"]]), labels=torch.tensor([r["target_ids"]])) for r in rows]
        torch.testing.assert_close(module._losses(batch, module._encode(batch)), torch.stack([a.loss for a in alone]))


@every
def test_a_target_ends_and_begins_as_the_model_expects(architecture, folder):
    module = ready(folder(architecture))
    first = [t if isinstance(t, int) else module.tokenizer.convert_tokens_to_ids(t) for t in MODELS[architecture][2]]
    assert module._opening.tolist() == first
    for text, ids in zip(TARGETS, module.write(TARGETS), strict=True):
        shifted = module.model.prepare_decoder_input_ids_from_labels(torch.tensor([ids]))[0].tolist()
        assert shifted[: len(first)] == first
        assert ids[len(first) - 1 :][: len(text.split()) + 1][-1] == 2  # its words, and then the end
        assert module.tokenizer.decode(ids, skip_special_tokens=True) == text


@every
def test_texts_are_those_that_transformers_writes(architecture, folder):
    plm = folder(architecture, wild=True, min_length=9, no_repeat_ngram_size=1)  # which the module does not ask for
    module = ready(plm, max_new_tokens=6)
    rows = rows_of(module, source=SOURCES)
    plain, start, expected = AutoModelForSeq2SeqLM.from_pretrained(plm).eval(), module._opening[None], []
    for row in rows:  # greedy search, written out
        tokens = start
        while tokens.shape[1] < start.shape[1] + 6 and (tokens[0, -1] != 2 or tokens is start):
            with torch.no_grad():
                logits = plain(input_ids=torch.tensor([row["input_ids"]]), decoder_input_ids=tokens).logits[:, -1]
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], -1)
        expected.append(module.tokenizer.decode(tokens[0, start.shape[1] :], skip_special_tokens=True))
    with torch.no_grad():
        assert module.texts(module.collate(rows)) == expected
    assert len(set(expected)) > 1 or architecture == "t5gemma"


def test_classes_are_answered_by_bart(folder):
    module = ready(folder("bart"), GLUE_TASKS["rte"])
    rows = rows_of(module, sentence1=SOURCES, sentence2=SOURCES[::-1], label=[0, 1, 0])
    assert [module.tokenizer.decode(row["target_ids"]) for row in rows] == ["<s>0</s>", "<s>1</s>", "<s>0</s>"] or [
        row["target_ids"] for row in rows
    ] == [[0, VOCABULARY.index(label), 2] for label in "010"]
    assert module.answer_length == 4
    batch = module.collate(rows)
    plain = AutoModelForSeq2SeqLM.from_pretrained(module.plm).eval()
    with torch.no_grad():
        losses = torch.stack(
            [plain(input_ids=torch.tensor([r["input_ids"]]), labels=torch.tensor([r["target_ids"]])).loss for r in rows]
        )
        torch.testing.assert_close(module.predictions(batch)[1], losses)
        assert module.scores(batch).sum(-1).tolist() == pytest.approx([1, 1, 1])


def test_a_model_of_many_languages_must_be_told_two_that_it_has(folder):
    plm = folder("mbart")
    for languages, message in ((None, "`model.languages` is missing"), (("en_XX", "xx"), "has no 'xx'; it has ar_AR")):
        with pytest.raises(ValueError, match=message):
            assert TextToText(plm, FullFineTuning(), TASK, languages=languages).tokenizer
    with pytest.raises(ValueError, match=r"`model\.languages`=\['en_XX', 'ro_RO'\]: the tokenizer of .* has none"):
        assert TextToText(folder("t5"), FullFineTuning(), TASK, languages=("en_XX", "ro_RO")).tokenizer


def test_a_text_has_no_more_tokens_than_the_model_has_positions(folder):
    plm = folder("bart")
    assert TextToText(plm, FullFineTuning(), TASK).answer_length == 64
    assert TextToText(plm, FullFineTuning(), TASK, max_new_tokens=5).write(["the " * 9], 5) == [[0, 4, 4, 4, 2]]
    with pytest.raises(ValueError, match=r"`model\.max_new_tokens`=65: .* has 64 positions"):
        assert TextToText(plm, FullFineTuning(), TASK, max_new_tokens=65).answer_length
    assert TextToText(folder("t5"), FullFineTuning(), TASK, max_new_tokens=300).answer_length == 300


# --- data ---


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_sources_and_targets_are_read_under_the_names_that_are_said(tmp_path):
    file = jsonl(tmp_path / "my.jsonl", {"doc": "a cat", "sum": "cat"}, {"doc": "dogs", "sum": ["dog", "dogs"]})
    rows = TextPairs(file, validation=file, columns={"source": "doc", "target": "sum"}).rows("train")
    assert (rows["source"][:], rows["answers"][:]) == (["a cat", "dogs"], [["cat"], ["dog", "dogs"]])
    (tmp_path / "my.csv").write_text("source,target\na,b\n")
    assert TextPairs(str(tmp_path / "my.csv"), validation=file).rows("train")["answers"][:] == [["b"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source": "a"}, r"line 1, row 1: no target text in column 'target'; it has source\. `data\.columns` says"),
        ({"source": "a", "target": " "}, r"line 1, row 1: \" \" in column 'target' must be a text that is not empty"),
        ({"source": "a", "target": ["b", None]}, r"line 1, row 1: null in column 'target' must be a text"),
        ({"source": 3, "target": "b"}, r"line 1, row 1: no text in column 'source', but 3: quote it"),
    ],
)
def test_a_row_that_is_wrong_is_named(row, message, tmp_path):
    file = jsonl(tmp_path / "my.jsonl", row)
    with pytest.raises(ValueError, match=message):
        TextPairs(file, validation=file).rows("train")


def test_the_first_metric_must_be_one_to_select_by():
    with pytest.raises(ValueError, match=r"`data\.metrics`=\['ter', 'bleu'\] must begin with one"):
        TextPairs("x.jsonl", metrics=("ter", "bleu"))


def test_a_model_that_is_no_encoder_decoder_is_refused_in_one_line(kronlit, tiny_bert, tmp_path):
    jsonl(tmp_path / "my.jsonl", *({"source": "a cat", "target": "cat"} for _ in range(9)))
    words = ["--model", "TextToText", "--model.plm", tiny_bert, "--model.method", "KronA"]
    code, _, err = kronlit("fit", *words, "--data", "TextPairs", "--data.train", "my.jsonl")
    assert code == 2
    assert "is a bert, which is no encoder-decoder: use a T5, BART or kin" in err.strip().splitlines()[-1]


@pytest.mark.parametrize("architecture", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_from_a_file_to_a_merged_model(architecture, kronlit, folder, tmp_path):
    pairs = [("the cat sat", "cat"), ("the dog ran", "dog"), ("a red tree", "tree"), ("in the house", "house")]
    jsonl(tmp_path / "my.jsonl", *({"source": source, "target": target} for source, target in pairs * 8))
    words = [
        "--model",
        "TextToText",
        "--model.plm",
        folder(architecture),
        "--model.lr",
        0.01,
        "--model.max_new_tokens",
        8,
    ]
    words += ["--model.method", "FullFineTuning", "--data", "TextPairs", "--data.train", "my.jsonl", "--run_dir", "run"]
    words += ["--data.batch_size", 8, "--data.test", "my.jsonl", "--trainer.accelerator", "cpu", "--trainer.devices", 1]
    code, _, err = kronlit("fit", *words, "--trainer.max_epochs", 12, "--stop_after_epochs", 6)
    assert code == 75, err
    more = ["--test_after_fit", "true", "--ckpt_path", "last"]
    code, _, err = kronlit("fit", *words, "--trainer.max_epochs", 12, *more)
    assert code == 0, err
    scores = json.loads((tmp_path / "run/version_0/summary.json").read_text())["scores"]
    assert scores["test/exact_match"] >= 0.5
    assert scores["test/rouge_l"] >= scores["test/exact_match"] - 1e-6
    assert {"test/bleu", "test/perplexity", "val/loss"} <= scores.keys()

    new = jsonl(tmp_path / "new.jsonl", *({"source": source, "id": n} for n, (source, _) in enumerate(pairs)))
    code, _, err = kronlit("predict", "--ckpt_path", "run", "--data.predict_file", new, "--predictions", "p.jsonl")
    assert code == 0, err
    lines = list(map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines()))
    assert [line["id"] for line in lines] == [0, 1, 2, 3]

    code, out, err = kronlit("merge", "--ckpt_path", "run", "--output", "merged")
    assert code == 0, err
    assert "not checked" not in out
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained("merged").eval(), AutoTokenizer.from_pretrained("merged")
    for line in lines:
        tokens = model.generate(**tokenizer(line["source"], return_tensors="pt"), max_new_tokens=8)
        assert tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == line["answer"].strip()
