"""The short help of the trainer's commands names what there is."""

import re

import pytest
import yaml

import kronlit.data
import kronlit.methods
import kronlit.modules
from kronlit.cli.short_help import ABOUT, BASES, OPTIONS, short_help


def words_of(section, text):
    """The names at the begin of the lines of a section."""
    part = next(part for part in text.split("\n\n") if part.startswith(section))
    return {match[1] for line in part.splitlines()[1:] if (match := re.match(r"  ([\w-]\S*)", line))}


@pytest.mark.parametrize(
    ("section", "room"), [("methods", kronlit.methods), ("jobs", kronlit.modules), ("data", kronlit.data)]
)
def test_every_public_class_has_a_line(section, room):
    classes = {name for name in room.__all__ if isinstance(getattr(room, name), type)}
    assert words_of(section, short_help("fit")) == classes - BASES


def test_every_option_is_one_of_fit(kronlit):
    code, out, err = kronlit("fit", "--config", "quickstart", "--ckpt_path", "last", "--print_config")
    assert code == 0, err
    config = yaml.safe_load(out)
    flat = config | {f"{key}.{name}": 1 for key in ("model", "data") for name in config[key]["init_args"]}
    flat |= {f"trainer.{name}": 1 for name in config["trainer"]}
    assert {option.split()[0].removeprefix("--") for option in OPTIONS} - flat.keys() == {"config"}


@pytest.mark.parametrize("command", ABOUT)
def test_it_fits_a_terminal_of_80_columns(kronlit, command):
    code, out, _ = kronlit(command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert f"kronlit {command} --help_all" in out


def test_help_all_is_the_whole_list(kronlit):
    code, out, _ = kronlit("fit", "--help_all")
    assert code == 0
    assert "--trainer.accumulate_grad_batches" in out


def test_configs_alone_lists(kronlit):
    assert kronlit("configs") == kronlit("configs", "list")
