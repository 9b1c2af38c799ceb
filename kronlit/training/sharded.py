"""Shards the frozen weights, for backbones that do not fit on one GPU."""

from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel

from kronlit.adapters import QuantisedLinear
from kronlit.config.user_error import UserError
from kronlit.modules import FrozenPLM
from kronlit.training.layers import layers


class ShardedFrozenDDP(DDPStrategy):
    """DDP whose frozen weights are sharded over the processes (FSDP2). Each process holds all trained parameters.

    A layer's frozen weights are gathered for its use, and dropped afterwards. They have no gradients, so training is
    that of plain DDP: gradients, optimiser and checkpoints are the same. `--trainer.strategy ddp_sharded` selects it.
    It was tried with two CPU processes (gloo), never on GPUs (NCCL).
    """

    def model_to_device(self) -> None:
        """Shard the frozen weights, and move the rest to the device."""
        module = self.lightning_module
        assert isinstance(module, FrozenPLM)
        assert module.model is not None
        shard_frozen(module.model, init_device_mesh(self.root_device.type, (self.world_size,)))
        frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
        # So that DDP neither broadcasts nor reduces them.
        nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, frozen)
        super().model_to_device()


def shard_frozen(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shard the frozen weights of each layer, and those outside the layers, over the processes of `mesh`.

    Raises:
        ValueError: if nothing is frozen.
    """
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    if len(trained) == len(list(model.parameters())):
        raise UserError(
            "`trainer.strategy`='ddp_sharded' shares out frozen weights, and here all are trained: use ddp."
        )
    if any(isinstance(module, QuantisedLinear) for module in model.modules()):
        raise UserError(
            "`trainer.strategy`='ddp_sharded' does not share out quantised weights: use ddp, or `model.quantization`="
            "none."
        )
    for module in [*layers(model), model]:
        fully_shard(module, mesh=mesh, ignored_params=trained)
    if hasattr(model, "generate"):
        register_fsdp_forward_method(model, "generate")
        model._is_fsdp_managed_module = True  # makes `generate` take equally many steps on each process
