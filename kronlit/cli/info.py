"""`kronlit info`: what a checkpoint, an adapter or a config holds. Its help needs no torch."""

from pathlib import Path
from typing import Any

from kronlit.config.explain import nearest_config
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.shipped import config_path
from kronlit.config.user_error import UserError


def info_command(words: list[str]) -> None:
    """Run the words after `kronlit info`."""
    parser = Parser(prog="kronlit info", description="Say what was, or would be, trained where, and how large it is.")
    parser.add_argument(
        "what",
        type=str,
        help="A checkpoint, the folder of a run, an adapter (kronlit's or PEFT's), a merged model, or a run's YAML.",
    )
    with one_line():
        path = Path(config_path(parser.parse_args(words).what))
        print(describe_path(path))


def describe_path(path: Path) -> str:
    """Describe `path` in lines, followed by a table of what is trained."""
    from kronlit.cli.quiet import quieten

    quieten()
    if path.suffix in (".yaml", ".yml"):
        return describe_config(path)
    if (path / "adapter_config.json").is_file():
        return describe_adapter(path)
    if (path / "config.json").is_file():
        return describe_plain_model(path)
    return describe_run(path)


def describe_config(path: Path) -> str:
    """Describe what a YAML would train. This loads the pre-trained model."""
    from kronlit.adapters import trainable_report
    from kronlit.cli.configs import merged_config
    from kronlit.exchange.saved_run import model_from_config
    from kronlit.methods.written import describe_method

    if not path.is_file():
        raise UserError(f"`what`={str(path)!r} is no file.")
    module = model_from_config(merged_config([str(path)]))
    assert module.model is not None
    lines = {
        "config": path,
        "method": describe_method(module.method),
        "model": f"{module.plm}, a {type(module.model).__name__}",
    }
    return two_columns(lines | {"task": module.task.name}) + "\n\n" + trainable_report(module.model)


def describe_adapter(path: Path) -> str:
    """Describe an adapter's folder that kronlit or PEFT wrote."""
    from kronlit.adapters import shape_table
    from kronlit.exchange.adapter_folder import CONFIG, TENSORS, adapter_config, read_json, read_tensors
    from kronlit.exchange.peft import write as peft
    from kronlit.methods.written import describe_method

    content = read_json(path / CONFIG)
    if "peft_type" in content:
        tensors, total = read_tensors(path / peft.TENSORS), None
        keys = ("target_modules", "modules_to_save", "r", "lora_alpha", "alpha", "block_size")
        lines = {"adapter": f"{path}, of PEFT", "method": content["peft_type"]}
        lines |= {"model": content.get("base_model_name_or_path")} | {key: content.get(key) for key in keys}
    else:
        said = adapter_config(content, str(path / CONFIG))
        tensors, total = read_tensors(path / TENSORS), said.parameters or None
        model = f"{said.plm}, a {said.model_class} with fingerprint {said.fingerprint}"
        lines = {
            "adapter": path,
            "method": describe_method(said.method),
            "model": model,
            "task": said.task,
            "classes": ", ".join(said.labels),
            "kronlit": said.kronlit,
        }
    lines |= {"size": f"{sum(tensor.nbytes for tensor in tensors.values()):,} bytes"}
    return two_columns(lines) + "\n\n" + shape_table([(name, tensor.shape) for name, tensor in tensors.items()], total)


def describe_plain_model(path: Path) -> str:
    """Describe a model as Transformers writes it, such as a merged one."""
    from kronlit.exchange.adapter_folder import read_json, read_tensors

    content = read_json(path / "config.json")
    tensors = [tensor for file in sorted(path.glob("*.safetensors")) for tensor in read_tensors(file).values()]
    if not tensors:
        raise UserError(f"`what`={str(path)!r} has a config.json but no .safetensors file: it is no whole model.")
    names = content.get("id2label") or {}
    lines = {
        "model": f"{path}, a plain {', '.join(content.get('architectures') or ['Transformers model'])}",
        "classes": ", ".join(map(str, names.values())),
        "parameters": f"{sum(tensor.numel() for tensor in tensors):,}",
        "size": f"{sum(tensor.nbytes for tensor in tensors):,} bytes",
    }
    return two_columns(lines)


def describe_run(path: Path) -> str:
    """Describe a checkpoint or the folder of a run."""
    from kronlit.adapters import shape_table
    from kronlit.data.trained_task import task_of
    from kronlit.exchange.saved_run import saved_run
    from kronlit.training.checkpoint import AtomicCheckpoint

    try:
        saved = saved_run(str(path))
    except ValueError as error:
        hint = "" if path.exists() else nearest_config(str(path)).removeprefix(".")
        raise UserError(str(error).replace("`ckpt_path`", "`what`").removesuffix("." * bool(hint)) + hint) from error
    checkpoint = AtomicCheckpoint().load_checkpoint(saved.checkpoint)
    state = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    origin = checkpoint.get("kronlit", {})
    arguments = saved.config.get("model", {}).get("init_args", {})
    data = saved.config.get("data", {})
    scores = ", ".join(f"{name} {value:.4g}" for name, value in saved.summary.get("scores", {}).items())
    lines = {
        "checkpoint": saved.checkpoint,
        "method": origin.get("method"),
        "model": f"{arguments.get('plm')}, {origin.get('plm')}",
        "data": f"{data.get('class_path')}, {data.get('init_args', {}).get('task') or ''}".removesuffix(", "),
        "step": checkpoint.get("global_step"),
        "seed": saved.seed,
        "scores": scores or "none recorded",
        "size": f"{sum(tensor.nbytes for tensor in state.values()):,} bytes",
    }
    if (task := task_of(checkpoint)) is not None:
        lines |= {"columns": ", ".join(task.columns), "classes": ", ".join(task.labels)}
    shapes = [(name, tensor.shape) for name, tensor in state.items()]
    return two_columns(lines) + "\n\n" + shape_table(shapes, saved.summary.get("parameters"))


def two_columns(lines: dict[str, Any]) -> str:
    """Names and values as two columns, without empty values."""
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines.items() if value not in (None, "", [], {}))
