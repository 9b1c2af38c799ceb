"""PEFT's forms for structured matrices, each of which gives exactly the same map: a file each, and a line here."""

from kronlit.config.user_error import UserError
from kronlit.exchange.peft.c3a import C3A
from kronlit.exchange.peft.change import Change, Written
from kronlit.exchange.peft.hira import HIRA
from kronlit.exchange.peft.lokr import LOKR
from kronlit.exchange.peft.lora import LORA
from kronlit.exchange.peft.oft import OFT

FORMS = {form.kind: form for form in (LOKR, C3A, LORA, HIRA, OFT)}
"""The forms by PEFT's `peft_type`, in the order in which they are tried."""


def form_of(changes: dict[str, Change]) -> Written:
    """The first form that gives exactly the same map.

    Raises:
        ValueError: if there is none, with the reasons.
    """
    reasons = []
    for form in FORMS.values():
        try:
            if (written := form.write(changes)) is not None:
                config, tensors, why = written
                return {"peft_type": form.kind} | config, tensors, why
        except ValueError as error:
            reasons.append(f"no {form.name}: {error}")
    if not reasons:
        name, change = next(iter(changes.items()))
        kinds = f"the {change.placement.__name__} of a {type(change.matrix).__name__} at {name}"
        reasons = [f"none of its adapters is like {kinds}"]
    raise UserError(f"PEFT has no form that is the same map; {'; '.join(reasons)}.")
