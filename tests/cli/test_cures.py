"""Each message names the argument that was given, and a cure that works."""

import re
import shlex

import pytest
import yaml

from kronlit.data.tasks import GENERATION_TASKS, GLUE_TASKS, SUPER_GLUE_DIAGNOSTICS, SUPER_GLUE_TASKS
from kronlit.methods import HeadOnly
from kronlit.modules import CausalLM, SequenceClassification, TextToText
from kronlit.training.checkpoint import AtomicCheckpoint

JOBS = {"SequenceClassification": SequenceClassification, "TextToText": TextToText, "CausalLM": CausalLM}
SUITES = (GLUE_TASKS, SUPER_GLUE_TASKS, SUPER_GLUE_DIAGNOSTICS, GENERATION_TASKS)


def refusal(job, task):
    """What a job says of a task that it does not take."""
    room = {"max_length": 64, "max_new_tokens": 10} if job == "CausalLM" else {}
    try:
        module = JOBS[job]("none", HeadOnly(), task, **room)
        if job == "SequenceClassification":
            module.task.classifier_segments()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("task", [task for suite in SUITES for task in suite.values()], ids=lambda t: t.name)
def test_a_job_that_refuses_a_task_names_one_that_takes_it(job, task):
    if said := refusal(job, task):
        cures = re.findall(r"`(\w+)`", said.split("use ")[1].split(", not")[0])
        assert cures
        assert not any(refusal(cure, task) for cure in cures)


@pytest.fixture
def line(kronlit, config):
    """The one line that a command ends in."""

    def run(*words):
        fit = () if words[0] in ("info", "configs", "study") else ("fit", "--config", config)
        code, _, err = kronlit(*fit, *words)
        assert code == 2, err
        (found,) = [line for line in err.splitlines() if line.startswith("kronlit: ")]
        return found

    return run


@pytest.mark.parametrize("value", ["3", "[3]", "[4,12,2]", "x"])
def test_a_shape_is_shown_as_two_numbers(line, kronlit, config, value):
    said = line("--model.method.a_shape", value)
    shown = re.search(r"one is written '(\[\d+, \d+\])'", said)[1]
    assert kronlit("fit", "--config", config, "--model.method.a_shape", shown, "--print_config")[0] == 0


def test_a_list_of_names_is_shown_with_the_name_that_was_given(line):
    assert "one is written '[query]'" in line("--model.method.sites", "query")


@pytest.mark.parametrize("given", ["[No, Yes]", "[no, yes]", "[1, 2]"])
def test_labels_that_yaml_reads_as_something_else_are_to_be_quoted(line, kronlit, config, tmp_path, given):
    words = ["--data", "TextFiles", "--data.train", tmp_path / "mine.csv", "--data.label", "label", "--data.labels"]
    said = line(*words, given)
    assert "quote them" in said
    shown = re.search(r"one is written '(\[.*\])'\.", said)[1]
    assert all(isinstance(name, str) for name in yaml.safe_load(shown))
    rows = [f"the cat,{name}\n" for name in yaml.safe_load(shown)] * 10
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(rows))
    fast = ["--trainer.fast_dev_run", "true"]
    assert kronlit("fit", "--config", config, *words, shown, *fast)[0] == 0


@pytest.mark.parametrize("option", ["model.max-length", "data.batch-size", "trainer.max-epochs", "run-dir"])
def test_a_hyphen_for_an_underscore_is_found(line, option):
    name = option.split(".")[-1]
    assert f"{name}'; did you mean '{name.replace('-', '_')}'?" in line(f"--{option}", "3")


@pytest.mark.parametrize("words", ["info", "configs copy", "configs check", "study report"])
def test_a_word_that_is_missing_is_no_option(line, words):
    said = line(*words.split())
    command = re.search(r"must be given: kronlit (.*)\.$", said)[1]
    assert "--" not in said
    assert "there is no option" not in line(*shlex.split(command))


@pytest.mark.parametrize("folder", [False, True])
def test_info_names_what_it_was_given(line, tmp_path, folder):
    path = tmp_path if folder else "/nope"
    assert line("info", path).startswith(f"kronlit: `what`='{path}' is neither")


@pytest.mark.parametrize("source", ["/nope", "."])
def test_an_adapter_that_is_not_there_is_named_as_it_was_given(line, source):
    assert line("--init_adapter", source).startswith(f"kronlit: `init_adapter`='{source}' is no ")


@pytest.mark.parametrize("saved", [False, True])
def test_last_goes_on_only_where_something_was_saved(tmp_path, saved, monkeypatch):
    path = tmp_path / "last.ckpt"
    if saved:
        AtomicCheckpoint().save_checkpoint({"state_dict": {}}, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kronlit.training.checkpoint.torch.save", full)
    with pytest.raises(ValueError, match="cannot be written: ") as error:
        AtomicCheckpoint().save_checkpoint({"state_dict": {}}, path)
    assert ("`ckpt_path` last goes on from it" in str(error.value)) == saved
