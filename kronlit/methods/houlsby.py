"""Bottleneck adapters of dense matrices: Houlsby et al., 2019, arXiv:1902.00751, and variants at other places."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from kronlit.adapters import Bottleneck, Insertion, ParallelAdapter, SequentialAdapter
from kronlit.adapters.bottleneck import Activation, bottleneck_width
from kronlit.methods.base import Group, Method
from kronlit.structured import Dense, StructuredLinear


@dataclass(frozen=True)
class Houlsby(Method):
    """Bottleneck adapters after self-attention and after the feed-forward network of every layer.

    Weights start normal with a standard deviation of 0.01 and biases as zero, as in the code of Mahabadi et al.
    (arXiv:2106.04647).

    Args:
        reduction_factor: the bottleneck is the model's width divided by this.
        activation: relu, gelu, gelu_new, silu, mish or tanh.
        sites: the sites to change; on T5, self_attention_output does not include cross-attention.
        trains: what is trained besides the adapters: head, layer_norm, bias. On T5, Mahabadi et al. train the layer
            norms.
    """

    reduction_factor: int = 32
    activation: Activation = "gelu_new"
    sites: tuple[str, ...] = ("self_attention_output", "ffn_output")
    trains: tuple[Group, ...] = ("head",)

    def matrix(self) -> Callable[[int, int], StructuredLinear]:
        """Makes the down-projection and the up-projection from their widths."""
        return partial(Dense, std=0.01)

    def body(self, in_features: int, out_features: int) -> nn.Module:
        """Make the adapter that follows a module."""
        width, matrix = bottleneck_width(in_features, self.reduction_factor), self.matrix()
        return Bottleneck(in_features, out_features, width, matrix, matrix, self.activation)

    def insertions(self) -> list[Insertion]:
        return [Insertion(self.sites, partial(SequentialAdapter, body=self.body))]


@dataclass(frozen=True)
class Pfeiffer(Houlsby):
    """One bottleneck adapter per layer (Pfeiffer et al., 2021, arXiv:2005.00247).

    Mahabadi et al. tried both places and kept the one after self-attention, which is the default here. AdapterHub has
    it after the feed-forward network: `sites: [ffn_output]`.

    Args:
        sites: the sites to change.
    """

    sites: tuple[str, ...] = ("self_attention_output",)


@dataclass(frozen=True)
class AdapterDrop(Houlsby):
    """Bottleneck adapters in the upper layers only (Rücklé et al., 2021, arXiv:2010.11918).

    Args:
        first_layer: the first layer with adapters, counted from 0; on T5 in both encoder and decoder.
    """

    first_layer: int = 5

    def insertions(self) -> list[Insertion]:
        return [Insertion(self.sites, partial(SequentialAdapter, body=self.body), self.first_layer)]


@dataclass(frozen=True)
class PA(Method):
    """A scaled bottleneck parallel to the feed-forward block (He et al., 2022, arXiv:2110.04366, "scaled PA").

    The down-projection starts Kaiming-uniform and the up-projection as zero, as in LoRA.

    Args:
        bottleneck_width: width of the bottleneck; the KronA paper's baseline has 2.
        scale: the fixed factor s of the adapter's output; the KronA paper has 16, He et al. have 4.
        activation: relu, gelu, gelu_new, silu, mish or tanh.
        sites: the sites to change.
        trains: what is trained besides the adapters: head, layer_norm, bias. The KronA paper, on T5, trains the layer
            norms.
    """

    bottleneck_width: int = 2
    scale: float = 16.0
    activation: Activation = "relu"
    sites: tuple[str, ...] = ("ffn",)
    trains: tuple[Group, ...] = ("head",)

    def __post_init__(self) -> None:
        if self.bottleneck_width < 1:
            raise ValueError(f"`bottleneck_width`={self.bottleneck_width} must be at least 1.")

    def insertions(self) -> list[Insertion]:
        body = partial(
            Bottleneck,
            width=self.bottleneck_width,
            down=Dense,
            up=partial(Dense, std=0.0),
            activation=self.activation,
        )
        return [Insertion(self.sites, partial(ParallelAdapter, body=body, scale=self.scale))]
