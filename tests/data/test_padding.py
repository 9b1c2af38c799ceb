"""A row's result in any batch is its result alone, by plain Transformers, whatever a tokenizer pads with and where."""

import pytest
import torch
import transformers as hf
from fixtures.models import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from kronlit import FullFineTuning, PromptTuning, load
from kronlit.data.tasks import FEW_SHOT_TASKS, GENERATION_TASKS, GLUE_TASKS
from kronlit.modules import CausalLM, PromptClassification, SequenceClassification, TextToText

MARKS = ["It", "great", "terrible", ".", ":", "sentence1", "sentence2", *map(str, range(10))]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<extra_id_0>"]
SIZE = len(SPECIAL) + len(WORDS) + len(MARKS)
TEXTS = ["the cat", "a dog ran in the red house and sat on a tree of the", "bad", "good film was not bad"]


def words(single="$A </s>", pair="$A </s> $B </s>", special=("pad", "eos", "unk"), **options):
    """A word-level tokenizer with a template and some special tokens."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS + MARKS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokens = {
        "pad": "<pad>",
        "cls": "<s>",
        "bos": "<s>",
        "eos": "</s>",
        "sep": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
    }
    names = {f"{name}_token": tokens[name] for name in special} | options
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


FIRST = {"single": "<s> $A </s>", "pair": "<s> $A </s> $B </s>", "special": ("pad", "cls", "sep", "unk", "mask")}
LAST = {"single": "$A:0 </s>:0 <s>:2", "pair": "$A:0 </s>:0 $B:1 </s>:1 <s>:2", "special": ("pad", "cls", "sep", "unk")}
PLAIN = {"single": "$A", "pair": "$A $B"}  # as GPT-2 and Llama

SMALL = {"vocab_size": SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
WIDE = SMALL | {"intermediate_size": 64, "max_position_embeddings": 64}
GPT = {"vocab_size": SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 2}
T5 = {"vocab_size": SIZE, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
T5 |= {"eos_token_id": 2, "decoder_start_token_id": 0}
STACK = WIDE | {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2}


def t5gemma():
    stacks = {name: hf.T5GemmaModuleConfig(**STACK) for name in ("encoder", "decoder")}
    return hf.T5GemmaConfig(**stacks, vocab_size=SIZE, pad_token_id=0, bos_token_id=1, eos_token_id=2)


CONFIGS = {
    "bert": (lambda: hf.BertConfig(**WIDE), FIRST),
    "roberta": (lambda: hf.RobertaConfig(**WIDE), FIRST),
    "xlm-roberta": (lambda: hf.XLMRobertaConfig(**WIDE), FIRST),
    "camembert": (lambda: hf.CamembertConfig(**WIDE), FIRST),
    "electra": (lambda: hf.ElectraConfig(**WIDE, embedding_size=32), FIRST),
    "mpnet": (lambda: hf.MPNetConfig(**WIDE), FIRST),
    "distilbert": (lambda: hf.DistilBertConfig(vocab_size=SIZE, dim=32, n_layers=2, n_heads=4, hidden_dim=64), FIRST),
    "deberta-v2": (
        lambda: hf.DebertaV2Config(
            **WIDE, relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False
        ),
        FIRST,
    ),
    "xlnet": (lambda: hf.XLNetConfig(vocab_size=SIZE, d_model=32, n_layer=2, n_head=4, d_inner=64), LAST),
    "xlm": (
        lambda: hf.XLMConfig(vocab_size=SIZE, emb_dim=32, n_layers=2, n_heads=4, pad_index=0),
        FIRST | {"cls_token": "</s>"},
    ),
    "t5": (lambda: hf.T5Config(**T5), {}),
    "mt5": (lambda: hf.MT5Config(**T5), {}),
    "t5gemma": (t5gemma, {}),
    "gpt2": (lambda: hf.GPT2Config(**GPT, eos_token_id=2), PLAIN),
    "openai-gpt": (lambda: hf.OpenAIGPTConfig(**GPT), PLAIN),
    "llama": (lambda: hf.LlamaConfig(**WIDE | {"pad_token_id": None}, num_key_value_heads=2), PLAIN),
    "opt": (lambda: hf.OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=64), PLAIN),
    "bloom": (lambda: hf.BloomConfig(vocab_size=SIZE, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0), PLAIN),
}
DECODERS = {  # which today's users fine-tune, beside those above
    "qwen3": lambda: hf.Qwen3Config(**WIDE | {"pad_token_id": None}, num_key_value_heads=2, head_dim=8),
    "mistral": lambda: hf.MistralConfig(**WIDE | {"pad_token_id": None}, num_key_value_heads=2),
    "gemma": lambda: hf.GemmaConfig(**WIDE, num_key_value_heads=2, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**WIDE, num_key_value_heads=2, head_dim=8, sliding_window=32),
    "gemma3_text": lambda: hf.Gemma3TextConfig(**WIDE, num_key_value_heads=2, head_dim=8),
    "phi": lambda: hf.PhiConfig(**WIDE | {"pad_token_id": None}),
    "phi3": lambda: hf.Phi3Config(**WIDE, num_key_value_heads=2),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**WIDE | {"pad_token_id": None}),
    "smollm3": lambda: hf.SmolLM3Config(**WIDE, num_key_value_heads=2, bos_token_id=1, eos_token_id=2),
}
CONFIGS |= {name: (config, PLAIN) for name, config in DECODERS.items()}
sides = pytest.mark.parametrize("side", ["left", "right"])


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with a random model whose outputs differ well, and its tokenizer."""

    def make(architecture, auto=AutoModelForSequenceClassification, scale=6, **options):
        torch.manual_seed(0)
        config, template = CONFIGS[architecture]
        model = auto.from_config(config())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(scale)
        model.save_pretrained(tmp_path / "plm")
        words(**template | options).save_pretrained(tmp_path / "plm")
        return str(tmp_path / "plm")

    return make


def ready(kind, plm, task, method=None, **options):
    module = kind(plm, method or FullFineTuning(), task, **options)
    module.configure_model()
    return module.eval()


def rows_of(module, **columns):
    """Rows as a data module gives them."""
    encoded = {"label": [0] * len(TEXTS)} | columns | module.encode(columns)
    for name in module.task.columns:
        del encoded[name]
    return [{name: column[i] for name, column in encoded.items()} | {"row": i} for i in range(len(TEXTS))]


def assert_same(ours, alone):
    """Equal but for rounding, by which rows differ from each other a hundred times less than in what they say."""
    spread = alone.std(0).min()
    assert spread > 1e-4
    assert (ours - alone).abs().max() < spread / 50


# --- classification ---


def alone(plm, *texts):
    """The logits of one row that is padded with nothing, by Transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(plm), AutoModelForSequenceClassification.from_pretrained(plm)
    with torch.no_grad():
        return model.eval()(**tokenizer(*texts, return_tensors="pt")).logits


@sides
@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_classified_row_is_what_it_is_alone(architecture, side, folder):
    plm = folder(architecture, padding_side=side)
    module = ready(SequenceClassification, plm, GLUE_TASKS["sst2"])
    with torch.no_grad():
        logits = module(module.collate(rows_of(module, sentence=TEXTS)))
    assert_same(logits, torch.cat([alone(plm, text) for text in TEXTS]))


@sides
@pytest.mark.parametrize("architecture", ["gpt2", "llama", *DECODERS])
def test_a_decoder_classifies_at_the_last_token_of_a_row(architecture, side, folder):
    plm = folder(architecture, scale=2, padding_side=side, special=("bos", "eos", "unk"))  # and nothing to pad with
    module = ready(SequenceClassification, plm, GLUE_TASKS["sst2"])
    model = AutoModelForSequenceClassification.from_pretrained(plm).eval()
    rows = rows_of(module, sentence=TEXTS)
    with torch.no_grad():
        states = [model.base_model(input_ids=torch.tensor([row["input_ids"]])).last_hidden_state for row in rows]
        expected = torch.cat([model.score(state[:, -1]) for state in states])
        torch.testing.assert_close(module(module.collate(rows)), expected, atol=1e-5, rtol=1e-5)
    assert module.padding_side == side
    assert module.tokenizer.pad_token == "</s>"


@sides
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bloom", "opt", "openai-gpt", "qwen3", "gemma"])
def test_no_end_token_of_a_row_is_taken_for_padding(architecture, side, folder):
    plm = folder(architecture, padding_side=side, special=("bos", "eos", "unk"))  # and nothing to pad with
    module = ready(SequenceClassification, plm, GLUE_TASKS["sst2"])
    texts = ["the cat </s>", "a </s> dog ran in the house </s> </s>", "</s>", "good film was not bad"]
    assert module.tokenizer.pad_token == "</s>"
    assert module.model.config.pad_token_id == 2
    with torch.no_grad():
        logits = module(module.collate(rows_of(module, sentence=texts)))
    assert_same(logits, torch.cat([alone(plm, text) for text in texts]))


@sides
@pytest.mark.parametrize("special", [("bos", "eos", "unk"), ("pad", "bos", "eos", "unk")], ids=len)
def test_a_text_of_no_token_is_its_end(special, side, folder):
    plm = folder("gpt2", padding_side=side, special=special)
    module = ready(SequenceClassification, plm, GLUE_TASKS["sst2"])
    with torch.no_grad():
        logits = module(module.collate(rows_of(module, sentence=["", *TEXTS[1:]])))
    assert_same(logits, torch.cat([alone(plm, text) for text in ["</s>", *TEXTS[1:]]]))


def test_a_token_that_ends_every_row_pads_none(folder):
    ends = {"single": "$A </s>", "pair": "$A $B </s>"}  # Transformers' head would see past the end of every row
    module = ready(SequenceClassification, folder("llama", special=("bos", "eos", "unk"), **ends), GLUE_TASKS["sst2"])
    assert module.tokenizer.pad_token == "<unk>"
    assert module.model.config.pad_token_id == 3


def test_a_tokenizer_without_any_special_token_is_refused(folder):
    module = SequenceClassification(folder("gpt2", special=()), FullFineTuning(), GLUE_TASKS["sst2"])
    with pytest.raises(ValueError, match=r"neither a pad token nor an end token.*tokenizer_config\.json"):
        module.encode({"sentence": TEXTS})


def test_xlnets_padding_has_a_segment_of_its_own(folder):
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    module = ready(SequenceClassification, folder("xlnet", model_input_names=inputs), GLUE_TASKS["rte"])
    module.tokenizer._pad_token_type_id = 3  # as XLNetTokenizer says
    batch = module.collate(rows_of(module, sentence1=TEXTS, sentence2=TEXTS[::-1]))
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert not padding[:, -1].any()
    assert (batch["token_type_ids"][padding] == 3).all()


# --- prompts ---


@sides
@pytest.mark.parametrize("architecture", ["bert", "roberta", "bert without a first token", "t5"])
@pytest.mark.parametrize("shown", [False, True])
def test_a_prompted_row_is_what_it_is_alone(architecture, shown, side, folder):
    name, *bare = architecture.split(maxsplit=1)
    auto = hf.AutoModelForSeq2SeqLM if name == "t5" else hf.AutoModelForMaskedLM
    options = {"special": ("pad", "sep", "unk", "mask"), "single": "$A </s>"} if bare else {}
    plm = folder(name, auto, padding_side=side, **options)
    template = "*cls**sent_0*_It_was*mask*.*sep+*"
    module = ready(PromptClassification, plm, FEW_SHOT_TASKS["sst2"], template=template, max_length=40)
    rows = rows_of(module, text=TEXTS)
    if shown:  # two sets of other lengths, so that the mask stands elsewhere in each
        rows = [row | {"demonstrations": [[[6 + n] * (1 + 3 * n)], [[9, 10, 11, 12]]]} for n, row in enumerate(rows)]
    with torch.no_grad():
        each = torch.cat([module(module.collate([row])) for row in rows])
        assert_same(module(module.collate(rows)), each)


# --- text to text ---


@sides
@pytest.mark.parametrize(
    ("architecture", "method"),
    [("t5", FullFineTuning()), ("mt5", FullFineTuning()), ("t5gemma", FullFineTuning()), ("t5", PromptTuning(3))],
    ids=["t5", "mt5", "t5gemma", "a soft prompt"],
)
def test_a_row_is_answered_as_it_is_alone(architecture, method, side, folder):
    plm = folder(architecture, hf.AutoModelForSeq2SeqLM, scale=3, padding_side=side)
    module = ready(TextToText, plm, GLUE_TASKS["mnli"], method)
    rows = rows_of(module, premise=TEXTS, hypothesis=TEXTS[::-1], label=[0, 1, 2, 1])
    batch, singles = module.collate(rows), [module.collate([row]) for row in rows]
    with torch.no_grad():
        assert_same(module.predictions(batch)[1], torch.cat([module.predictions(one)[1] for one in singles]))
        torch.testing.assert_close(
            module.scores(batch), torch.cat([module.scores(one) for one in singles]), atol=1e-4, rtol=1e-3
        )
        assert module.texts(batch) == [module.texts(one)[0] for one in singles]


# --- texts after a prompt ---


@sides
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "bloom"])
def test_a_text_is_what_it_is_alone(architecture, side, folder):
    plm = folder(architecture, hf.AutoModelForCausalLM, padding_side=side, special=("bos", "eos", "unk"))
    module = ready(CausalLM, plm, GENERATION_TASKS["e2e"], max_length=48, max_new_tokens=8, num_beams=2)
    rows = rows_of(module, context=TEXTS, answers=[["a cat"], ["dog sat on </s>", "the"], ["not in"], ["of blue was"]])
    plain, expected = hf.AutoModelForCausalLM.from_pretrained(plm).eval(), []
    with torch.no_grad():
        for row in rows:
            losses = []
            for target in row["target_ids"]:
                ids = torch.tensor([row["input_ids"] + target])
                labels = ids.clone()
                labels[:, : len(row["input_ids"])] = -100
                losses.append(plain(input_ids=ids, labels=labels).loss * len(target))
            expected.append(sum(losses))
        batch = module.collate(rows)
        assert_same(module._losses(batch)[0][:, None], torch.stack(expected)[:, None])
        assert module.texts(batch) == [module.texts(module.collate([row]))[0] for row in rows]


# --- a model without a pad token, as GPT-2 is released ---


def test_a_model_without_a_pad_token_is_trained_merged_and_exported(kronlit, config, tiny_gpt2, tmp_path):
    words = ["--model.plm", tiny_gpt2, "--model.method", "LoRA", "--trainer.max_steps", 3, "--run_dir", "runs/gpt2"]
    code, _, err = kronlit("fit", "--config", config, *words)
    assert code == 0, err
    run = tmp_path / "runs/gpt2"
    for command, *more in (["merge"], ["export", "--format", "kronlit"], ["export", "--format", "peft"]):
        folder = tmp_path / "-".join([command, *more[1:]])
        code, _, err = kronlit(command, "--ckpt_path", run, "--output", folder, *more)
        assert code == 0, err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merge").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merge")
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    with torch.no_grad():
        expected = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        torch.testing.assert_close(model(**inputs).logits, expected)
        torch.testing.assert_close(load(tmp_path / "export-kronlit")(**inputs).logits, expected, atol=1e-5, rtol=1e-4)
    assert (
        "num_labels=2, ignore_mismatched_sizes=True, pad_token_id=0)"
        in (tmp_path / "export-peft/README.md").read_text()
    )
