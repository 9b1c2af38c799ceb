"""Values of a type that an argument does not take are refused before anything is made of them."""

import inspect

import pytest
import yaml
from jsonargparse import Namespace
from jsonargparse._parameter_resolvers import get_signature_parameters

from kronlit.config.argument_types import annotations, check_arguments
from kronlit.config.explain import subclasses
from kronlit.data import TaskData
from kronlit.data.tasks import GLUE_TASKS
from kronlit.exchange.saved_run import module_from_config
from kronlit.methods import Method
from kronlit.modules import FrozenPLM

KINDS = [
    kind
    for base in (FrozenPLM, TaskData, Method)
    for kind in subclasses(base)
    if kind.__module__.startswith("kronlit.")  # none of other tests
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_null_is_taken_exactly_where_a_class_says_so(kind):
    for argument in get_signature_parameters(kind):
        name = argument.name
        if argument.default is inspect.Parameter.empty:
            continue
        if any(word in str(argument.annotation) for word in ("None", "Optional")):
            check_arguments(kind, Namespace({name: None}), "x")
        else:
            with pytest.raises(ValueError, match=rf"`x\.{name}`=null must be of type .*: leave it out for "):
                check_arguments(kind, Namespace({name: None}), "x")


def test_arguments_that_are_handed_on_are_checked_too():
    class Base:
        def __init__(self, size: int = 3) -> None: ...

    class Derived(Base):
        def __init__(self, width: int = 3, **kwargs) -> None: ...

    check_arguments(Derived, Namespace(size=1, width=2), "x")
    with pytest.raises(ValueError, match=r"`x\.size`=null must be of type int: leave it out for 3\."):
        check_arguments(Derived, Namespace(size=None), "x")


WRONG = [
    (["--model.lr", "null"], "`model.lr`=null must be of type float: leave it out for 0.001."),
    (["--model.max_length", "null"], "`model.max_length`=null must be of type int: leave it out for 128."),
    (["--data.batch_size", "null"], "`data.batch_size`=null must be of type int: leave it out for 32."),
    (["--data", "FewShot", "--data.split_seed", "null"], "`data.split_seed`=null must be of type int"),
    (
        ["--model.method.scale", "null"],
        "`model.method.scale`=null must be of type float or 'auto': leave it out for 1.0.",
    ),
    (["--model.method.scale", "1e39"], "`model.method.scale`=1e+39 must be a number that float32 holds, up to 3.4e38."),
    (["--model.method.scale", ".nan"], "`model.method.scale`=nan must be a number that float32 holds"),
    (["--data.batch_size", str(10**21)], f"`data.batch_size`={10**21} must be within 64 bits"),
    (["--data.batch_size", "1e21"], "data.batch_size='1e+21' must be of type int."),
    (["--trainer.max_steps", str(10**21)], f"`trainer.max_steps`={10**21} must be within 64 bits"),
    (["--trainer.num_nodes", "null"], "trainer.num_nodes='null' must be of type int."),
    (["--data.num_workers", "-1"], "`data.num_workers`=-1 must be at least 0."),
    (["--seed_everything", "-3"], "`seed_everything`=-3 must lie between 0 and 2^32 - 1."),
    (["--seed_everything", "4294967296"], "`seed_everything`=4294967296 must lie between 0 and 2^32 - 1."),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=lambda given: " ".join(given) if isinstance(given, list) else "")
def test_the_line_names_argument_value_and_rule(kronlit, config, words, said):
    code, _, err = kronlit("fit", "--config", config, *words)
    assert code == 2
    assert f"kronlit: {said}" in err
    assert "Traceback" not in err


def test_null_in_a_yaml_is_refused_where_a_run_is_opened_again(config):
    content = yaml.safe_load(config.read_text())
    module_from_config(content)
    content["model"]["init_args"]["method"]["init_args"] = {"sites": None}
    with pytest.raises(ValueError, match=r"`model\.method\.sites`=null must be of type tuple\[str, \.\.\.\]"):
        module_from_config(content)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lr": "fast"}, r"lr='fast' must be of type float\."),
        ({"method": {"class_path": "KronB"}}, r"method='KronB' names no class that is known"),
        ({"lr": -1}, r"^`model\.lr`=-1\.0 must be a number from 0 up\.$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("task", [None, GLUE_TASKS["rte"]], ids=["of data", "of a checkpoint"])
def test_a_wrong_argument_in_the_yaml_of_a_run_is_named_where_the_run_is_opened_again(config, arguments, said, task):
    content = yaml.safe_load(config.read_text())
    content["model"]["init_args"] |= arguments
    with pytest.raises(ValueError, match=said):
        module_from_config(content, task)


def test_a_type_that_is_there_for_type_checkers_alone_checks_nothing_and_hides_no_other():
    names = {}
    exec(
        "from __future__ import annotations\n"
        "class Mine:\n"
        "    def __init__(self, width: int = 2, start: ndarray | None = None) -> None: ...\n",
        names,
    )
    hints, defaults = annotations(names["Mine"])
    assert (hints["width"], defaults["width"], "start" in hints) == (int, 2, False)
