"""T5's loss of a row, and how long an answer may be."""

import pytest
import torch
from test_modules import batch_of, build
from transformers import AutoModelForSeq2SeqLM

from kronlit import FullFineTuning
from kronlit.data.tasks import SUPER_GLUE_TASKS
from kronlit.modules import TextToText


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_the_loss_of_a_row_is_that_of_the_row_alone_in_transformers(task, request, glue):
    # Transformers' own is a mean over target tokens; alone, a row has no other's.
    module, data = build(TextToText, request, glue, FullFineTuning(), task)
    module.configure_model()
    module.eval()
    _, batch = batch_of(module, data)
    plain = AutoModelForSeq2SeqLM.from_pretrained(request.getfixturevalue("tiny_t5")).eval()
    expected = []
    for ids, mask, target in zip(batch["input_ids"], batch["attention_mask"], batch["target_ids"], strict=True):
        inputs = {"input_ids": ids[mask > 0][None], "attention_mask": mask[mask > 0][None]}
        expected.append(plain(**inputs, labels=target[target >= 0][None]).loss)
    with torch.no_grad():
        _, losses = module.predictions(batch)
    torch.testing.assert_close(losses, torch.stack(expected).detach())
    assert (batch["target_ids"] >= 0).sum(1).min() > 1


@pytest.mark.parametrize(
    ("task", "longest", "tokens"), [("rte", "1", 8), ("mnli", "2", 8), ("mnli", "0", 8), ("stsb", "5.0", 8)]
)
def test_an_answer_may_have_one_token_more_than_the_longest_label(task, longest, tokens, request, glue):
    module, _ = build(TextToText, request, glue, task=task)
    module.write = lambda texts: [[0] * (tokens if text == longest else 2) for text in texts]
    assert module.answer_length == tokens + 1


def test_every_number_of_one_decimal_is_a_label_of_stsb(request, glue):
    module, _ = build(TextToText, request, glue, task="stsb")
    seen = []
    module.write = lambda texts: seen.extend(texts) or [[0]] * len(texts)
    assert module.answer_length == 2
    assert seen == [f"{whole}.{tenth}" for whole in range(5) for tenth in range(10)] + ["5.0"]


def test_a_free_text_may_have_128_tokens(request):
    # EVAL_MAX_TARGET_LENGTH of Compacter's code
    module = TextToText(str(request.getfixturevalue("tiny_t5")), FullFineTuning(), SUPER_GLUE_TASKS["record"])
    assert module.answer_length == 128
