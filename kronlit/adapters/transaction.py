"""Changes of a model that are made whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

INJECTED = "_kronlit_method"
"""The attribute in which a model remembers what was added to it."""


@contextmanager
def whole_or_not(model: nn.Module) -> Iterator[None]:
    """Put back the modules and parameters of `model`, and which are trained, if what is done within fails."""
    modules = [(module, dict(module._modules), dict(module._parameters)) for module in model.modules()]
    attributes = dict(vars(model))
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for module, children, own in modules:
            restore(module._modules, children)
            restore(module._parameters, own)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        restore(vars(model), attributes)
        raise


def restore(registry: dict, before: dict) -> None:  # type: ignore[type-arg]
    """Make `registry` hold what it held `before`."""
    registry.clear()
    registry.update(before)
