"""`kronlit merge`: writes a run or an adapter as a plain Transformers model."""

from typing import Literal

import torch
from transformers import PreTrainedModel

from kronlit.adapters import collapse, dequantise, merge
from kronlit.config.user_error import UserError
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.probe import compare_models, describe_difference
from kronlit.exchange.trained import open_trained
from kronlit.modules.quantisation import Quantisation, Quantization

Dtype = Literal["float32", "bfloat16", "float16"]


def merge_run(ckpt_path: str, output: str, dtype: Dtype = "float32", requantized: Quantization = "none") -> None:
    """Write a folder that Transformers opens by itself, and print how far its logits are from those before merging.

    The sums are in float32, even if the run kept its frozen weights in 16 bits. Quantised weights are dequantised
    first, and what is printed is the difference from the quantised model. Each mixture becomes its mean. If a model
    does not accept made-up rows, the folder is written, and a message says that nothing was compared.

    Args:
        ckpt_path: a checkpoint in a run's folder, the folder, or an adapter's folder.
        output: the folder to write.
        dtype: the type of the weights that are written.
        requantized: how far the logits are when the folder is quantised so again is printed, too.

    Raises:
        UserError: if there is no such checkpoint or adapter, `output` exists, what was added cannot be merged, or
            merging makes another model; then nothing is written.
    """
    check_new(output)
    trained = open_trained(ckpt_path)
    model = trained.model
    collapse(model)
    before = exact = trained.logits(model)
    if quantised := trained.quantization != "none":
        dequantise(model)
        exact = trained.logits(model)
    try:
        merge(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"{error} `kronlit export` writes it as an adapter.") from error
    lines = []
    if quantised or dtype != "float32":
        lines.append(compare_models(exact, trained.logits(model)))
        model.to(getattr(torch, dtype))
    if trained.is_regression:
        model.config.problem_type = "regression"  # a pipeline then gives the number, not its sigmoid
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        trained.save_reader(folder)
        name = auto_class(model)
        opening = f'from transformers import {name}\n\nmodel = {name}.from_pretrained("…")  # this folder'
        (folder / "README.md").write_text(trained.card("transformers", opening), encoding="utf-8")
        # Load the files with Transformers only, as a user of the folder will.
        opened = type(model).from_pretrained(folder).eval()
        after = trained.logits(opened)
        if lines:
            over = f"Against the model over {trained.quantization}" if quantised else f"Written in {dtype}"
            lines.append(describe_difference(before, after, over))
        else:
            lines.append(compare_models(before, after))
        if requantized != "none":
            Quantisation(requantized).apply(opened)
            again = describe_difference(before, trained.logits(opened), f"Quantised again as {requantized}")
            lines.append(again)
    print(f"{trained.source}: merged {trained.what()} in {dtype} into {output}, a {type(model).__name__}.")
    print("\n".join(lines))


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
