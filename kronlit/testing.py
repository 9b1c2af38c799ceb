"""Laws that every structured matrix obeys, to test your own with."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kronlit.adapters.merged import MergedProduct
from kronlit.structured import StructuredLinear


def check_structure(
    structure: Callable[..., StructuredLinear],
    in_features: int = 8,
    out_features: int = 12,
    *,
    zero_start: bool = False,
    **arguments: Any,
) -> None:
    """Check a structured matrix: its fast product, its dense matrix and its gradients must agree.

    It draws random parameters, and takes a fraction of a second on the CPU.

    Args:
        structure: the class, or anything that makes one from `(in_features, out_features)`.
        in_features: the input width to try.
        out_features: the output width to try; for square structures, take the same.
        zero_start: whether it must start as zero, so that a `Delta` with it changes nothing at first.
        arguments: other arguments of the class.

    Raises:
        AssertionError: if a law is broken; the message says which one, and by how much.

    Example:
        >>> from kronlit.structured import Kronecker
        >>> check_structure(Kronecker, zero_start=True, a_shape=(3, 2))
    """
    matrix = functools.partial(structure, in_features, out_features, **arguments)()
    name = type(matrix).__name__
    assert isinstance(matrix, StructuredLinear), f"{name} must be a subclass of kronlit.structured.StructuredLinear."
    widths = (matrix.in_features, matrix.out_features)
    assert widths == (in_features, out_features), (
        f"{name}: `in_features`, `out_features` are {widths}, not {(in_features, out_features)}: give them to "
        "`super().__init__`."
    )
    matrix.eval()  # a mixture is a fixed map only in evaluation
    check_shapes(matrix)
    check_start(matrix, zero_start)
    for parameter in matrix.parameters():
        torch.nn.init.normal_(parameter)
    check_forward(matrix)
    check_gradients(matrix)
    check_sum(matrix)
    check_dtypes(matrix)


def check_start(matrix: StructuredLinear, zero_start: bool) -> None:
    """The start is finite, is zero if that is claimed, and `reset_parameters` restores it."""
    name, shapes = type(matrix).__name__, [tuple(parameter.shape) for parameter in matrix.parameters()]
    assert shapes, f"{name} has no parameters: make them `nn.Parameter`s in `__init__`."
    for moment in ("after `__init__`", "after `reset_parameters`"):
        for key, parameter in matrix.named_parameters():
            assert parameter.isfinite().all(), f"{name}: {key} is not finite {moment}: initialise it."
        largest = matrix.to_dense().abs().max().item()
        assert not (zero_start and largest), f"{name}: it does not start as zero: {largest:.2e} {moment}."
        for parameter in matrix.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        matrix.reset_parameters()
    now = [tuple(parameter.shape) for parameter in matrix.parameters()]
    assert now == shapes, f"{name}: `reset_parameters` makes parameters of {now} of those of {shapes}."


def check_shapes(matrix: StructuredLinear) -> None:
    """The dense matrix is `(out_features, in_features)`, and the input may have any leading dimensions."""
    name, shape = type(matrix).__name__, (matrix.out_features, matrix.in_features)
    found = tuple(matrix.to_dense().shape)
    assert found == shape, f"{name}: `to_dense` has the shape {found}; it must be (out_features, in_features)={shape}."
    for leading in ((), (5,), (2, 0), (2, 3, 4)):
        given, wanted = (*leading, shape[1]), (*leading, shape[0])
        try:
            found = tuple(matrix(torch.randn(given)).shape)
        except Exception as error:  # the structure's own
            raise AssertionError(f"{name}: `forward` fails on an input of {given}: {error}") from error
        assert found == wanted, f"{name}: `forward` makes {found} of {given}; it must be {wanted}."


def check_forward(matrix: StructuredLinear) -> None:
    """`forward` multiplies by `to_dense`, for any memory layout of the input, and does not change the input."""
    name, double = type(matrix).__name__, matrix.double()
    for leading in ((), (5,), (2, 3, 4)):
        x = torch.randn(matrix.in_features, *leading, dtype=torch.float64).movedim(0, -1)
        before = x.clone()
        y = double(x)
        assert torch.equal(x, before), f"{name}: `forward` changes its input."
        close(y, x @ double.to_dense().T, f"{name}: `forward` is not multiplication by `to_dense`, on {tuple(x.shape)}")
    matrix.float()


def check_gradients(matrix: StructuredLinear) -> None:
    """Gradients of the input and of all parameters equal finite differences, in float64."""
    name = type(matrix).__name__
    double = matrix.double()
    names, values = zip(*double.named_parameters(), strict=True)
    x = torch.randn(2, 3, matrix.in_features, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(double, dict(zip(names, values, strict=True)), (x,))
        return y

    try:
        torch.autograd.gradcheck(call, (x, *values))
    except RuntimeError as error:  # gradcheck's own, with both Jacobians
        raise AssertionError(
            f"{name}: a gradient (0 is of the input, then {', '.join(names)}) is not that of finite differences: "
            f"{error}"
        ) from error
    matrix.float()


def check_sum(matrix: StructuredLinear) -> None:
    """`added_to` adds the product. `summand`, if there is one, adds the matrix, with the same gradients."""
    name, double = type(matrix).__name__, matrix.double()
    x, y = (torch.randn(3, n, dtype=torch.float64) for n in (matrix.in_features, matrix.out_features))
    dense = double.to_dense()
    close(double.added_to(y, x, 2.0), y + 2 * x @ dense.T, f"{name}: `added_to` does not add `scale` times the product")
    if summand := double.summand():
        weight = torch.randn_like(dense)
        close(
            summand.added(weight, 2.0, *summand.generators),
            weight + 2 * dense,
            f"{name}: `summand().added` does not add `scale` times the matrix",
        )
        merged = MergedProduct.apply(x, weight, None, 2.0, summand, *summand.generators)
        names, values = zip(*double.named_parameters(), strict=True)
        dy = torch.randn_like(y)
        ours, theirs = (torch.autograd.grad(one, values, dy) for one in (merged, 2 * double(x)))
        for key, gradient, expected in zip(names, ours, theirs, strict=True):
            close(gradient, expected, f"{name}: `summand().pullback` gives {key} another gradient than `forward`")
    matrix.float()


def check_dtypes(matrix: StructuredLinear) -> None:
    """Parameters and their gradients are float32; outputs have the input's dtype, or autocast's."""
    name, x = type(matrix).__name__, torch.randn(4, matrix.in_features)
    dense = matrix.to_dense()
    assert dense.dtype == torch.float32, f"{name}: `to_dense` of float32 parameters is {dense.dtype}."
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        found = matrix(x.to(dtype)).dtype
        assert found == dtype, (
            f"{name}: `forward` makes {found} of {dtype}: cast parameters with `structured.base.compute_dtype`."
        )
    with torch.autocast("cpu", torch.bfloat16):
        y = matrix(x)
    assert y.dtype == torch.bfloat16, f"{name}: `forward` makes {y.dtype} under autocast in bfloat16."
    expected = x @ dense.T
    law = f"{name}: `forward` under autocast in bfloat16 is far from `to_dense`"
    close(y.float(), expected, law, 0.1, 0.02 * expected.abs().max().item())  # a small sum of large numbers is rounded
    y.float().sum().backward()
    for key, parameter in matrix.named_parameters():
        found = None if parameter.grad is None else parameter.grad.dtype
        assert found == torch.float32, f"{name}: the gradient of {key} under autocast is {found}, not float32."


def close(found: Tensor, expected: Tensor, law: str, rtol: float | None = None, atol: float | None = None) -> None:
    """Raise `AssertionError` with `law` and the largest difference, unless both are equal up to rounding."""
    try:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, check_dtype=False)
    except AssertionError as error:
        reach = expected.abs().max().item() if expected.numel() else 0.0
        raise AssertionError(f"{law} (values reach {reach:.2e}). {' '.join(str(error).split())}") from error
