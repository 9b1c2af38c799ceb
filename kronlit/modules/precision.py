"""Checks that a precision of Lightning trains the adapters in float32, and suits the model."""

from lightning.pytorch.plugins import HalfPrecision, Precision

from kronlit.config.user_error import UserError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true")


def check_precision(precision: str, model_type: str, plugin: Precision, backbone_dtype: str) -> None:
    """Refuse a precision in which training would go wrong.

    Args:
        precision: the precision of the trainer.
        model_type: the `model_type` in the pre-trained model's config, such as `t5`.
        plugin: what the trainer computes that precision with.
        backbone_dtype: the `model.backbone_dtype`.

    Raises:
        ValueError: if it would not train in float32, or overflows on that kind of model.
    """
    if precision not in PRECISIONS:
        raise UserError(f"`trainer.precision`={precision!r} would not train in float32; use {', '.join(PRECISIONS)}.")
    if isinstance(plugin, HalfPrecision):  # it rounds what is trained, too, and small steps of Adam are then lost
        raise UserError(
            f"`trainer.precision`={precision!r} of Lightning would not train in float32: use 'bf16-mixed'; or, "
            "as `kronlit fit` does, give the Trainer `plugins=kronlit.training.true_bfloat16.TrueBFloat16()` instead."
        )
    if precision == "bf16-true" and backbone_dtype != "auto":
        raise UserError(
            f"`model.backbone_dtype`={backbone_dtype!r} and `trainer.precision`={precision!r}: leave out one."
        )
    if precision == "16-mixed" and model_type in ("t5", "mt5", "umt5"):
        raise UserError(
            "`trainer.precision`='16-mixed' overflows on T5 (its feed-forward outputs exceed float16's 65,504) and "
            "gives NaN; use 'bf16-mixed' or '32-true'."
        )
