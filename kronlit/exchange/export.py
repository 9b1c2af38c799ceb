"""`kronlit export`: writes what a run trained to a small folder, for kronlit or for PEFT."""

import json
from pathlib import Path
from typing import Literal

from kronlit.adapters import collapse, parameter_counts
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import config_of, with_one_expert, write_adapter
from kronlit.exchange.merge import auto_class, describe_run, write_reader
from kronlit.exchange.model_card import model_card
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.peft import write as peft
from kronlit.exchange.saved_run import SavedRun, saved_run
from kronlit.modules import FrozenPLM, PromptClassification
from kronlit.modules.plm import at_revision, load_config

Format = Literal["kronlit", "peft", "auto"]


def export_run(ckpt_path: str, output: str, format: Format = "auto") -> None:
    """Write what a run trained, and print in which format and why. Each mixture becomes its mean first.

    Raises:
        ValueError: if there is no such checkpoint, `output` exists, or PEFT has no form for exactly the same map.
    """
    check_new(output)
    run = saved_run(ckpt_path)
    module = run.module()
    assert module.model is not None
    collapse(module.model)
    why = "kronlit's own format, as asked for"
    adapter = None
    if format != "kronlit":
        try:
            adapter = peft.to_peft(module.model, module.plm)
        except ValueError as error:
            if format == "peft":
                raise UserError(f"{error} `--format kronlit` takes every method.") from error
            why = f"kronlit's own format: {error}"
    with new_folder(output) as folder:
        if adapter is None:
            write_own(folder, run, module)
        else:
            write_peft(folder, run, module, adapter)
            why = f"PEFT: {adapter.why}"
        write_reader(module, folder)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{run.checkpoint}: wrote {describe_run(module)} to {output}, {size:,} bytes of tensors.")
    print(why)


def write_own(folder: Path, run: SavedRun, module: FrozenPLM) -> None:
    """Write kronlit's own files."""
    assert module.model is not None
    method, parameters = with_one_expert(module.method), parameter_counts(module.model)[1]
    words = module.words if isinstance(module, PromptClassification) else None
    named = module.task.name, parameters, module.task.labels, words
    write_adapter(folder, module.model, config_of(module.model, method, module.plm, *named))
    module_name = type(method).__module__
    own = "" if module_name.startswith("kronlit.") else f"import {module_name}  # has {type(method).__name__}\n"
    opening = f'import kronlit\n{own}\nmodel = kronlit.load("…"{over(module)})  # this folder, or its id on the hub'
    (folder / "README.md").write_text(model_card(run, module, "kronlit", opening), encoding="utf-8")


def over(module: FrozenPLM) -> str:
    """The arguments of `kronlit.load` that quantise the frozen weights as they were in training."""
    double = ", double_quantization=True" if module.double_quantization else ""
    return "" if module.quantization == "none" else f', quantization="{module.quantization}"{double}'


def write_peft(folder: Path, run: SavedRun, module: FrozenPLM, adapter: peft.PeftAdapter) -> None:
    """Write PEFT's files."""
    assert module.model is not None
    adapter.write(folder, module.task.labels)
    kind = auto_class(module.model)
    # The base model's files may have a head of another size, and the adapter brings its own.
    labels = f", num_labels={module.task.num_labels}, ignore_mismatched_sizes=True" if "Classification" in kind else ""
    pad, theirs = (getattr(one, "pad_token_id", None) for one in (module.model.config, load_config(module.plm)))
    if pad != theirs:
        labels += f", pad_token_id={pad}"
    name, revision = at_revision(module.plm)
    if revision:
        labels += f", revision={json.dumps(revision)}"
    opening = (
        f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
        f"base = {kind}.from_pretrained({json.dumps(name, ensure_ascii=False)}{labels})\n"
        'model = PeftModel.from_pretrained(base, "…")  # this folder'
    )
    (folder / "README.md").write_text(model_card(run, module, "peft", opening), encoding="utf-8")
