"""`kronlit merge`: writes a run or an adapter as a plain Transformers model."""

from transformers import PreTrainedModel

from kronlit.adapters import collapse, merge
from kronlit.config.user_error import UserError
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.probe import compare_models
from kronlit.exchange.trained import open_trained


def merge_run(ckpt_path: str, output: str) -> None:
    """Write a folder that Transformers opens by itself, and print how far its logits are from those before merging.

    Everything is in float32, even if the run kept its frozen weights in 16 bits. Each mixture becomes its mean first.
    If a model does not accept made-up rows, the folder is written, and a message says that nothing was compared.

    Raises:
        UserError: if there is no such checkpoint or adapter, `output` exists, what was added cannot be merged, or
            merging makes another model; then nothing is written.
    """
    check_new(output)
    trained = open_trained(ckpt_path)
    model = trained.model
    collapse(model)
    before = trained.logits(model)
    try:
        merge(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"{error} `kronlit export` writes it as an adapter.") from error
    if trained.is_regression:
        model.config.problem_type = "regression"  # a pipeline then gives the number, not its sigmoid
    with new_folder(output) as folder:
        model.save_pretrained(folder)
        trained.save_reader(folder)
        name = auto_class(model)
        opening = f'from transformers import {name}\n\nmodel = {name}.from_pretrained("…")  # this folder'
        (folder / "README.md").write_text(trained.card("transformers", opening), encoding="utf-8")
        # Load the files with Transformers only, as a user of the folder will.
        check = compare_models(before, trained.logits(type(model).from_pretrained(folder).eval()))
    print(f"{trained.source}: merged {trained.what()} in float32 into {output}, a {type(model).__name__}.")
    print(check)


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
