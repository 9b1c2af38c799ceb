"""What data asks of the module that is trained, and whether each of kronlit's modules has it."""

import inspect

import pytest

from kronlit import KronA
from kronlit.config.explain import subclasses
from kronlit.data.tasks import GENERATION_TASKS, GLUE_TASKS, Task
from kronlit.data.trained_module import DemonstrationReader, ImageModule, TextReader
from kronlit.modules import (
    CausalLM,
    FrozenPLM,
    ImageClassification,
    MultipleChoice,
    PromptClassification,
    QuestionAnswering,
    TokenClassification,
)

ASKED = {ImageClassification: ImageModule, PromptClassification: DemonstrationReader}
TASKS = {
    ImageClassification: Task("pets", ("image",), ("cat", "dog")),
    CausalLM: GENERATION_TASKS["e2e"],
    MultipleChoice: Task("quiz", ("question", "choices"), ("0", "1"), jobs=("MultipleChoice",)),
    QuestionAnswering: Task(
        "quiz", ("question", "context"), (), ("answer_f1",), free_text=True, jobs=("QuestionAnswering",)
    ),
    TokenClassification: Task("names", ("tokens",), ("O", "B-PET"), ("span_f1",), jobs=("TokenClassification",)),
}
KINDS = [kind for kind in subclasses(FrozenPLM) if kind.__module__.startswith("kronlit.")]


def members(protocol):
    """What a protocol asks for, by name; what it only annotates as `None`."""
    found = {}
    for cls in reversed(protocol.__mro__[:-3]):  # not of Protocol, Generic and object
        found |= dict.fromkeys(cls.__annotations__)
        found |= {name: value for name, value in vars(cls).items() if not name.startswith("_")}
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_module_has_what_its_data_asks_for(kind):
    asked = members(ASKED.get(kind, TextReader))
    assert {"collate"} < asked.keys()
    module = kind("nothing-is-loaded", KronA(), TASKS.get(kind, GLUE_TASKS["rte"]))
    assert asked.keys() <= set(dir(module))
    for name, value in asked.items():
        if inspect.isfunction(value):
            assert [*inspect.signature(getattr(kind, name)).parameters] == [*inspect.signature(value).parameters]
