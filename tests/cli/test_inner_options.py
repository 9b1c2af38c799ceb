"""What is given to a method on the command line means what it means in a YAML."""

import pytest
import yaml

VALUES = [
    r"['.*\.q_proj']",
    r"""[".*\\.q_proj", 'it''s', "\"\\d'"]""",
    r"['\w+\\\d', é, '\n', '[a]', \d]",
    r"[.*\.v_proj]",
    r'[".*\\.(q|v)_proj$"]',
]


def method(kronlit, *words):
    code, out, err = kronlit("fit", *words, "--print_config")
    assert code == 0, err
    return yaml.safe_load(out)["model"]["init_args"]["method"]["init_args"]


@pytest.mark.parametrize("value", VALUES)
def test_a_list_with_backslashes_is_read_as_in_a_yaml(kronlit, config, value):
    there = method(kronlit, "--config", config, "--model.method.sites", value)["sites"]
    assert there == yaml.safe_load(value)


def test_null_is_null(kronlit, config):
    words = ["--config", config, "--model.method.a_shape", "[4, 12]"]
    assert method(kronlit, *words)["a_shape"] == [4, 12]
    assert method(kronlit, *words, "--model.method.a_shape", "null")["a_shape"] is None


def test_a_method_as_a_dictionary(kronlit, config):
    value = r"{class_path: LoRA, init_args: {sites: ['.*\.key'], rank: 2}}"
    there = method(kronlit, "--config", config, "--model.method", value)
    assert (there["sites"], there["rank"], there["alpha"]) == ([r".*\.key"], 2, None)


def test_the_way_to_a_model_that_is_not_listed_trains(kronlit, config):
    words = ["--model.method.sites", r"['.*layer\.0\..*\.query']", "--trainer.fast_dev_run", "true"]
    code, out, err = kronlit("fit", "--config", config, *words)
    assert code == 0, err
    (total,) = [line.split() for line in out.splitlines() if line.startswith("all, over a model of 47,906")]
    assert total[-2] == str(6 * 8 + 8 * 6 + 2 * 48 + 2)  # one pair of factors, and the head
