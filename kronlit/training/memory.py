"""What a training takes in memory, told before any weight is loaded."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from kronlit.config.user_error import UserError, user_errors
from kronlit.methods.base import group
from kronlit.modules import FrozenPLM
from kronlit.modules.backbone import AUTOCAST, store_frozen
from kronlit.modules.batch import Batch
from kronlit.modules.optimizer import new_optimizer, parameter_groups
from kronlit.modules.quantisation import quantisable
from kronlit.modules.recompute import recompute_activations
from kronlit.training.layers import layers
from kronlit.training.live_bytes import FusedAttention, LiveBytes, make_fake

MOST = 2**12
"""No larger batch is tried."""


@dataclass(frozen=True)
class Memory:
    """The bytes of a training step on one device.

    Args:
        weights: of the frozen and the trained weights.
        gradients: of what is trained.
        optimizer: its state.
        activations: the most that a step has besides these: what is kept for the backward pass, and what is in use.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum, which is the most that is alive at once."""
        return self.weights + self.gradients + self.optimizer + self.activations


def weight_bytes(shape: torch.Size, dtype: torch.dtype, quantization: str = "none", double: bool = False) -> int:
    """The bytes of one weight.

    Args:
        shape: its shape, `(out_features, in_features)` where it is quantised.
        dtype: how it is stored if it is not quantised.
        quantization: none; nf4: 4 bits a number, and for each 64 numbers their largest in 32 bits (Dettmers et al.,
            QLoRA, 2023, arXiv:2305.14314); int8 and int8_torchao: 8 bits, and 32 for each row.
        double: whether these of nf4 are quantised, too: 8 bits each, and for each 256 their largest in 32 bits.
    """
    if quantization == "nf4":
        blocks = -(-shape.numel() // 64)
        return -(-shape.numel() // 2) + (blocks + 4 * -(-blocks // 256) if double else 4 * blocks)
    if quantization in ("int8", "int8_torchao"):
        return shape.numel() + 4 * shape[0]
    return shape.numel() * dtype.itemsize


def model_bytes(model: nn.Module, quantization: str = "none", double: bool = False) -> int:
    """The bytes of all weights and buffers of a model, each counted once.

    Args:
        model: the model.
        quantization: how the frozen linear layers are stored that are neither the head nor embeddings.
        double: whether the scales of nf4 are quantised, too.
    """
    modules = (parent.get_submodule(name) for (parent, name), *_ in quantisable(model))
    linear = {id(module.weight) for module in modules if not cast(Tensor, module.weight).requires_grad}
    stored = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(
        weight_bytes(tensor.shape, tensor.dtype, quantization if key in linear else "none", double)
        for key, tensor in stored.items()
    )


def unloaded(module: FrozenPLM, precision: str) -> FakeTensorMode:
    """Give a module its model without weights, as a fit would make it; returns what its tensors are of.

    Args:
        module: a module that has loaded nothing.
        precision: the trainer's.

    Raises:
        UserError: if that cannot be done without weights.
    """
    dtype = AUTOCAST.get(precision, torch.float32) if module.backbone_dtype == "auto" else torch.float32
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model, _ = module.load()
            packed = [parent.get_submodule(name).weight for (parent, name), *_ in quantisable(model)]
            with user_errors():
                module.method.apply(model)
            if module.quantization != "none" and any(cast(Tensor, weight).requires_grad for weight in packed):
                raise UserError(
                    f"`model.quantization`={module.quantization!r}: {type(module.method).__name__} trains what that "
                    "would round: take a method that adds to it, such as KronA or LoRA, or leave out the quantisation."
                )
            if model.get_output_embeddings() is None:  # a head that no file has is drawn anew and trained
                for parameter in group(model, "head"):
                    parameter.requires_grad_(True)
            store_frozen(model, dtype, everything=precision == "bf16-true")
    except UserError:
        raise
    except Exception as error:
        raise cannot_tell(module, error) from error
    if module.gradient_checkpointing:
        recompute_activations(model, module.routing.generator)
    module.routing.take(model.modules())
    module.model = model.train()
    make_fake(model, fake := FakeTensorMode())
    return fake


def cannot_tell(module: FrozenPLM, error: Exception) -> UserError:
    """What to say where a model's own code needs numbers."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(
        f"the memory of {type(module).__name__} with {type(module.method).__name__} on {module.plm!r} cannot be told "
        f"without weights ({reason}); a short fit tells it: `peak_memory_bytes` in its summary.json."
    )


def step_memory(module: FrozenPLM, fake: FakeTensorMode, batch: Batch, precision: str, cuda: bool) -> Memory:
    """The memory of a training step, by taking two of them on tensors without numbers.

    Args:
        module: a module whose model is `unloaded`.
        fake: what its tensors are of.
        batch: a batch; only its shapes count.
        precision: the trainer's.
        cuda: whether kernels are chosen as on a GPU.

    Raises:
        UserError: if a step cannot be taken without numbers.
    """
    assert module.model is not None
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    live = LiveBytes((*module.parameters(), *module.buffers()))
    try:
        with torch.random.fork_rng(devices=[]), fake, live, FusedAttention() if cuda else nullcontext():
            optimizer = take_steps(module, batch, precision, cuda)
    except UserError:
        raise
    except Exception as error:
        raise cannot_tell(module, error) from error
    finally:
        for parameter in trained:
            parameter.grad = None
    gradients = sum(parameter.nbytes for parameter in trained)
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    state = sum(value.nbytes for value in states)
    weights = model_bytes(module.model, module.quantization, module.double_quantization)
    return Memory(weights, gradients, state, live.peak - gradients - state)


def take_steps(module: FrozenPLM, batch: Batch, precision: str, cuda: bool) -> Optimizer:
    """Two steps as a trainer takes them; the second has the optimizer's state from its beginning."""
    sizes = {n: torch.empty(v.shape, dtype=v.dtype) if isinstance(v, Tensor) else v for n, v in batch.items()}
    groups = parameter_groups(module, module.lr, module.weight_decay, head=set())
    optimizer = new_optimizer(module.optimizer, groups, module.lr, module.weight_decay, module.optimizer_args)
    for each in optimizer.param_groups:
        if "foreach" in each:
            each["foreach"] = cuda  # as PyTorch chooses
    for _ in range(2):
        with torch.autocast("cpu", AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            loss = module.train_loss(sizes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer


def on_each(memory: Memory, model: nn.Module, strategy: str, devices: int) -> Memory:
    """The memory of each device, of several that share the training.

    Under ddp each has it all, and once more its gradients, which DDP gathers in buckets. Under ddp_sharded a device has
    its share of the frozen weights, those that are outside the layers, and two whole layers: the one that is in use,
    and the one that is gathered next.

    Args:
        memory: that of one device alone, with the same batch.
        model: the model.
        strategy: auto, ddp or ddp_sharded.
        devices: their number.
    """
    if strategy == "auto" or devices == 1:
        return memory
    weights = memory.weights
    if strategy == "ddp_sharded":
        parts = [sum(p.nbytes for p in layer.parameters() if not p.requires_grad) for layer in layers(model)]
        frozen = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
        weights -= sum(parts) - sum(sorted(parts)[-2:]) - frozen // devices
    return Memory(weights, 2 * memory.gradients, memory.optimizer, memory.activations)


def largest_batch(memory_of: Callable[[int], int], limit: int) -> int:
    """The largest batch that stays within a limit; 0 if none does, and `MOST` if that does.

    The memory never falls with the batch. So the batch is doubled until it is too large, and then bisected: nothing
    much larger than the answer is ever tried.

    Args:
        memory_of: the bytes of a batch of so many rows.
        limit: the most bytes.
    """
    within, above = 0, 1
    while memory_of(above) <= limit:
        within, above = above, 2 * above
        if above > MOST:
            return MOST
    while above - within > 1:
        middle = (within + above) // 2
        within, above = (middle, above) if memory_of(middle) <= limit else (within, middle)
    return within
