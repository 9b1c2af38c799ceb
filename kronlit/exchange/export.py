"""`kronlit export`: what a run trained, in a small folder, for kronlit or for PEFT."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file

from kronlit.adapters import collapse, parameter_counts
from kronlit.exchange import to_peft as peft
from kronlit.exchange.adapter_folder import config_of, write_adapter
from kronlit.exchange.merge import auto_class, described
from kronlit.exchange.model_card import model_card
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.saved_run import SavedRun, saved_run
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.modules.plm import at_revision

Format = Literal["kronlit", "peft", "auto"]


def export_run(ckpt_path: str, output: str, format: Format = "auto") -> None:
    """Write what a run trained, and say in which form and why. Mixtures become their mean first.

    Raises:
        ValueError: if there is no such checkpoint, `output` exists, or PEFT has no form that is the same map.
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
                raise ValueError(f"{error} `--format kronlit` takes every method.") from error
            why = f"kronlit's own format: {error}"
    with new_folder(output) as folder:
        if adapter is None:
            write_own(folder, run, module)
        else:
            write_peft(folder, run, module, adapter)
            why = f"PEFT: {adapter.why}"
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{run.checkpoint}: wrote {described(module)} to {output}, {size:,} bytes of tensors.")
    print(why)


def write_own(folder: Path, run: SavedRun, module: FrozenPLM) -> None:
    """Write kronlit's own files."""
    assert module.model is not None
    method, parameters = single(module.method), parameter_counts(module.model)[1]
    write_adapter(folder, module.model, config_of(module.model, method, module.plm, module.task.name, parameters))
    opening = 'import kronlit\n\nmodel = kronlit.load("…")  # this folder, or its id on the hub'
    (folder / "README.md").write_text(model_card(run, module, "kronlit", opening), encoding="utf-8")


def write_peft(folder: Path, run: SavedRun, module: FrozenPLM, adapter: peft.PeftAdapter) -> None:
    """Write PEFT's files."""
    assert module.model is not None
    save_file(adapter.tensors, folder / peft.TENSORS, metadata={"format": "pt"})
    (folder / peft.CONFIG).write_text(json.dumps(adapter.config, indent=2) + "\n", encoding="utf-8")
    kind = auto_class(module.model)
    name, revision = at_revision(module.plm)
    at = f', revision="{revision}"' if revision else ""
    labels = f", num_labels={module.task.num_labels}" if "Classification" in kind else ""
    opening = (
        f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
        f'base = {kind}.from_pretrained("{name}"{labels}{at})\n'
        'model = PeftModel.from_pretrained(base, "…")  # this folder'
    )
    (folder / "README.md").write_text(model_card(run, module, "peft", opening), encoding="utf-8")


def single(method: Method) -> Method:
    """`method` with one expert, which is what a collapsed mixture has."""
    if is_dataclass(method) and "num_experts" in {field.name for field in fields(method)}:
        return replace(method, num_experts=1)
    return method
