"""Classification by the words that a language model fills into a prompt: Gao et al., LM-BFF, 2021, arXiv:2012.15723."""

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from kronlit.config.user_error import UserError
from kronlit.data.prompts import prompt_of
from kronlit.data.tasks import Task
from kronlit.methods import Method
from kronlit.modules.batch import Batch
from kronlit.modules.padding import pad_rows
from kronlit.modules.plm import load_config, load_model
from kronlit.modules.similarity import SentenceEncoder
from kronlit.modules.template import Template, pieces, word_ids
from kronlit.modules.text import TextModule

HEADS = ("lm_head", "cls")
"""Names of the head of masked language models, which maps the body's last states to scores of the vocabulary."""
OWN = ("row", "group", "label", "length")


class PromptClassification(TextModule):
    """A frozen masked language model or T5 that fills the word of a label into a prompt.

    The scores of the label words at the mask are the logits of the classes. A T5 predicts what its span token
    `<extra_id_0>` hides: the scores are those of the token after it. If a word has several tokens, the first one
    counts. A number is regressed between two words: y is low + (high - low) · P(second word), and the loss is the
    divergence of the words' probabilities from (1 - p, p), where p = (y - low) / (high - low).

    Args:
        plm: hub id (`org/name`, or `org/name@revision`) or local folder of the pre-trained language model: of BERT's
            or RoBERTa's family, or a T5.
        method: the method, which says what is added and trained. Its `head` is that of the masked language model,
            without the vocabulary's embeddings.
        max_length: the most tokens of input; by default LM-BFF's for the task, and with demonstrations twice as many
            if its code doubles them.
        template: a template in LM-BFF's syntax, such as '*cls**sent_0*_It_was*mask*.*sep+*'; by default LM-BFF's manual
            one for the task.
        label_words: the word for each label, which must be one token; for a number, those of `low` and `high`.
            Demonstrations come in this order. Quote 'Yes' and 'No' in a YAML. By default LM-BFF's for the task.
        first_sent_limit: the most tokens of a row's first sentence; by default LM-BFF's for the task.
        other_sent_limit: the most tokens of its other sentence and of sentences of demonstrations; by default LM-BFF's
            for the task.
        demonstrations: add one training row of each label with its answer to each row, newly drawn in each epoch.
        num_demonstrations: number of sets of demonstrations over which evaluation averages; by default LM-BFF's for the
            task, 16 or 4.
        demonstration_filter: draw demonstrations only from the training rows most similar to the row, by this
            Sentence-BERT (hub id or local folder; needs `pip install 'kronlit[similarity]'`). LM-BFF has
            sentence-transformers/roberta-large-nli-stsb-mean-tokens.
        demonstration_filter_rate: share of a label's training rows to keep: the most similar ones.
        **kwargs: what `TextModule` takes.
    """

    def __init__(
        self,
        plm: str,
        method: Method,
        task: Task,
        *,
        max_length: int | None = None,
        template: str | None = None,
        label_words: dict[str, str] | None = None,
        first_sent_limit: int | None = None,
        other_sent_limit: int | None = None,
        demonstrations: bool = False,
        num_demonstrations: int | None = None,
        demonstration_filter: str | None = None,
        demonstration_filter_rate: float = 0.5,
        **kwargs: Any,
    ) -> None:
        given = {
            "template": template,
            "words": label_words,
            "first_sent_limit": first_sent_limit,
            "other_sent_limit": other_sent_limit,
            "num_demonstrations": num_demonstrations,
        }
        prompt = prompt_of(task, {name: value for name, value in given.items() if value is not None})
        pieces(prompt.template, len(task.columns))  # reports a wrong template here rather than at the first row
        doubled = 2 if demonstrations and prompt.double_demo else 1
        length = prompt.max_length * doubled if max_length is None else max_length
        super().__init__(plm, method, task, max_length=length, **kwargs)
        if not 0 < demonstration_filter_rate <= 1:
            raise UserError(
                f"`model.demonstration_filter_rate`={demonstration_filter_rate} must lie above 0 and up to 1."
            )
        self.prompt = prompt
        self.words = prompt.words
        self.num_demonstrations = prompt.num_demonstrations
        self.demonstrations = demonstrations
        self.demonstration_filter = SentenceEncoder(demonstration_filter) if demonstration_filter else None
        self.demonstration_filter_rate = demonstration_filter_rate

    # --- rows ---

    def reads(self) -> tuple[str, ...]:
        return ()  # templates name columns by their number

    @cached_property
    def template(self) -> Template:
        """The prompt's template over the model's tokenizer."""
        return Template(self.prompt.template, len(self.task.columns), self.tokenizer)

    @cached_property
    def word_ids(self) -> list[int]:
        """The token of each label's word, in the words' order."""
        return word_ids(self.tokenizer, self.words, first=self.tokenizer.mask_token_id is None)

    @cached_property
    def encoding_key(self) -> str:
        tokenizer = self.tokenizer
        special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.eos_token_id, self.template.mask_id)
        similar = self.demonstration_filter.key if self.demonstrations and self.demonstration_filter else ""
        return f"{super().encoding_key} {self.prompt} {special} {self.word_ids} {self.demonstrations} {similar}"

    def encode(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns = [rows[column] for column in self.task.columns]
        prompt = self.prompt
        tokens, positions = self.template.queries(
            columns, self.max_length, prompt.first_sent_limit, prompt.other_sent_limit
        )
        features: dict[str, list[Any]] = {"input_ids": tokens, "mask_position": positions}
        if self.demonstrations:
            words = [self._word(label) for label in rows.get("label", [-1] * len(tokens))]
            answers = [self.word_ids[word] for word in words]
            features["word"] = words
            features["demonstration_ids"] = self.template.demonstrations(columns, prompt.other_sent_limit, answers)
            if self.demonstration_filter:
                texts = [" ".join(sentences) for sentences in zip(*columns, strict=True)]
                features["embedding"] = self.demonstration_filter.embed(texts)
        return features

    def _word(self, label: float) -> int:
        """The number of a label's word; for a number, of its half. As in LM-BFF's code, the middle counts as low."""
        if self.task.is_regression:
            return int(label > sum(self.task.span) / 2)
        return list(self.words).index(self.task.labels[int(label)])

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        batch = super().collate([{name: row[name] for name in OWN if name in row} for row in rows])
        sets = [
            self.template.join(row["input_ids"], shown, self.max_length, self.num_segments)
            for row in rows
            for shown in row.get("demonstrations", [[]])
        ]
        names = ["input_ids", "attention_mask"]
        if "token_type_ids" in self.tokenizer.model_input_names:
            names.append("token_type_ids")
        for name in names:
            flat = pad_rows([one[name] for one in sets], self.fill[name], self.padding_side)
            batch[name] = flat.unflatten(0, (len(rows), -1))  # (n, sets, tokens)
        first = batch["attention_mask"].argmax(-1)  # (n, sets)
        batch["mask_position"] = first + torch.tensor([[row["mask_position"]] for row in rows])
        return batch

    @cached_property
    def num_segments(self) -> int:
        """The number of segments that the model distinguishes."""
        return getattr(load_config(self.plm), "type_vocab_size", 1)

    def longest(self, data: Any, split: str) -> int:
        """The most tokens of a row in a split of `data` (a `TaskData`), including its demonstrations."""
        query = super().longest(data, split)
        if not self.demonstrations:
            return query
        shown = max(map(len, data.encode_once("train")["demonstration_ids"]), default=0)
        return min(query + shown * len(self.words), self.max_length)

    # --- scores ---

    def load(self) -> tuple[PreTrainedModel, list[nn.Parameter]]:
        spans = load_config(self.plm).is_encoder_decoder
        model, fresh = load_model(AutoModelForSeq2SeqLM if spans else AutoModelForMaskedLM, self.plm)
        if fresh:
            raise UserError(
                f"`model.plm`={self.plm!r} has no language-modelling head in its files, by which a prompt is "
                "answered: use one that has, or `SequenceClassification`."
            )
        if not spans and not any(hasattr(model, name) for name in HEADS):
            raise UserError(
                f"`model.plm`={self.plm!r} is a {model.config.model_type}, whose head `PromptClassification` does not "
                "know: use a model of BERT's or RoBERTa's family, or a T5."
            )
        return model, []

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the label words, `(n, classes)`: the mean over the sets of demonstrations.

        For a number these are the log-probabilities of its two words, from the mean of the probabilities.
        """
        names = ("mask_position", "input_ids", "attention_mask", "token_type_ids")
        inputs = [name for name in names if name in batch]
        each = [
            self._word_scores(dict(zip(inputs, one, strict=True)))
            for one in zip(*(batch[name].unbind(1) for name in inputs), strict=True)
        ]
        scores = torch.stack(each)  # (sets, n, classes)
        if self.task.is_regression:
            return scores.log_softmax(-1).logsumexp(0) - math.log(len(each))
        return scores.mean(0)

    def _word_scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """Scores of the label words for one set, `(n, classes)`, in the order of the classes."""
        assert self.model is not None
        position = inputs.pop("mask_position")
        if self.model.config.is_encoder_decoder:
            begin = [self.model.config.decoder_start_token_id, self.template.mask_id]
            answer = torch.tensor(begin, device=position.device).expand(len(position), -1)
            scores = self.model(**inputs, decoder_input_ids=answer, use_cache=False).logits[:, -1]
        else:
            # Apply the head only at the mask: the vocabulary's scores at every token would take most of the memory.
            states = self.model.base_model(**inputs, **self.positions(inputs["attention_mask"])).last_hidden_state
            head = next(getattr(self.model, name) for name in HEADS if hasattr(self.model, name))
            scores = head(states[torch.arange(len(states), device=states.device), position])
        return scores[:, self._class_ids].float()

    @cached_property
    def _class_ids(self) -> list[int]:
        """The token of each class's word, in the classes' order."""
        by_label = dict(zip(self.words, self.word_ids, strict=True))
        return [by_label[label] for label in self.task.labels or self.words]

    def _losses(self, scores: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy; for a number, the divergence of its two words' probabilities from the target ones."""
        if not self.task.is_regression:
            return F.cross_entropy(scores, label, reduction="none")
        low, high = self.task.span
        p = (label - low) / (high - low)
        return F.kl_div(scores.log_softmax(-1), torch.stack([1 - p, p], -1), reduction="none").sum(-1)

    def training_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        scores = self(batch)
        return self._losses(scores, batch["label"]), scores.log_softmax(-1)

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        scores = self(batch)
        prediction = self._number(scores) if self.task.is_regression else scores.argmax(-1)
        return prediction, self._losses(scores, batch["label"])

    def _number(self, scores: Tensor) -> Tensor:
        """The predicted number, `(n,)`."""
        low, high = self.task.span
        return low + (high - low) * scores.softmax(-1)[:, 1]

    def scores(self, batch: Batch) -> Tensor:
        scores = self(batch)
        return self._number(scores)[:, None] if self.task.is_regression else scores.softmax(-1)
