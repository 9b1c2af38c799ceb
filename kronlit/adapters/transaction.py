"""Changes a model completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from kronlit.adapters.tied_weights import nested_configs

INJECTED = "_kronlit_method"
"""The attribute in which a model remembers the method that was injected."""


@contextmanager
def all_or_nothing(model: nn.Module) -> Iterator[None]:
    """Undo changes to `model` if the body fails: its modules, parameters, configs, and what is trained.

    Values of parameters are not restored, so check everything before you write the first one.
    """
    modules = [(each, dict(vars(each)), dict(each._modules), dict(each._parameters)) for each in model.modules()]
    configs = {
        id(one): (one, dict(vars(one))) for each in model.modules() for one in nested_configs(vars(each).get("config"))
    }
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for module, attributes, children, own in modules:
            restore(vars(module), attributes)
            restore(module._modules, children)
            restore(module._parameters, own)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        for config, said in configs.values():
            restore(vars(config), said)
        raise


def restore(registry: dict[str, Any], before: dict[str, Any]) -> None:
    """Set `registry` back to what it held `before`."""
    registry.clear()
    registry.update(before)
