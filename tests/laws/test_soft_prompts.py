"""Soft prompts: the gradient of the prompt is that of the embeddings before the input."""

import torch
from transformers import AutoModelForSeq2SeqLM

import kronlit
from kronlit import PromptTuning


def test_a_prompts_gradient_is_that_of_transformers_for_embeddings_before_the_input(tiny_t5):
    ids, labels = torch.arange(3, 15).view(2, 6), torch.arange(5, 9).view(2, 2)
    plain = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).eval()
    prompt = plain.get_input_embeddings().weight[:4].detach().clone().requires_grad_()
    embeddings = torch.cat((prompt.expand(2, -1, -1), plain.get_input_embeddings()(ids)), 1)
    theirs = plain(inputs_embeds=embeddings, attention_mask=torch.ones(2, 10), labels=labels).loss
    (expected,) = torch.autograd.grad(theirs, prompt)
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).eval()
    kronlit.inject(model, PromptTuning(num_tokens=4))
    ours = model(input_ids=ids, attention_mask=torch.ones(2, 6), labels=labels).loss
    ours.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(model.encoder.prompt.grad, expected)
    assert expected.abs().max() > 1e-6
