"""`kronlit export`: writes what was trained to a small folder, for kronlit or for PEFT."""

import json
from pathlib import Path
from typing import Literal

from kronlit.adapters import collapse, dequantise
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import with_one_expert, write_adapter
from kronlit.exchange.merge import auto_class
from kronlit.exchange.new_folder import check_new, new_folder
from kronlit.exchange.peft import write as peft
from kronlit.exchange.peft.truncated import put_in, to_lora, truncated_changes
from kronlit.exchange.probe import describe_difference
from kronlit.exchange.trained import Trained, open_trained
from kronlit.modules.plm import at_revision, load_config

Format = Literal["kronlit", "peft", "lora", "auto"]
RANK = 16
"""The rank of a truncated LoRA, if neither a rank nor an error is asked for."""


def export_run(
    ckpt_path: str, output: str, format: Format = "auto", rank: int | None = None, error: float | None = None
) -> None:
    """Write what a run or an adapter trained, and print in which format and why. Each mixture becomes its mean first.

    Raises:
        ValueError: if there is no such checkpoint or adapter, `output` exists, PEFT has no form for exactly the same
            map, or, for `lora`, something does not merge.
    """
    check_new(output)
    check_rank(format, rank, error)
    trained = open_trained(ckpt_path)
    collapse(trained.model)
    if format == "lora":
        export_truncated(trained, output, RANK if rank is None and error is None else rank, error)
        return
    why = "kronlit's own format, as asked for"
    adapter = None
    if format != "kronlit":
        try:
            adapter = peft.to_peft(trained.model, trained.plm)
        except ValueError as reason:
            if format == "peft":
                raise UserError(
                    f"{reason} `--format lora` takes what merges, as the nearest LoRA; `--format kronlit` takes every "
                    "method."
                ) from reason
            why = f"kronlit's own format: {reason}"
    with new_folder(output) as folder:
        if adapter is None:
            write_own(folder, trained)
        else:
            write_peft(folder, trained, adapter)
            why = f"PEFT: {adapter.why}"
        trained.save_reader(folder)
        report(trained, output, folder, why)


def check_rank(format: Format, rank: int | None, error: float | None) -> None:
    """Raise `ValueError` unless rank and error are those of a truncated LoRA, and one of them at most is given."""
    if format != "lora" and (rank is not None or error is not None):
        name, value = ("rank", rank) if rank is not None else ("error", error)
        raise UserError(f"`{name}`={value} is of `--format lora`, and `format`={format!r}: leave out one of them.")
    if rank is not None and error is not None:
        raise UserError(f"`rank`={rank} and `error`={error} both say how much to keep: give one of them.")
    if rank is not None and rank < 1:
        raise UserError(f"`rank`={rank} must be at least 1.")
    if error is not None and not 0 < error < 1:
        raise UserError(f"`error`={error} must be a share of the norm of a change, between 0 and 1, such as 0.05.")


def export_truncated(trained: Trained, output: str, rank: int | None, error: float | None) -> None:
    """Write the nearest LoRA of this rank, or of the least rank with this relative error, and print how near it is."""
    before = trained.logits(trained.model)
    dequantise(trained.model)
    changes = truncated_changes(trained.model, rank, error)
    adapter = to_lora(trained.model, trained.plm, changes)
    put_in(trained.model, changes)
    difference = describe_difference(before, trained.logits(trained.model), "Truncated")
    rows = [f"| {name} | {len(one.a)} | {one.error:.2e} |" for name, one in changes.items()]
    table = "\n".join(["| module | rank | relative error of ΔW |", "|---|---|---|", *rows])
    section = f"## Truncation\n\n{table}\n\n{difference}\n\n"
    with new_folder(output) as folder:
        write_peft(folder, trained, adapter, section)
        trained.save_reader(folder)
        print(table)
        report(trained, output, folder, f"PEFT: {adapter.why}")
    print(difference)


def report(trained: Trained, output: str, folder: Path, why: str) -> None:
    """Print what was written where, and why so."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{trained.source}: wrote {trained.what()} to {output}, {size:,} bytes of tensors.")
    print(why)


def write_own(folder: Path, trained: Trained) -> None:
    """Write kronlit's own files."""
    if trained.method is None:
        raise UserError(f"{str(trained.source)!r} is an adapter of PEFT's, which kronlit reads as it is.")
    method = with_one_expert(trained.method)
    write_adapter(folder, trained.model, trained.adapter_config(method))
    module_name = type(method).__module__
    own = "" if module_name.startswith("kronlit.") else f"import {module_name}  # has {type(method).__name__}\n"
    opening = f'import kronlit\n{own}\nmodel = kronlit.load("…"{trained.over()})  # this folder, or its id on the hub'
    (folder / "README.md").write_text(trained.card("kronlit", opening), encoding="utf-8")


def write_peft(folder: Path, trained: Trained, adapter: peft.PeftAdapter, more: str = "") -> None:
    """Write PEFT's files; `more` is a section of the card."""
    adapter.write(folder, trained.labels)
    kind, config = auto_class(trained.model), trained.model.config
    # The base model's files may have a head of another size, and the adapter brings its own.
    labels = f", num_labels={config.num_labels}, ignore_mismatched_sizes=True" if "Classification" in kind else ""
    pad, theirs = (getattr(one, "pad_token_id", None) for one in (config, load_config(trained.plm)))
    if pad != theirs:
        labels += f", pad_token_id={pad}"
    name, revision = at_revision(trained.plm)
    if revision:
        labels += f", revision={json.dumps(revision)}"
    opening = (
        f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
        f"base = {kind}.from_pretrained({json.dumps(name, ensure_ascii=False)}{labels})\n"
        'model = PeftModel.from_pretrained(base, "…")  # this folder'
    )
    (folder / "README.md").write_text(trained.card("peft", opening, more), encoding="utf-8")
