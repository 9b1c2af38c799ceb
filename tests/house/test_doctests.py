"""The examples in the docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import kronlit

MODULES = [module.name for module in pkgutil.walk_packages(kronlit.__path__, "kronlit.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples_and_they_are_run():
    modules = (importlib.import_module(f"kronlit.{name}") for name in ("structured.kronecker", "methods.base"))
    assert all(doctest.testmod(module).attempted for module in modules)
