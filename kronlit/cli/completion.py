"""`kronlit completion`: a script for the shell, which completes commands, options and names by itself, at once.

The names are written into the script, so that a press of the tab key starts no Python.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from typing import Literal

from docstring_parser import parse

from kronlit.cli.short_help import OPTIONS, class_docstrings, public_classes
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser
from kronlit.config.shipped import shipped_names

TRAINER = ("fit", "validate", "test", "predict")
Run = Callable[[list[str]], None]

LIKE_FIT = (*TRAINER, "rows", "memory", "tune", "submit")
"""The commands that take the options of a fit."""

BASH = r"""# kronlit completion bash
_kronlit() {
  local now=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=
  if [ "$COMP_CWORD" = 1 ]; then
    words="%(commands)s"
  else
    case $before in
      --model) words="%(modules)s" ;;
      --model.method) words="%(methods)s" ;;
      --method) words="%(methods)s" ;;
      --data) words="%(data)s" ;;
      --config|-c) words="%(configs)s" ;;
      *) case ${COMP_WORDS[1]} in
%(cases)s
      esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$now"))
  [ "${now#-}" = "$now" ] && [ "$COMP_CWORD" != 1 ] && {  # no mapfile, which zsh and the bash of macOS lack
    local file; while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$now"); }
}
complete -o filenames -F _kronlit kronlit
"""


def completion_command(words: list[str], commands: Iterable[str], run_command: Run) -> None:
    """Run the words after `kronlit completion`.

    Args:
        words: the words.
        commands: the names of all commands.
        run_command: runs the words after `kronlit`.
    """
    parser = Parser(
        prog="kronlit completion",
        description="Print a script that completes commands, options, methods, jobs, data and configs. For this shell: "
        "`source <(kronlit completion bash)`; for all later ones, put what it prints where your shell looks, such as "
        "~/.local/share/bash-completion/completions/kronlit.",
    )
    parser.add_argument("shell", type=Literal["bash", "zsh"], help="The shell.")
    with one_line():
        shell = parser.parse_args(words).shell
        if shell == "zsh":
            print("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit")
        print(script(commands, run_command), end="")


def script(commands: Iterable[str], run_command: Run) -> str:
    """The script."""
    fit = fit_options()
    options = {name: fit if name in TRAINER else own_options(name, run_command) for name in commands}
    options |= {name: {*options[name], *fit} for name in LIKE_FIT}
    return BASH % {
        "commands": " ".join(commands),
        **{room: " ".join(public_classes(room)) for room in ("modules", "methods", "data")},
        "configs": " ".join(shipped_names()),
        "cases": "\n".join(f'        {name}) words="{" ".join(sorted(found))}" ;;' for name, found in options.items()),
    }


def fit_options() -> set[str]:
    """The options of `kronlit fit` without those that few set: what its help shows, and what its classes take."""
    found = {option.split()[0] for option in OPTIONS}
    for prefix, room in {"model": "modules", "model.method": "methods", "data": "data"}.items():
        for text in class_docstrings(room).values():
            found |= {f"--{prefix}.{one.arg_name}" for one in parse(text).params if not one.arg_name.startswith("*")}
    return found - {"--model.method.**kwargs"}


def own_options(command: str, run_command: Run) -> set[str]:
    """The options that the help of a command shows."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run_command([command, "--help"])
    return set(re.findall(r"(?<=\s|\[)--[\w.]+", out.getvalue())) - {"--OPTION"}  # which stands for any in a usage
