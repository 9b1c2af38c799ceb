"""Checks a model and a method before any weight is read and any row is tokenised."""

import torch

from kronlit.config.user_error import UserError, user_errors
from kronlit.methods.base import body
from kronlit.modules import FrozenPLM
from kronlit.modules.recompute import recompute_activations


def check_method(module: FrozenPLM, trains: bool) -> None:
    """Apply the method to a model on the meta device, which has the config of `module`'s model but no weights.

    No random numbers are drawn, and nothing is kept. What needs weights is checked later, when they are loaded.

    Args:
        module: the module whose method and other settings of the model are checked.
        trains: whether the command trains it.

    Raises:
        ValueError: if the method or another setting does not suit the model.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model, drawn = module.load()
            module.quantisation.apply(model, drawn)
            with user_errors():
                module.method.apply(model)
            if module.gradient_checkpointing:
                recompute_activations(model, torch.Generator(device="cpu"))
            headless = body(model) >= {id(parameter) for parameter in model.parameters()}  # else one may be drawn anew
            if trains and headless and not any(parameter.requires_grad for parameter in model.parameters()):
                raise UserError(f"`model.method`={type(module.method).__name__} trains nothing on {module.plm!r}.")
    except UserError:
        raise
    except Exception:  # what cannot be done without weights
        return
