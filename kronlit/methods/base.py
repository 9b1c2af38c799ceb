"""The base class of methods: what a paper adds to a frozen model, and what else it trains."""

import re
from typing import Literal, TypeVar, get_args

from torch import nn

from kronlit.adapters import Insertion
from kronlit.adapters import inject as insert
from kronlit.adapters.addition import holds_additions
from kronlit.adapters.transaction import INJECTED, all_or_nothing

Group = Literal["head", "layer_norm", "bias", "all"]
Model = TypeVar("Model", bound=nn.Module)


class Method:
    """A way to fine-tune a frozen model: structured matrix x placement x sites, and what else is trained.

    To add one, write a subclass as a frozen dataclass whose `insertions` returns what goes where. The fields are the
    options of the command line, and the docstring is their help.
    """

    trains: tuple[Group, ...] = ()
    """Groups of the model's own parameters that are trained besides what is added; see `group`."""

    def insertions(self) -> list[Insertion]:
        """The placements to insert, and their sites."""
        return []

    def add_to(self, model: nn.Module) -> None:
        """Put into `model` what this method adds."""
        insert(model, self.insertions())

    def apply(self, model: nn.Module) -> None:
        """Freeze `model`, add what this method adds, and unfreeze what else it trains.

        Raises:
            ValueError: if the model already holds adapters, or a site or a shape does not suit it.
        """
        if holds_additions(model):
            raise ValueError("the model already holds adapters: merge them first, or load it afresh.")
        own = {name: group(model, name) for name in self.trains}
        for name, parameters in own.items():
            if packed := next((p.dtype for p in parameters if not p.is_floating_point()), None):
                raise ValueError(
                    f"`trains` has {name!r}, and quantised weights ({packed}) cannot be trained: take a method that "
                    "adds to them, such as KronA or LoRA, or leave out the quantisation."
                )
        model.requires_grad_(False)
        self.add_to(model)
        for parameters in own.values():
            for parameter in parameters:
                parameter.requires_grad_(True)


def inject(model: Model, method: Method) -> Model:
    """Freeze a Transformers model and add what `method` adds, in place. Then train it as you like.

    Returns:
        The same model. It remembers its method for `kronlit.save`.

    Raises:
        ValueError: if the model already holds adapters, or a site or a shape does not suit it. The model is then
            unchanged.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> from kronlit import KronA
        >>> model = BertModel(BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))
        >>> model = inject(model, KronA())
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)  # 2 layers x 2 sites x 2 x (8 x 8)
        512
    """
    with all_or_nothing(model):
        method.apply(model)
    vars(model)[INJECTED] = method
    return model


def group(model: nn.Module, name: Group) -> list[nn.Parameter]:
    """The model's own parameters in a group.

    - `head`: what is outside the pre-trained body, such as a classifier. For a masked language model these are the
      dense layer, layer norm and bias of its head, but not the vocabulary's embeddings. A model without a head has
      none, and neither has one whose head is only a layer over the vocabulary, such as a causal or a
      sequence-to-sequence language model.
    - `layer_norm`: weights and biases of all layer norms.
    - `bias`: all biases.
    - `all`: everything.

    Raises:
        ValueError: if `name` is none of these.
    """
    if name == "all":
        return list(model.parameters())
    if name == "head":
        inside = body(model)
        head = [parameter for parameter in model.parameters() if id(parameter) not in inside]
        outputs = getattr(model, "get_output_embeddings", lambda: None)()
        if outputs is None:
            return head
        vocabulary = {id(parameter) for parameter in outputs.parameters()}
        if all(id(parameter) in vocabulary for parameter in head):
            return []
        # The output embeddings are usually tied to the body's, and so inside it, but not always.
        return [parameter for parameter in head if parameter is not outputs.weight]
    if name == "layer_norm":
        return [parameter for module in model.modules() if is_norm(module) for parameter in module.parameters(False)]
    if name == "bias":
        return [parameter for key, parameter in model.named_parameters() if key.split(".")[-1] == "bias"]
    raise ValueError(f"`trains` has {name!r}; it may have {', '.join(get_args(Group))}.")


def body(model: nn.Module) -> set[int]:
    """The parameters (by `id`) of a Transformers model's pre-trained body, which is all but its head.

    The body is the `base_model`, and the head is what is outside it. Some classifiers have nothing outside: their
    `base_model` is the model itself (CLIP, SigLIP) or contains the head (Perceiver). Then the head is its last child
    that has parameters.
    """
    base: nn.Module = getattr(model, "base_model", model)
    inside = {id(parameter) for parameter in base.parameters()}
    classifies = hasattr(model, "base_model") and re.search(r"For\w*Classification", type(model).__name__)
    if classifies and all(id(parameter) in inside for parameter in model.parameters()):
        *_, last = (part for part in base.children() if next(part.parameters(), None) is not None)
        inside -= {id(parameter) for parameter in last.parameters()}
    return inside


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a layer norm, including T5's root-mean-square norm."""
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
