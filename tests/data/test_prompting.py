"""Prompts against LM-BFF's, tokens and scores against worked examples, plain Transformers, scipy and torch."""

import itertools
import json
import math
import sys

import numpy as np
import pytest
import scipy.special
import torch
from datasets import Dataset
from fixtures.methods import METHODS
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from sentence_transformers import SentenceTransformer
from tokenizers import pre_tokenizers
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from kronlit import FullFineTuning, HeadOnly, KronA
from kronlit.__main__ import main
from kronlit.data import GLUE, FewShot
from kronlit.data.batches import SeededBatches
from kronlit.data.demonstrations import DemonstrationSet
from kronlit.data.tasks import FEW_SHOT_TASKS, GLUE_TASKS, SUPER_GLUE_TASKS, few_shot
from kronlit.modules import PromptClassification
from kronlit.modules.template import Template
from kronlit.training.checkpoint import AtomicCheckpoint

SENTENCE = {"text": ["The film was good"]}
PAIR = {"sentence1": ["The cat sat."], "sentence2": ["A dog ran."]}
plms = pytest.mark.parametrize("plm", ["mlm_roberta", "mlm_bert", "span_t5"])


def build(request, plm, task="sst2", method=None, **options):
    folder = str(request.getfixturevalue(plm))
    return PromptClassification(folder, method or KronA(trains=("head",)), FEW_SHOT_TASKS[task], lr=1e-2, **options)


def attach(module, data):
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy._lightning_module = module
    data.trainer = trainer
    return data


def ready(module):
    module.configure_model()
    module.model.double().eval()
    return module


def row_of(task):
    texts = ["The cat sat.", "A dog ran."] if len(FEW_SHOT_TASKS[task].columns) == 2 else ["The film was good"]
    return {column: [text] for column, text in zip(FEW_SHOT_TASKS[task].columns, texts, strict=True)}


# --- templates ---

# run_experiment.sh of princeton-nlp/LM-BFF at 0be721a: what each task reads as, and the word for each label
IT_WAS = "<s> The Ġfilm Ġwas Ġgood ĠIt Ġwas <mask> . </s>"
THIS_IS = "<s> The Ġfilm Ġwas Ġgood ĠThis Ġis <mask> . </s>"
ASKED = "<s> The Ġcat Ġsat ? <mask> , Ġa Ġdog Ġran . </s>"
SAID = "<s> The Ġcat Ġsat . <mask> , Ġa Ġdog Ġran . </s>"
POLAR = {"negative": "terrible", "positive": "great"}
FIVE = {
    "very negative": "terrible",
    "negative": "bad",
    "neutral": "okay",
    "positive": "good",
    "very positive": "great",
}
KINDS = {
    "description": "Description",
    "entity": "Entity",
    "abbreviation": "Expression",
    "human": "Human",
    "location": "Location",
    "number": "Number",
}
THREE = {"contradiction": "No", "entailment": "Yes", "neutral": "Maybe"}
TWO = {"entailment": "Yes", "not_entailment": "No"}
# Task: what it reads, words, and max_length, first and other limit, whether doubled, sets of demonstrations
TABLE = {
    "sst2": (IT_WAS, POLAR, (128, None, None, False, 16)),
    "sst5": (IT_WAS, FIVE, (128, 110, 20, True, 16)),
    "mr": (IT_WAS, POLAR, (128, 110, 50, True, 16)),
    "cr": (IT_WAS, POLAR, (128, 110, 50, True, 16)),
    "mpqa": (IT_WAS, POLAR, (128, 110, None, True, 16)),
    "subj": (THIS_IS, {"subjective": "subjective", "objective": "objective"}, (128, 110, 50, True, 16)),
    "trec": ("<s> <mask> : ĠThe Ġfilm Ġwas Ġgood </s>", KINDS, (128, 110, None, True, 16)),
    "cola": (THIS_IS, {"unacceptable": "incorrect", "acceptable": "correct"}, (128, None, None, False, 16)),
    "mnli": (ASKED, THREE, (256, None, None, False, 4)),
    "mnli_mm": (ASKED, THREE, (256, None, None, False, 4)),
    "snli": (ASKED, THREE, (256, None, None, False, 4)),
    "qnli": (ASKED, TWO, (128, None, None, False, 16)),
    "rte": (ASKED, TWO, (256, 240, None, False, 16)),
    "mrpc": (SAID, {"not_equivalent": "No", "equivalent": "Yes"}, (128, None, None, False, 16)),
    "qqp": (SAID, {"not_duplicate": "No", "duplicate": "Yes"}, (128, None, None, False, 4)),
    "stsb": (SAID, {"low": "No", "high": "Yes"}, (128, None, None, False, 16)),
}


@pytest.mark.parametrize("task", TABLE)
def test_each_task_reads_as_lm_bff_has_it_on_a_roberta(task, request):
    module = build(request, "mlm_roberta", task)
    features = module.encode(row_of(task))
    tokens = module.tokenizer.convert_ids_to_tokens(features["input_ids"][0])
    assert tokens == TABLE[task][0].split()
    assert tokens[features["mask_position"][0]] == "<mask>"
    assert module.tokenizer.convert_ids_to_tokens(module.word_ids) == [f"Ġ{word}" for word in TABLE[task][1].values()]


@pytest.mark.parametrize(
    ("plm", "task", "expected"),
    [
        ("mlm_bert", "sst2", "[CLS] the film was good it was [MASK] . [SEP]"),
        ("mlm_bert", "trec", "[CLS] [MASK] : the film was good [SEP]"),
        ("mlm_bert", "rte", "[CLS] the cat sat ? [MASK] , a dog ran . [SEP]"),
        ("span_t5", "sst2", "the film was good it was <extra_id_0> . </s>"),
        ("span_t5", "trec", "<extra_id_0> : the film was good </s>"),
        ("span_t5", "mrpc", "the cat sat . <extra_id_0> , a dog ran . </s>"),
    ],
)
def test_the_same_templates_serve_bert_and_t5(plm, task, expected, request):
    module = build(request, plm, task)
    features = module.encode(row_of(task))
    assert module.tokenizer.convert_ids_to_tokens(features["input_ids"][0]) == expected.split()


@pytest.mark.parametrize("task", TABLE)
def test_words_and_lengths_are_those_of_the_paper(task):
    prompt, (_, words, lengths) = few_shot.TASKS[task].prompt, TABLE[task]
    assert list(prompt.words.items()) == list(words.items())  # in the order of LM-BFF's labels
    own = (prompt.max_length, prompt.first_sent_limit, prompt.other_sent_limit)
    assert (*own, prompt.double_demo, prompt.num_demonstrations) == lengths


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("sent_0", "The cat", "The Ġcat"),
        ("+sent_0", "The cat", "ĠThe Ġcat"),
        ("sentl_0", "The cat", "the Ġcat"),
        ("+sentl_0", "The cat", "Ġthe Ġcat"),
        ("sentu_0", "the cat", "The Ġcat"),
        ("sent-_0", "The cat.", "The Ġcat"),
        ("sentl-_0", "The cat ", "the Ġcat"),
        ("sent_0", "good ", "good Ġ"),  # GLUE's sentences of SST-2 end in a space, which LM-BFF keeps
        ("sent-_0", "", ""),
    ],
)
def test_a_sentence_is_changed_as_its_variable_says(variable, text, expected, request):
    module = build(request, "mlm_roberta", template=f"*cls**{variable}**mask*")
    tokens = module.tokenizer.convert_ids_to_tokens(module.encode({"text": [text]})["input_ids"][0])
    assert tokens == ["<s>", *expected.split(), "<mask>"]


def test_a_text_of_one_character_is_that_character_where_the_tokenizer_puts_a_space_before_words(mlm_roberta):
    words = AutoTokenizer.from_pretrained(mlm_roberta)  # now as T5's
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert words.tokenize(".") == ["Ġ", "."]
    ((tokens,), _) = Template("*cls**sent_0*_It*mask*.*sep+*", 1, words).queries([["film"]], 99, None, None)
    assert words.convert_ids_to_tokens(tokens) == ["<s>", "Ġfilm", "ĠIt", "<mask>", ".", "</s>"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"first_sent_limit": 2}, "<s> The Ġcat ? <mask> , Ġa Ġdog Ġran . </s>"),
        ({"other_sent_limit": 3}, "<s> The Ġcat Ġsat ? <mask> , Ġa Ġdog Ġran </s>"),
        ({"max_length": 8}, "<s> The Ġcat Ġsat ? <mask> , Ġa"),
    ],
)
def test_limits_cut_a_sentence_and_the_tail(options, expected, request):
    module = build(request, "mlm_roberta", "rte", **options)
    assert module.tokenizer.convert_ids_to_tokens(module.encode(PAIR)["input_ids"][0]) == expected.split()


def test_a_sentence_that_would_cut_the_mask_is_cut_before_it(request):
    module = build(request, "mlm_roberta", max_length=9)
    features = module.encode({"text": ["The cat sat on the house and ran"]})
    tokens = module.tokenizer.convert_ids_to_tokens(features["input_ids"][0])
    assert tokens == ["<s>", "The", "Ġcat", "Ġsat", "Ġon", "Ġthe", "ĠIt", "Ġwas", "<mask>"]
    assert features["mask_position"] == [8]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("*cls**sent_0*_It_was.", "must have one mask"),
        ("*cls**mask**mask*", "must have one mask"),
        ("*cls*sent_0*mask*", "between pairs of `\\*`"),
        ("*cls**sent_1**mask*", "has the variable 'sent_1'; there are cls, mask, sep, sep\\+, sent_0"),
        ("*cls**sentx_0**mask*", "has the variable 'sentx_0'"),
    ],
)
def test_a_template_that_is_none_is_told(template, words, request):
    with pytest.raises(ValueError, match=f"`model.template`=.*{words}"):
        build(request, "mlm_roberta", template=template)


@pytest.mark.parametrize(
    ("plm", "given", "words"),
    [
        ("mlm_roberta", ("horrible", "great"), "'horrible', for negative, must be one token of"),
        ("mlm_roberta", ("great", "great"), "'great', for positive, is the same token as 'great'"),
        ("mlm_bert", ("xyz", "great"), r"'xyz', for negative, must be one token.*\[UNK\]"),
    ],
)
def test_a_word_that_is_not_one_token_is_told(plm, given, words, request):
    module = build(request, plm, label_words=dict(zip(("negative", "positive"), given, strict=True)))
    with pytest.raises(ValueError, match=f"`model.label_words`: {words}"):
        _ = module.word_ids


def test_of_a_word_of_several_tokens_a_t5_scores_the_first(request):
    module = build(request, "span_t5", label_words={"negative": "bad film", "positive": "good film"})
    assert module.tokenizer.convert_ids_to_tokens(module.word_ids) == ["bad", "good"]


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (SUPER_GLUE_TASKS["boolq"], {}, "'boolq' has no prompt of LM-BFF's: give `model.template` and"),
        (FEW_SHOT_TASKS["mr"], {"label_words": {"negative": "bad"}}, "must give a word for each of negative, positive"),
        (FEW_SHOT_TASKS["stsb"], {"label_words": {"0": "No", "1": "Yes"}}, "must give a word for each of high, low"),
        (FEW_SHOT_TASKS["mr"], {"first_sent_limit": 0}, "`model.first_sent_limit`=0 must be at least 1"),
        (FEW_SHOT_TASKS["mr"], {"num_demonstrations": 0}, "`model.num_demonstrations`=0 must be at least 1"),
        (FEW_SHOT_TASKS["mr"], {"demonstration_filter_rate": 0.0}, "`model.demonstration_filter_rate`=0.0 must lie"),
    ],
)
def test_bad_arguments_name_themselves(task, options, words):
    with pytest.raises(ValueError, match=words):
        PromptClassification("x", KronA(), task, **options)


def test_a_model_without_a_language_modelling_head_is_told(request):
    with pytest.raises(ValueError, match=r"`model.plm`=.* has no language-modelling head in its files"):
        build(request, "tiny_bert").configure_model()  # a classifier


def test_a_model_without_a_mask_is_told(request):
    with pytest.raises(ValueError, match=r"`model.plm`=.* has neither a mask token nor <extra_id_0>"):
        build(request, "tiny_t5").encode(SENTENCE)


def test_a_task_without_a_prompt_is_given_one(request, mlm_roberta):
    options = {"template": "*cls**sent_0*_*mask*", "label_words": {"False": "No", "True": "Yes"}}
    module = PromptClassification(str(mlm_roberta), KronA(), SUPER_GLUE_TASKS["boolq"], **options)
    tokens = module.encode({"question": ["is it"], "passage": ["red"]})["input_ids"][0]
    assert module.tokenizer.convert_ids_to_tokens(tokens) == ["<s>", "is", "Ġ", "i", "t", "Ġ", "<mask>"]


# --- scores ---


def batch_of(module, task="sst2", labels=(0, 1), texts=("The film was good", "A dog was not red and ran"), **extra):
    rows = {column: list(texts) for column in FEW_SHOT_TASKS[task].columns}
    features = module.encode(rows)
    items = [{name: column[i] for name, column in features.items()} for i in range(len(texts))]
    return module.collate([item | {"row": i, "label": labels[i]} | extra for i, item in enumerate(items)])


def unpadded(batch):
    """The tokens of each row's one input."""
    pairs = zip(batch["input_ids"][:, 0], batch["attention_mask"][:, 0], strict=True)
    return [tokens[: int(mask.sum())].tolist() for tokens, mask in pairs]


def plain_scores(request, plm, ids, words, query_length=None):
    """Scores of `words` by a plain Transformers model, for inputs given as token ids, one by one.

    To BERT, tokens from `query_length` on are a second segment.
    """
    kind = AutoModelForSeq2SeqLM if plm == "span_t5" else AutoModelForMaskedLM
    model, found = kind.from_pretrained(request.getfixturevalue(plm)).double().eval(), []
    for one in ids:
        tokens = torch.tensor([one])
        if plm == "span_t5":
            logits = model(input_ids=tokens, decoder_input_ids=torch.tensor([[0, 3]])).logits[0, 1]  # pad, <extra_id_0>
        else:
            segments = (torch.arange(len(one)) >= (query_length or len(one))).long()[None]
            options = {"token_type_ids": segments} if plm == "mlm_bert" else {}
            logits = model(input_ids=tokens, **options).logits[0, one.index(4)]  # the mask
        found.append(logits[words])
    return torch.stack(found).float()


@plms
def test_scores_are_those_of_the_plain_model_at_the_mask_without_any_training(plm, request):
    module = ready(build(request, plm))
    batch = batch_of(module)
    ids = unpadded(batch)
    words = module.tokenizer.convert_tokens_to_ids(
        {"mlm_roberta": ["Ġterrible", "Ġgreat"]}.get(plm, ["terrible", "great"])
    )
    expected = plain_scores(request, plm, ids, words)
    torch.testing.assert_close(module(batch), expected)
    losses, log_probabilities = module.training_pass(batch)
    torch.testing.assert_close(losses, F.cross_entropy(expected, batch["label"], reduction="none"))
    torch.testing.assert_close(log_probabilities, expected.log_softmax(-1))
    torch.testing.assert_close(module.scores(batch), expected.softmax(-1))
    assert module.predictions(batch)[0].tolist() == expected.argmax(-1).tolist()


def test_scores_come_in_the_order_of_the_classes(request):
    # MNLI's classes are entailment, neutral, contradiction; its words contradiction, entailment, neutral
    module = ready(build(request, "mlm_roberta", "mnli"))
    words = module.tokenizer.convert_tokens_to_ids(["ĠYes", "ĠMaybe", "ĠNo"])
    batch = batch_of(module, "mnli")
    ids = unpadded(batch)
    torch.testing.assert_close(module(batch), plain_scores(request, "mlm_roberta", ids, words))


@plms
def test_a_number_lies_between_its_two_words(plm, request):
    module = ready(build(request, plm, "stsb"))
    label = torch.tensor([1.5, 5.0])
    batch = batch_of(module, "stsb", labels=label.tolist())
    q = module(batch).softmax(-1).detach().numpy()
    p = np.stack([1 - label.numpy() / 5, label.numpy() / 5], -1)
    divergence = scipy.special.rel_entr(p, q).sum(-1)
    trained_on, _ = module.training_pass(batch)
    prediction, losses = module.predictions(batch)
    assert losses.tolist() == pytest.approx(divergence.tolist(), rel=1e-4)
    torch.testing.assert_close(trained_on, losses)
    assert prediction.tolist() == pytest.approx((5 * q[:, 1]).tolist(), rel=1e-5)
    assert module.scores(batch)[:, 0].tolist() == prediction.tolist()


def shown(module, texts_by_label, task):
    """The tokens of one demonstration a label."""
    rows = {column: list(texts_by_label) for column in FEW_SHOT_TASKS[task].columns}
    return module.template.demonstrations(list(rows.values()), None, module.word_ids)


@plms
@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_an_answer_is_the_mean_over_sets_of_demonstrations(plm, task, request):
    module = ready(build(request, plm, task, demonstrations=True, num_demonstrations=3))
    pairs = [("the cat", "a dog ran"), ("the red tree", "blue"), ("is it", "not a house")]
    sets = [shown(module, pair, task) for pair in pairs]
    batch = batch_of(module, task, demonstrations=sets)
    assert batch["input_ids"].shape[:2] == (2, 3)
    words = {"sst2": ["terrible", "great"], "stsb": ["No", "Yes"]}[task]
    tokens = [f"Ġ{word}" if plm == "mlm_roberta" else word.lower() for word in words]
    query = module.encode({column: ["The film was good"] for column in FEW_SHOT_TASKS[task].columns})["input_ids"][0]
    ids = [query + list(itertools.chain(*one)) for one in sets]
    words = module.tokenizer.convert_tokens_to_ids(tokens)
    each = plain_scores(request, plm, ids, words, query_length=len(query))
    if task == "stsb":  # LM-BFF averages the numbers
        expected = (5 * each.softmax(-1)[:, 1]).mean()
        torch.testing.assert_close(module.predictions(batch)[0][0], expected)
    else:
        torch.testing.assert_close(module(batch)[0], each.mean(0))


# --- demonstrations ---


SHOWN = {
    ("mlm_roberta", "sst2"): "<s> The Ġfilm Ġwas Ġgood ĠIt Ġwas <mask> . </s> "
    "bad Ġfilm ĠIt Ġwas Ġterrible . </s> good Ġfilm ĠIt Ġwas Ġgreat . </s>",
    ("mlm_roberta", "trec"): "<s> <mask> : ĠThe Ġfilm Ġwas Ġgood </s> "
    "ĠDescription : Ġbad Ġfilm </s> ĠEntity : Ġgood Ġfilm </s>",
    ("mlm_bert", "sst2"): "[CLS] the film was good it was [MASK] . [SEP] "
    "bad film it was terrible . [SEP] good film it was great . [SEP]",
    ("span_t5", "sst2"): "the film was good it was <extra_id_0> . </s> "
    "bad film it was terrible . </s> good film it was great . </s>",
}


@pytest.mark.parametrize(("plm", "task"), SHOWN)
def test_demonstrations_follow_the_row_in_the_template_without_cls(plm, task, request):
    module = build(request, plm, task, demonstrations=True)
    one = module.template.demonstrations([["bad film", "good film"]], None, module.word_ids[:2])
    batch = batch_of(module, task, labels=(0,), texts=("The film was good",), demonstrations=[one])
    assert module.tokenizer.convert_ids_to_tokens(batch["input_ids"][0, 0].tolist()) == SHOWN[plm, task].split()
    if plm == "mlm_bert":
        assert batch["token_type_ids"][0, 0].tolist() == [0] * 10 + [1] * 14
    assert ("token_type_ids" in batch) == (plm == "mlm_bert")


def test_a_demonstrations_sentences_have_the_other_limit_and_the_sum_is_doubled(request):
    module = build(request, "mlm_roberta", "sst5", demonstrations=True, other_sent_limit=2)
    features = module.encode({"text": ["The cat sat on the house"], "label": [3]})
    assert module.max_length == 256
    tokens = module.tokenizer.convert_ids_to_tokens(features["demonstration_ids"][0])
    assert tokens == ["The", "Ġcat", "ĠIt", "Ġwas", "Ġgood", ".", "</s>"]
    assert features["word"] == [3]
    assert len(features["input_ids"][0]) == 12  # the row itself has no such limit: <s>, six words, It was <mask> . </s>


@pytest.mark.parametrize(("label", "word"), [(0.0, 0), (2.5, 0), (2.6, 1), (5.0, 1)])
def test_a_number_is_demonstrated_by_the_word_of_its_half(label, word, request):
    # median_mapping of LM-BFF's code: at most 2.5 is the lower one
    module = build(request, "mlm_roberta", "stsb", demonstrations=True)
    features = module.encode(PAIR | {"label": [label]})
    assert features["word"] == [word]
    assert module.word_ids[word] in features["demonstration_ids"][0]


def pool(words, **columns):
    rows = {"input_ids": [[i] for i in range(len(words))], "demonstration_ids": [[100 + i] for i in range(len(words))]}
    return Dataset.from_dict(rows | {"word": words} | columns)


POOL = pool([0, 1, 2, 1, 0, 2, 0, 1])
LABELS = ("a", "b", "c")


def drawn(data, key):
    return [[tokens[0] - 100 for tokens in one] for one in data[key]["demonstrations"]]


def test_one_row_of_each_label_demonstrates_in_the_order_of_the_words_and_never_itself():
    data = DemonstrationSet(POOL, POOL, LABELS, own=True)
    seen = {row: set() for row in range(8)}
    for row, epoch in itertools.product(range(8), range(60)):
        (one,) = drawn(data, (5, epoch, row))
        assert [POOL[i]["word"] for i in one] == [0, 1, 2]
        assert row not in one
        seen[row].update(one)
    assert all(seen[row] == set(range(8)) - {row} for row in range(8))


def test_what_is_drawn_is_a_function_of_seed_epoch_and_row():
    def draws():
        data = DemonstrationSet(POOL, POOL, LABELS, own=True)
        return {key: drawn(data, key) for key in itertools.product((5, 6), range(40), (1,))}

    torch.manual_seed(1)
    first = draws()
    np.random.seed(2)
    torch.manual_seed(3)
    assert draws() == first
    assert len({str(first[5, epoch, 1]) for epoch in range(40)}) > 3
    assert any(first[5, epoch, 1] != first[6, epoch, 1] for epoch in range(40))


def test_evaluation_has_as_many_sets_as_asked_for_the_same_each_time():
    data = DemonstrationSet(POOL, POOL, LABELS, sets=16, seed=3)
    sets = drawn(data, 4)
    assert len(sets) == 16
    assert len({str(one) for one in sets}) > 3
    assert drawn(data, 4) == sets != drawn(DemonstrationSet(POOL, POOL, LABELS, sets=16, seed=4), 4)
    assert any(4 in one for one in sets)  # row 4 of a test set is not row 4 of the pool


def test_two_processes_are_given_the_demonstrations_of_one():
    data = DemonstrationSet(POOL, POOL, LABELS, own=True)

    def items(rank, world_size, batch_size):
        batches = SeededBatches([1] * 8, batch_size, True, 9, rank, world_size)
        return [(key[2], drawn(data, key)) for batch in batches for key in batch]

    assert sorted(items(0, 1, 4)) == sorted(items(0, 2, 2) + items(1, 2, 2))


@pytest.mark.parametrize(("words", "own", "label"), [([0, 0, 1], True, "b has 1"), ([0, 0, 0], False, "b has 0")])
def test_a_label_with_too_few_training_rows_is_told(words, own, label):
    with pytest.raises(ValueError, match=f"`model.demonstrations` needs at least {1 + own} training rows.*; {label}"):
        DemonstrationSet(pool(words), pool(words), ("a", "b"), own=own)


@pytest.mark.parametrize(("demonstrations", "splits"), [(True, ("train", "test")), (False, ("test",))])
def test_training_rows_are_made_ready_for_a_test_that_shows_some(demonstrations, splits, request, lm_bff):
    module = build(request, "mlm_roberta", demonstrations=demonstrations)
    data = attach(module, FewShot("sst2", path=str(lm_bff)))
    data.trainer.state.fn = TrainerFn.TESTING
    assert data.splits() == splits


@pytest.mark.parametrize("own", [True, False])
def test_the_filter_keeps_the_most_similar_half_of_each_label(own):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(12, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = [0, 1] * 6
    rows = pool(words, embedding=vectors.tolist())
    data = DemonstrationSet(rows, rows, ("a", "b"), own=own, sets=200, rate=0.5)
    key = 3
    cosine = vectors @ vectors[key]
    others = [i for i in range(12) if i != key or not own]
    limit = int(len(others) // 2 * 0.5)  # as LM-BFF counts: 11 // 2 * 0.5 or 12 // 2 * 0.5
    ranked = {word: sorted((i for i in others if words[i] == word), key=lambda i: -cosine[i]) for word in (0, 1)}
    sets = drawn(data, key) if not own else [drawn(data, (1, epoch, key))[0] for epoch in range(200)]
    for word in (0, 1):
        assert {one[word] for one in sets} == set(ranked[word][:limit])


def test_embeddings_are_those_of_sentence_transformers_made_one_long(request, tiny_bert):
    # A plain model: its mean over tokens, which has a length of its own
    module = build(request, "mlm_roberta", "rte", demonstrations=True, demonstration_filter=str(tiny_bert))
    theirs = SentenceTransformer(str(tiny_bert)).encode(["The cat sat. A dog ran."])[0]
    ours = np.array(module.encode(PAIR | {"label": [0]})["embedding"][0])
    assert abs(np.linalg.norm(theirs) - 1) > 0.1
    assert ours == pytest.approx(theirs / np.linalg.norm(theirs), abs=1e-5)


def test_a_missing_library_is_named(request, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    module = build(request, "mlm_roberta", demonstrations=True, demonstration_filter="x")
    with pytest.raises(
        ValueError, match=r"needs the package sentence-transformers: pip install 'kronlit\[similarity\]'"
    ):
        module.encode(SENTENCE | {"label": [0]})


def test_a_sentence_encoder_that_cannot_be_loaded_is_named(request):
    module = build(request, "mlm_roberta", demonstrations=True, demonstration_filter="no-such/encoder")
    with pytest.raises(ValueError, match=r"`model.demonstration_filter`='no-such/encoder' cannot be loaded"):
        module.encode(SENTENCE | {"label": [0]})


@pytest.mark.parametrize(
    "options",
    [
        {"template": "*cls**sent_0*_This_was*mask*.*sep+*"},
        {"label_words": {"negative": "bad", "positive": "great"}},
        {"first_sent_limit": 7},
        {"other_sent_limit": 7},
        {"max_length": 77},
        {"demonstrations": True},
        {"demonstrations": True, "demonstration_filter": "sentence-transformers/all-MiniLM-L6-v2"},
    ],
    ids=str,
)
def test_what_changes_the_tokens_changes_the_key_of_their_cache(options, request):
    keys = {build(request, "mlm_roberta", **given).encoding_key for given in ({}, {"demonstrations": True}, options)}
    assert len(keys) == (2 if options == {"demonstrations": True} else 3)
    assert build(request, "mlm_roberta", **options).encoding_key in keys


# --- training ---


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        shapes = list(batch["input_ids"].shape)
        self.values.append((trainer.global_step, sorted(batch["row"].tolist()), shapes, outputs["loss"].item()))


def fit(module, data, folder, *callbacks, ckpt_path=None, **options):
    defaults = {"max_epochs": 3, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = defaults | {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False} | options
    trainer = Trainer(default_root_dir=folder, callbacks=list(callbacks), plugins=[AtomicCheckpoint()], **options)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("protocol", ["lm_bff", "true_few_shot"])
def test_a_resumed_run_draws_the_demonstrations_that_were_to_come(workers, protocol, request, tmp_path, lm_bff):
    def run(folder, ckpt_path=None):
        seed_everything(0 if ckpt_path is None else 99)
        data = FewShot("sst2", path=str(lm_bff), k=5, protocol=protocol, batch_size=4, num_workers=workers)
        module, losses = build(request, "mlm_roberta", demonstrations=True, num_demonstrations=2), Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", every_n_train_steps=2)
        fit(module, data, folder, losses, keep, ckpt_path=ckpt_path)
        return losses.values

    whole = run(tmp_path / "whole")
    assert len(whole) == 9
    for step in (2, 6):
        assert run(tmp_path / f"again {step}", tmp_path / "whole" / f"step={step}.ckpt") == whole[step:]


def test_other_demonstrations_are_drawn_each_epoch(request, tmp_path, lm_bff):
    seen = {}

    class Tokens(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            for row, tokens in zip(batch["row"].tolist(), batch["input_ids"][:, 0].tolist(), strict=True):
                seen.setdefault(row, set()).add(tuple(token for token in tokens if token != 1))

    data = FewShot("sst2", path=str(lm_bff), k=5, protocol="true_few_shot")
    fit(build(request, "mlm_roberta", demonstrations=True), data, tmp_path, Tokens(), enable_checkpointing=False)
    assert all(len(tokens) > 1 for tokens in seen.values())


@pytest.mark.parametrize("plm", ["mlm_roberta", "span_t5"])
@pytest.mark.parametrize("name", ["KronA", "LoRA", "BitFit", "HeadOnly", "FullFineTuning", "LiST", "AdaMix"])
def test_every_method_is_trained_by_prompts(plm, name, request, tmp_path, lm_bff):
    method = METHODS[name]()
    if (plm, name) == ("span_t5", "HeadOnly"):
        method = HeadOnly(trains=("layer_norm",))  # a T5 has no head
    data = FewShot("mnli", path=str(lm_bff), k=4)
    module = build(request, plm, "mnli", method, demonstrations=True, num_demonstrations=2, consistency=1.0)
    module.configure_model()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer = fit(module, data, tmp_path, max_epochs=2, limit_val_batches=1)
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert moved <= trained
    assert len(moved) > 0.8 * len(trained)  # of a pass that drew few experts, some may rest
    if method.trains != ("all",):
        assert not module.model.get_output_embeddings().weight.requires_grad
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = build(request, plm, "mnli", method, demonstrations=True, num_demonstrations=2)
    (scores,) = trainer.test(again, data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert scores == trainer.test(module, data, verbose=False)[0]


def test_prompts_learn_what_can_be_learned(request, tmp_path, glue):
    data = GLUE("sst2", path=str(glue), batch_size=16, max_train_samples=40)
    module = PromptClassification(
        str(request.getfixturevalue("mlm_roberta")), FullFineTuning(), GLUE_TASKS["sst2"], lr=1e-3
    )
    losses = Losses()
    fit(module, data, tmp_path, losses, max_epochs=15, enable_checkpointing=False, limit_val_batches=0)
    assert losses.values[-1][-1] < 0.7 * math.log(2)


@pytest.mark.parametrize("task", ["movie_reviews", "mr", "rte"])
@pytest.mark.parametrize("demonstrations", ["false", "true"])
def test_zero_shot_is_test_without_a_checkpoint(task, demonstrations, mlm_roberta, monkeypatch, capsys, lm_bff):
    data = ["MovieReviews"] if task == "movie_reviews" else ["FewShot", "--data.task", task, "--data.path", str(lm_bff)]
    words = ["kronlit", "test", "--model", "PromptClassification", "--model.plm", str(mlm_roberta)]
    words += ["--model.method", "HeadOnly", "--model.demonstrations", demonstrations, "--data", *data]
    words += ["--model.num_demonstrations", "2", "--trainer.accelerator", "cpu", "--trainer.limit_test_batches", "1"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    out = capsys.readouterr()
    assert "no --ckpt_path: this is the model as it comes" in out.err
    assert "test/accuracy" in out.out


@pytest.mark.parametrize("protocol", ["lm_bff", "true_few_shot"])
def test_test_after_fit_tests_the_protocols_weights(protocol, mlm_roberta, monkeypatch, capsys, lm_bff, tmp_path):
    words = ["kronlit", "fit", "--model", "PromptClassification", "--model.plm", str(mlm_roberta)]
    words += ["--model.method", "KronA", "--data", "FewShot", "--data.task", "cr", "--data.path", str(lm_bff)]
    words += ["--data.protocol", protocol, "--data.k", "4", "--trainer.max_epochs", "2", "--test_after_fit", "true"]
    monkeypatch.setattr(sys, "argv", [*words, "--trainer.accelerator", "cpu", "--run_dir", "run"])
    main()
    said = capsys.readouterr().out
    assert ("testing the last weights" in said) == (protocol == "true_few_shot")
    assert "test/accuracy" in said
    assert (tmp_path / "run/version_0/checkpoints/last.ckpt").exists()
    assert bool(list((tmp_path / "run/version_0/checkpoints").glob("best*"))) == (protocol == "lm_bff")


def test_predict_writes_what_the_plain_model_says_of_ones_own_rows(
    mlm_roberta, request, monkeypatch, capsys, lm_bff, tmp_path
):
    mine, out = tmp_path / "mine.csv", tmp_path / "out.jsonl"
    mine.write_text("text\nThe film was good\nA dog ran\n")
    words = ["kronlit", "predict", "--model", "PromptClassification", "--model.plm", str(mlm_roberta)]
    words += ["--model.method", "HeadOnly", "--data", "FewShot", "--data.task", "sst2", "--data.path", str(lm_bff)]
    words += ["--data.predict_file", str(mine), "--predictions", str(out), "--trainer.accelerator", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert f"2 predictions in {out}" in capsys.readouterr().out
    lines = [json.loads(line) for line in out.open()]
    assert [line["text"] for line in lines] == ["The film was good", "A dog ran"]
    tokenizer = AutoTokenizer.from_pretrained(mlm_roberta)
    ids = [tokenizer(f"<s>{line['text']} It was<mask>.</s>")["input_ids"] for line in lines]
    expected = plain_scores(request, "mlm_roberta", ids, tokenizer.convert_tokens_to_ids(["Ġterrible", "Ġgreat"]))
    found = torch.tensor([[line["scores"]["negative"], line["scores"]["positive"]] for line in lines])
    torch.testing.assert_close(found, expected.softmax(-1))
    assert [line["label"] for line in lines] == [["negative", "positive"][i] for i in expected.argmax(-1)]
