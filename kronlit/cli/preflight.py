"""What can be known of a model and a method before any weight is read or any row tokenised."""

import torch

from kronlit.config.user_error import UserError, user_errors
from kronlit.methods.base import body
from kronlit.modules import FrozenPLM
from kronlit.modules.recompute import recompute_activations


def check_method(module: FrozenPLM, trains: bool) -> None:
    """Do to a model of `module`'s config, without weights, what is to be done to that with them.

    Nothing is drawn and nothing kept. What cannot be done without weights is left to the time when they are there.

    Args:
        module: whose method is checked, and what else is set of its model.
        trains: whether it is to be trained.

    Raises:
        ValueError: if the method, or what else is set, does not suit the model.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model, _ = module.load()
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
