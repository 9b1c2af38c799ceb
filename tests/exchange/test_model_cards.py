"""The Python code in a model card opens the folder that the card is in, as it stands there."""

import re

import pytest
import torch

from kronlit.adapters import collapse
from kronlit.exchange.saved_run import saved_run

# The data have three classes, and the heads in the files of BERT and ViT two and four.
JOBS = {
    "classification": ("tiny_bert", "SequenceClassification", "LoRA", ("GLUE", "glue", {"task": "mnli"}), {"rank": 2}),
    "regression": ("tiny_bert", "SequenceClassification", "LoRA", ("GLUE", "glue", {"task": "stsb"}), {"rank": 2}),
    "no head in the files": ("mlm_bert", "SequenceClassification", "LoRA", ("GLUE", "glue", {"task": "mnli"}), {}),
    "text to text": ("tiny_t5", "TextToText", "LoRA", ("GLUE", "glue", {"task": "mnli"}), {"rank": 2}),
    "language model": ("tiny_gpt2", "CausalLM", "AdaMixLoRA", ("E2E", "e2e", {"task": "e2e"}), {}),
    "prompts": ("mlm_bert", "PromptClassification", "LoRA", ("FewShot", "lm_bff", {"task": "cr"}), {"trains": []}),
    "prompts, T5": ("tiny_t5", "PromptClassification", "LoRA", ("FewShot", "lm_bff", {"task": "cr"}), {}),
    "images": ("tiny_vit", "ImageClassification", "LoRA", ("Images", "images", {"dataset": "mine"}), {"rank": 2}),
}


@pytest.mark.parametrize("form", ["merged", "kronlit", "peft"])
@pytest.mark.parametrize("job", JOBS)
def test_the_code_of_a_card_opens_its_folder(kronlit, run_of, tmp_path, request, job, form):
    plm, model, method, (data, folder, task), arguments = JOBS[job]
    data = {"class_path": data, "init_args": task | {"path": str(request.getfixturevalue(folder))}}
    run, _ = run_of(request.getfixturevalue(plm), method, model, data, **arguments)
    command = ["merge"] if form == "merged" else ["export", "--format", form]
    code, _, err = kronlit(*command, "--ckpt_path", run, "--output", tmp_path / "mine")
    assert code == 0, err
    (lines,) = re.findall(r"```python\n(.*?)```", (tmp_path / "mine/README.md").read_text(), re.DOTALL)
    names = {}
    exec(lines.replace('"…"', repr(str(tmp_path / "mine"))), names)
    ours = saved_run(str(run)).module().model
    collapse(ours)
    torch.testing.assert_close(logits(names["model"]), logits(ours), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def logits(model):
    if model.config.model_type == "vit":
        generator = torch.Generator().manual_seed(1)
        return model.eval()(pixel_values=torch.randn(2, 3, 16, 16, generator=generator)).logits
    ids = torch.randint(4, 24, (3, 12), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    return model.eval()(**inputs).logits
