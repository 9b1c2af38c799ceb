"""`kronlit generate`: what a run's language model writes after a prompt. Its help needs no torch."""

from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.user_error import UserError


def generate_command(words: list[str]) -> None:
    """Run the words after `kronlit generate`."""
    parser = Parser(
        prog="kronlit generate",
        usage="kronlit generate RUN --prompt TEXT [--OPTION VALUE ...]",
        description="Write what the language model of a run (`CausalLM`) says after a prompt, by the search of its "
        "config. What was trained is merged into the weights first, where its method allows that.",
    )
    parser.add_argument(
        "--ckpt_path", type=str, required=True, help="A checkpoint in a run's folder; or the folder, for its best one."
    )
    parser.add_argument(
        "--prompt",
        type=str,
        required=True,
        help="The prompt. For a model of conversations it is what the user says first.",
    )
    parser.add_argument("--system", type=str | None, help="For a model of conversations, what comes before that.")
    parser.add_argument("--max_new_tokens", type=int | None, help="The most tokens; by default those of the config.")
    with one_line():
        config = parser.parse_args(words)
        from kronlit.cli.quiet import quieten

        quieten()
        print(generate(config.ckpt_path, config.prompt, config.system, config.max_new_tokens))


def generate(ckpt_path: str, prompt: str, system: str | None = None, max_new_tokens: int | None = None) -> str:
    """What a run's model writes after a prompt.

    Args:
        ckpt_path: a checkpoint in a run's folder, or the folder.
        prompt: the prompt, or what the user of a conversation says.
        system: what a conversation begins with.
        max_new_tokens: the most tokens; by default those of the run.

    Raises:
        ValueError: if there is no such checkpoint, or its model writes no texts.
    """
    from dataclasses import replace

    import torch

    from kronlit.exchange.merged_prediction import merge_for_prediction
    from kronlit.exchange.saved_run import saved_run
    from kronlit.modules import CausalLM

    module = saved_run(ckpt_path).module()
    if not isinstance(module, CausalLM):
        raise UserError(f"`ckpt_path`={ckpt_path!r} is of a {type(module).__name__}, and only a CausalLM writes texts.")
    column = module.task.columns[0]
    if system is not None and column != "messages":
        raise UserError(f"`system`={system!r} is for a model of conversations, and this one reads a {column}.")
    if max_new_tokens is not None:
        module.decoding = replace(module.decoding, max_new_tokens=max_new_tokens)
        module.decoding.check(module.max_length)
    if not prompt.strip():
        raise UserError("`prompt` is empty: give a text to go on from.")
    row: object = prompt
    if column == "messages":
        first = [] if system is None else [{"role": "system", "content": system}]
        row = [*first, {"role": "user", "content": prompt}]
    assert module.model is not None
    merge_for_prediction(module.model)
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    columns = module.encode({column: [row], "where": ["`prompt`"]})
    batch = module.collate([{"row": 0, "input_ids": columns["input_ids"][0]}])
    with torch.inference_mode():
        return module.texts({name: tensor.to(module.device) for name, tensor in batch.items()})[0]
