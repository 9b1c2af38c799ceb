"""`kronlit merge`: writes a run as a plain Transformers model."""

from pathlib import Path

from transformers import PreTrainedModel

from kronlit.adapters import collapse, merge
from kronlit.config.user_error import UserError
from kronlit.exchange.model_card import model_card
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.probe import compare_models, logits
from kronlit.exchange.saved_run import saved_run
from kronlit.modules import CausalLM, FrozenPLM, ImageClassification
from kronlit.modules.text import TextModule


def merge_run(ckpt_path: str, output: str) -> None:
    """Write a folder that Transformers opens by itself, and print how far its logits are from those before merging.

    Everything is in float32, even if the run kept its frozen weights in 16 bits. Each mixture becomes its mean first.
    If a model does not accept made-up rows, the folder is written, and a message says that nothing was compared.

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
    before = logits(module, model)
    try:
        merge(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"{error} `kronlit export` writes it as an adapter.") from error
    if module.task.is_regression:
        model.config.problem_type = "regression"  # a pipeline then gives the number, not its sigmoid
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        write_reader(module, folder)
        name = auto_class(model)
        opening = f'from transformers import {name}\n\nmodel = {name}.from_pretrained("…")  # this folder'
        (folder / "README.md").write_text(model_card(run, module, "transformers", opening), encoding="utf-8")
        # Load the files with Transformers only, as a user of the folder will.
        check = compare_models(before, logits(module, type(model).from_pretrained(folder).eval()))
    print(f"{run.checkpoint}: merged {describe_run(module)} in float32 into {output}, a {type(model).__name__}.")
    print(check)


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
