"""Counts the bytes of a computation on PyTorch's fake tensors, which have shapes and no numbers."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class LiveBytes(TorchDispatchMode):
    """Knows how many bytes of tensors are alive that were made under it, and the most there ever were.

    Where numbers would decide, a mask is all true and a count is 1: made-up rows are full, and all their tokens count.

    Args:
        apart: tensors that are not counted, such as weights.

    Attributes:
        now: bytes alive.
        peak: the most so far.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in apart}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1.0 if args[0].dtype.is_floating_point else 1
        if func is aten.nonzero.default:
            made = args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.long)
        else:
            if func in INDEXED:
                args = (args[0], [place for index in args[1] for place in places(index)], *args[2:])
            made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._watch(tensor)
        return made

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


def places(index: Tensor | None) -> list[Tensor | None]:
    """An index; a mask as the places where it is true, which is everywhere."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [index.new_empty(index.numel(), dtype=torch.long) for _ in range(index.ndim)]


class FusedAttention(TorchFunctionMode):
    """Attention as on a GPU, where dropout does not keep it from being fused, as it does on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            given["dropout_p"] = 0.0
        return func(*args, **given)


def make_fake(model: nn.Module, fake: FakeTensorMode) -> None:
    """Put fake tensors in place of a model's parameters and buffers, which may be on the meta device."""
    made: dict[int, Tensor] = {}
    with fake:
        for module in model.modules():
            for store in (module._parameters, module._buffers):
                for name, tensor in store.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in made:
                        new = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                        own = isinstance(tensor, nn.Parameter)
                        made[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if own else new
                    store[name] = made[id(tensor)]  # type: ignore[assignment]
