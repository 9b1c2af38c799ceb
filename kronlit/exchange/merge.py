"""`kronlit merge`: writes a run as a plain Transformers model."""

from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from kronlit.adapters import collapse, dequantise, merge
from kronlit.config.user_error import UserError
from kronlit.exchange.model_card import model_card
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.probe import compare_models, describe_difference, logits
from kronlit.exchange.saved_run import saved_run
from kronlit.modules import CausalLM, FrozenPLM, ImageClassification
from kronlit.modules.quantisation import Quantisation, Quantization
from kronlit.modules.text import TextModule

Dtype = Literal["float32", "bfloat16", "float16"]


def merge_run(ckpt_path: str, output: str, dtype: Dtype = "float32", requantized: Quantization = "none") -> None:
    """Write a folder that Transformers opens by itself, and print how far its logits are from those before merging.

    The sums are in float32, even if the run kept its frozen weights in 16 bits. Quantised weights are dequantised
    first, and what is printed is the difference from the quantised model. Each mixture becomes its mean. If a model
    does not accept made-up rows, the folder is written, and a message says that nothing was compared.

    Args:
        ckpt_path: a checkpoint in a run's folder, or the folder.
        output: the folder to write.
        dtype: the type of the weights that are written.
        requantized: how far the logits are when the folder is quantised so again is printed, too.

    Raises:
        UserError: if there is no such checkpoint, `output` exists, what was added cannot be merged, or merging makes
            another model; then nothing is written.
    """
    check_new(output)
    run = saved_run(ckpt_path)
    module = run.module()
    model = module.model
    assert model is not None
    collapse(model)
    before = exact = logits(module, model)
    if quantised := module.quantization != "none":
        dequantise(model)
        exact = logits(module, model)
    try:
        merge(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"{error} `kronlit export` writes it as an adapter.") from error
    lines = []
    if quantised or dtype != "float32":
        lines.append(compare_models(exact, logits(module, model)))
        model.to(getattr(torch, dtype))
    if module.task.is_regression:
        model.config.problem_type = "regression"  # a pipeline then gives the number, not its sigmoid
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        write_reader(module, folder)
        name = auto_class(model)
        opening = f'from transformers import {name}\n\nmodel = {name}.from_pretrained("…")  # this folder'
        (folder / "README.md").write_text(model_card(run, module, "transformers", opening), encoding="utf-8")
        # Load the files with Transformers only, as a user of the folder will.
        opened = type(model).from_pretrained(folder).eval()
        after = logits(module, opened)
        if lines:
            over = f"Against the model over {module.quantization}" if quantised else f"Written in {dtype}"
            lines.append(describe_difference(before, after, over))
        else:
            lines.append(compare_models(before, after))
        if requantized != "none":
            Quantisation(requantized).apply(opened)
            again = describe_difference(before, logits(module, opened), f"Quantised again as {requantized}")
            lines.append(again)
    print(f"{run.checkpoint}: merged {describe_run(module)} in {dtype} into {output}, a {type(model).__name__}.")
    print("\n".join(lines))


def write_reader(module: FrozenPLM, folder: Path) -> None:
    """Write the tokenizer, or the image processor, which reads as in training."""
    if isinstance(module, TextModule):
        if not isinstance(module, CausalLM):  # a causal model writes beyond the length that it reads
            module.tokenizer.model_max_length = module.max_length  # so that texts are cut as in training
        module.tokenizer.save_pretrained(folder)
    elif isinstance(module, ImageClassification):
        module.reader.processor.save_pretrained(folder)


def describe_run(module: FrozenPLM) -> str:
    """Method, model and task in a few words."""
    return f"{type(module.method).__name__} on {module.plm} for {module.task.name}"


def auto_class(model: PreTrainedModel) -> str:
    """The name of Transformers' auto class for models of this kind."""
    name = type(model).__name__
    kinds = {"ForSequenceClassification": "", "ForImageClassification": "", "ForMaskedLM": ""}
    kinds |= {"ForTokenClassification": "", "ForQuestionAnswering": "", "ForMultipleChoice": ""}
    kinds |= {"ForConditionalGeneration": "ForSeq2SeqLM", "LMHeadModel": "ForCausalLM", "ForCausalLM": ""}
    for end, auto in kinds.items():
        if name.endswith(end):
            return f"AutoModel{auto or end}"
    return name
