"""Wang et al., LiST: lite prompted self-training makes efficient few-shot learners, 2021, arXiv:2110.06274."""

from dataclasses import dataclass
from functools import partial

from torch import nn

from kronlit.adapters import Insertion, SequentialAdapter
from kronlit.methods.base import Group, Method
from kronlit.structured import LowRank


@dataclass(frozen=True)
class LiST(Method):
    """Linear adapters after self-attention and after the feed-forward network of every layer. They can be merged.

    They have neither activation nor bias. Both projections start normal with a standard deviation of 0.02, so an
    adapter starts near the identity but not exactly there. LiST's code also trains the head of the masked language
    model with its vocabulary, of which only the label words' rows have a gradient; here these embeddings stay frozen.
    LiST's self-training on unlabelled rows is not implemented.

    Args:
        bottleneck_width: width of the bottleneck.
        sites: the sites to change.
        trains: what is trained besides the adapters: head, layer_norm, bias.
    """

    bottleneck_width: int = 128
    sites: tuple[str, ...] = ("self_attention_output", "ffn_output")
    trains: tuple[Group, ...] = ("head",)

    def body(self, in_features: int, out_features: int) -> nn.Module:
        """Make the adapter that follows a module."""
        if not 1 <= self.bottleneck_width <= in_features:
            raise ValueError(
                f"`bottleneck_width`={self.bottleneck_width} must lie between 1 and the model's width, {in_features}."
            )
        return LowRank(in_features, out_features, self.bottleneck_width, "normal")

    def insertions(self) -> list[Insertion]:
        return [Insertion(self.sites, partial(SequentialAdapter, body=self.body))]
