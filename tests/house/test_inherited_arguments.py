"""Arguments are written once, in the class that needs them: help, types and checks follow `**kwargs` to it."""

import inspect

import pytest
from jsonargparse import ArgumentParser
from jsonargparse._parameter_resolvers import get_signature_parameters

from kronlit import KronA
from kronlit.config.explain import subclasses
from kronlit.config.signatures import parameters
from kronlit.data import (
    GLUE,
    ChoiceFiles,
    FewShot,
    Images,
    InstructionFiles,
    MovieReviews,
    QuestionFiles,
    TaskData,
    TextFiles,
    TextPairs,
    TokenFiles,
)
from kronlit.data.tasks import GLUE_TASKS
from kronlit.methods import Method
from kronlit.modules import CausalLM, FrozenPLM, ImageClassification, SequenceClassification

KINDS = [
    kind
    for base in (FrozenPLM, TaskData, Method)
    for kind in subclasses(base)
    if kind.__module__.startswith("kronlit.")  # none of other tests
]
GIVEN = {
    FewShot: {"max_train_samples", "sample_seed", "max_tokens"},
    Images: {"max_tokens", "task"},
    **{kind: {"task"} for kind in (ChoiceFiles, InstructionFiles, QuestionFiles, TextFiles, TextPairs, TokenFiles)},
    MovieReviews: {"task"},
}
"""What a class sets in the constructor that it inherits."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_argument_has_a_type_and_a_line_of_help(kind):
    parser = ArgumentParser()
    arguments = parser.add_class_arguments(kind, fail_untyped=True)
    lines = {action.dest: action.help for action in parser._actions}
    assert [name for name in arguments if not lines[name]] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_a_class_can_be_made_with_is_what_its_parser_takes(kind):
    taken = {one.name: one.default for one in get_signature_parameters(kind)}
    found = {name: one.default for name, one in parameters(kind).items()}
    assert {name: found[name] for name in taken} == taken
    assert found.keys() - taken.keys() == GIVEN.get(kind, set())


def test_defaults_of_ones_own_stand_before_those_that_are_inherited():
    length = {kind.__name__: parameters(kind)["max_length"].default for kind in (SequenceClassification, CausalLM)}
    assert length == {"SequenceClassification": 128, "CausalLM": 512}
    assert "max_length" not in parameters(ImageClassification)


@pytest.mark.parametrize("kind", [SequenceClassification, CausalLM])
def test_an_argument_that_no_class_has_is_refused_by_its_name(kind):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'max_lenght'$"):
        kind("x", KronA(), GLUE_TASKS["rte"], max_lenght=64)


@pytest.mark.parametrize(("kind", "name"), [(GLUE, "batchsize"), (FewShot, "max_train_samples")])
def test_data_refuse_an_argument_that_they_have_not(kind, name):
    with pytest.raises(TypeError, match=rf"keyword argument '{name}'$"):
        kind("rte", **{name: 8})


def test_numbers_without_a_name_are_refused_where_a_class_in_between_has_more_arguments():
    with pytest.raises(TypeError, match="positional argument"):
        SequenceClassification("x", KronA(), GLUE_TASKS["rte"], 1e-3, 0.0, 0.0, 64)
    with pytest.raises(TypeError, match="positional argument"):
        GLUE("rte", None, "official", 42, 32)


class OwnGLUE(GLUE):
    """With an argument of its own."""

    def __init__(self, own: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.own = own


class OwnFiles(TextFiles):
    """With an argument of its own."""

    def __init__(self, own: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.own = own


def test_a_data_module_of_ones_own_keeps_how_its_rows_were_drawn():
    assert OwnGLUE(task="rte", splits="mahabadi", split_seed=3).draws() == {"split_seed": 3, "splits": "mahabadi"}


def test_the_signature_of_ones_own_goes_on_in_what_it_inherits():
    assert list(inspect.signature(OwnFiles).parameters) == ["own", "kwargs"]
    assert list(parameters(OwnFiles))[:2] == ["own", "train"]
    assert parameters(OwnFiles)["columns"].default == ("text",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.warmp", "3"], "'warmp'; did you mean 'warmup'?"),
        (["--data.max_token", "3"], "'max_token'; did you mean 'max_tokens'?"),
        (["--data.num_workers", "many"], "data.num_workers='many' must be of type int."),
        (["--model.warmup", "null"], "`model.warmup`=null must be of type float: leave it out for 0.0."),
        (["--data.sample_seed", "null"], "`data.sample_seed`=null must be of type int: leave it out for 42."),
    ],
    ids=lambda case: case if isinstance(case, str) else case[0],
)
def test_a_mistake_in_an_inherited_argument_is_one_line(kronlit, config, words, said):
    code, _, err = kronlit("fit", "--config", config, *words)
    assert code == 2
    assert err.splitlines()[-1].endswith(said)
