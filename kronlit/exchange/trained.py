"""What was trained, opened again from a run's checkpoint or from an adapter's folder, to be merged or exported."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from transformers import AutoImageProcessor, PreTrainedModel

from kronlit.adapters import parameter_counts
from kronlit.adapters.calls import made_up_row
from kronlit.adapters.transaction import INJECTED
from kronlit.config.user_error import UserError
from kronlit.exchange.adapter_folder import CONFIG, AdapterConfig, adapter_config, config_of, read_json
from kronlit.exchange.class_names import class_names, peft_base
from kronlit.exchange.load import load
from kronlit.exchange.model_card import adapter_card, model_card
from kronlit.exchange.probe import Logits, Rows, logits, probe
from kronlit.exchange.saved_run import SavedRun, saved_run
from kronlit.methods import Method
from kronlit.modules import CausalLM, FrozenPLM, ImageClassification, PromptClassification
from kronlit.modules.plm import from_pretrained, load_tokenizer
from kronlit.modules.text import TextModule


class Trained(Protocol):
    """A model with what was trained in it, in float32 and in evaluation mode, and where it is from."""

    @property
    def source(self) -> Path:
        """The checkpoint, or the folder of the adapter."""

    @property
    def model(self) -> PreTrainedModel:
        """The model, with what was added."""

    @property
    def plm(self) -> str:
        """Hub id or folder of the pre-trained model."""

    @property
    def method(self) -> Method | None:
        """The method; `None` for an adapter of PEFT's."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty if there are none."""

    @property
    def is_regression(self) -> bool:
        """Whether the model gives one number for each row."""

    @property
    def quantization(self) -> str:
        """How the frozen linear modules are stored, as in `model.quantization`."""

    def over(self) -> str:
        """The arguments of `kronlit.load` that quantise the frozen weights so."""

    def what(self) -> str:
        """Method, model and task in a few words."""

    def logits(self, model: PreTrainedModel) -> Logits:
        """The logits of `model` for rows that are equal in every call."""

    def adapter_config(self, method: Method) -> AdapterConfig:
        """What kronlit's own folder says of the adapter, with `method` as its method."""

    def card(self, library: str, opening: str, more: str = "") -> str:
        """The model card, as in `model_card`."""

    def save_reader(self, folder: Path) -> None:
        """Write the tokenizer, or what prepares images, to `folder`."""


@dataclass(frozen=True)
class TrainedRun:
    """A run's checkpoint.

    Args:
        run: the checkpoint and its run's files.
        module: the trained module.
    """

    run: SavedRun
    module: FrozenPLM

    @property
    def source(self) -> Path:
        return self.run.checkpoint

    @property
    def model(self) -> PreTrainedModel:
        assert self.module.model is not None
        return self.module.model

    @property
    def plm(self) -> str:
        return self.module.plm

    @property
    def method(self) -> Method:
        return self.module.method

    @property
    def labels(self) -> tuple[str, ...]:
        return self.module.task.labels

    @property
    def is_regression(self) -> bool:
        return self.module.task.is_regression

    @property
    def quantization(self) -> str:
        return self.module.quantization

    def over(self) -> str:
        double = ", double_quantization=True" if self.module.double_quantization else ""
        return "" if self.quantization == "none" else f', quantization="{self.quantization}"{double}'

    def what(self) -> str:
        return f"{type(self.method).__name__} on {self.plm} for {self.module.task.name}"

    def logits(self, model: PreTrainedModel) -> Logits:
        return logits(probe(self.module), model)

    def adapter_config(self, method: Method) -> AdapterConfig:
        words = self.module.words if isinstance(self.module, PromptClassification) else None
        named = self.module.task.name, parameter_counts(self.model)[1], self.labels, words
        return config_of(self.model, method, self.plm, *named)

    def card(self, library: str, opening: str, more: str = "") -> str:
        return model_card(self.run, self.module, library, opening, more)

    def save_reader(self, folder: Path) -> None:
        if isinstance(self.module, TextModule):
            if not isinstance(self.module, CausalLM):  # a causal model writes beyond the length that it reads
                self.module.tokenizer.model_max_length = self.module.max_length  # texts are cut as in training
            self.module.tokenizer.save_pretrained(folder)
        elif isinstance(self.module, ImageClassification):
            self.module.reader.processor.save_pretrained(folder)


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter's folder, kronlit's or PEFT's.

    Args:
        source: the folder.
        model: the model with the adapter.
        config: what kronlit's own folder says; of PEFT's `None`.
        plm: hub id or folder of the pre-trained model.
    """

    source: Path
    model: PreTrainedModel
    config: AdapterConfig | None
    plm: str

    @property
    def method(self) -> Method | None:
        return None if self.config is None else self.config.method

    @property
    def labels(self) -> tuple[str, ...]:
        return class_names(self.model) if self.config is None else self.config.labels

    @property
    def is_regression(self) -> bool:
        return type(self.model).__name__.endswith("ForSequenceClassification") and self.model.config.num_labels == 1

    @property
    def quantization(self) -> str:
        return "none"  # an adapter's folder does not say over what it was trained

    def over(self) -> str:
        return ""

    def what(self) -> str:
        task = f" for {self.config.task}" if self.config is not None and self.config.task else ""
        return f"{'a PEFT adapter' if self.method is None else type(self.method).__name__} on {self.plm}{task}"

    def logits(self, model: PreTrainedModel) -> Logits:
        row = made_up_row(model)
        rows: Rows = [] if row is None else [row]
        return logits(rows, model)

    def adapter_config(self, method: Method) -> AdapterConfig:
        task, words = ("", None) if self.config is None else (self.config.task, self.config.words)
        return config_of(self.model, method, self.plm, task, parameter_counts(self.model)[1], self.labels, words)

    def card(self, library: str, opening: str, more: str = "") -> str:
        return adapter_card(self.plm, self.method, self.labels, library, opening, more)

    def save_reader(self, folder: Path) -> None:
        for read in (load_tokenizer, partial(from_pretrained, AutoImageProcessor)):
            try:
                reader = read(self.plm)
            except ValueError:  # it reads something else, or its files lack it: the folder is a model all the same
                continue
            reader.save_pretrained(folder)
            return


def open_trained(ckpt_path: str) -> Trained:
    """Open a checkpoint, the best one of a run's folder, or an adapter's folder.

    Raises:
        ValueError: if it is none of these, or is damaged, or belongs to another model than it says.
    """
    folder = Path(ckpt_path)
    if not (folder / CONFIG).is_file():
        run = saved_run(ckpt_path)
        return TrainedRun(run, run.module())
    content = read_json(folder / CONFIG)
    model = load(folder)
    if isinstance(vars(model)[INJECTED], Method):
        config = adapter_config(content, str(folder / CONFIG))
        return TrainedAdapter(folder, model, config, config.plm)
    if (plm := peft_base(content)) is None:
        raise UserError(f"{str(folder)!r} does not say what it goes on (`base_model_name_or_path`).")
    return TrainedAdapter(folder, model, None, plm)
