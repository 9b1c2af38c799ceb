"""Compiles the layers of a model with torch.compile."""

from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.modules import FrozenPLM
from kronlit.training.layers import layers


class CompiledLayers(Callback):
    """Compiles each layer of the pre-trained model, including its adapters, before training.

    It compiles layer by layer, because all layers then share one compilation, and batches of many lengths need few of
    them. Compiling a whole model takes minutes.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FrozenPLM)
        assert pl_module.model is not None
        for layer in layers(pl_module.model):
            layer.compile()
