"""A structured matrix of your own, held to the laws, put into a model, and merged: python examples/own_structure.py."""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import kronlit
from kronlit.structured import StructuredLinear
from kronlit.structured.base import compute_dtype
from kronlit.testing import check_structure


class Diagonal(StructuredLinear):
    """A diagonal matrix, which starts as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output, the same.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        if in_features != out_features:
            raise ValueError(f"a diagonal matrix is square, and {out_features} x {in_features} is not.")
        self.diagonal = nn.Parameter(torch.empty(in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as zero, so that the model is unchanged before training."""
        nn.init.zeros_(self.diagonal)

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)  # autocast's, where that is on
        return x.to(dtype) * self.diagonal.to(dtype)

    def to_dense(self) -> Tensor:
        return torch.diag(self.diagonal)


def main() -> None:
    """Check it, train a step with it, and merge."""
    check_structure(Diagonal, 8, 8)
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))
    kronlit.inject(model, kronlit.Structured(matrix=Diagonal, sites=("query", "value")))
    print(kronlit.trainable_report(model))
    tokens, labels = torch.randint(1000, (8, 12)), torch.randint(2, (8,))
    model(input_ids=tokens, labels=labels).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    before = model.eval()(input_ids=tokens).logits
    kronlit.merge(model)
    print(f"merged: logits differ by {float((model(input_ids=tokens).logits - before).abs().max().detach()):.1e}")


if __name__ == "__main__":
    main()
