"""A run that stands right after a command, as in `kronlit merge runs/mine`."""

from kronlit.config.mistakes import one_line
from kronlit.config.user_error import UserError
from kronlit.config.words import values_of

OF_A_RUN = ("validate", "test", "predict", "generate", "merge", "export")
"""The commands that use a run."""


def with_ckpt_path(words: list[str]) -> list[str]:
    """The words of a command line, in which a run that stands right after its command is that of `--ckpt_path`."""
    if words[0] not in OF_A_RUN or not words[1:] or words[1].startswith("-"):
        return words
    with one_line():
        if other := values_of(words, "--ckpt_path"):
            raise UserError(
                f"the run is given twice, {words[1]!r} and `ckpt_path`={other[-1]!r}: leave one of them out."
            )
    return [words[0], "--ckpt_path", *words[1:]]
