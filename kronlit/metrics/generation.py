"""Scores of generated texts against all their references: BLEU, NIST, ROUGE-L, CIDEr, TER and exact match.

BLEU and TER come from sacrebleu, ROUGE-L and CIDEr from pycocoevalcap, which the official E2E script uses (the `nlg`
extra). NIST is implemented here. nltk's takes the best single reference, while the official script counts the n-grams
of all references; on E2E, with eight references, nltk's NIST is lower by one point in nine. METEOR needs Java and is
left out.
"""

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task

Texts = list[str]
References = list[list[str]]


class GenerationMetrics(Metric):
    """All metrics of a task of generated texts over a split, the loss per target token and the perplexity.

    `score`, which selects the checkpoint, is the task's first metric if texts were generated, else the negative loss.
    Rows are gathered from all processes, and each counts once.

    Args:
        task: the task; `task.metrics` are some of `METRICS`.

    Raises:
        ValueError: if the task has other metrics, or the libraries are missing.
    """

    full_state_update = False

    def __init__(self, task: Task, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not task.free_text or not set(task.metrics) <= METRICS.keys():
            job = "ImageClassification" if task.columns == ("image",) else "TextToText"
            raise UserError(f"{task.name!r} is no task of generated texts: use `{job}`, not `CausalLM`.")
        needed = () if set(task.metrics) <= {"exact_match"} else LIBRARIES
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"{task.name!r} is scored with {' and '.join(missing)}, which is missing: pip install 'kronlit[nlg]'."
            )
        self.task = task
        self.rows: dict[int, tuple[float, int, str | None, list[str]]] = {}

    def update(
        self, row: Tensor, loss: Tensor, tokens: Tensor, references: References, texts: Texts | None = None
    ) -> None:
        """Add rows.

        Args:
            row: index of each row, `(n,)`.
            loss: sum of the loss over its target tokens, `(n,)`.
            tokens: number of its target tokens, `(n,)`.
            references: all correct texts of each row.
            texts: the generated text of each row, if texts were generated.
        """
        written: list[str | None] = [None] * len(references) if texts is None else [*texts]
        columns = (loss.tolist(), tokens.tolist(), written, references)
        self.rows |= dict(zip(row.tolist(), zip(*columns, strict=True), strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what `compute` returns if texts were generated."""
        return (*self.task.metrics, "score", "loss", "perplexity")

    def compute(self) -> dict[str, Tensor]:
        rows = gather_rows(self.rows)
        losses, tokens, texts, references = zip(*(rows[row] for row in sorted(rows)), strict=True)
        loss = math.fsum(losses) / sum(tokens)
        values: dict[str, float] = {}
        if None not in texts:
            values = scores(self.task, list(texts), list(references))
        score = values[self.task.metrics[0]] if values else -loss
        values |= {"score": score, "loss": loss, "perplexity": math.exp(loss)}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def reset(self) -> None:
        super().reset()
        self.rows = {}


def gather_rows(rows: dict[int, Any]) -> dict[int, Any]:
    """Gather the rows of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts: list[dict[int, Any]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, rows)
    return {row: value for part in parts for row, value in part.items()}


def scores(task: Task, texts: Texts, references: References) -> dict[str, float]:
    """The metrics of `task` over a whole split.

    If the task has `word_split`, texts are first lower-cased and split into words and single other characters, as
    LoRA's and AdaMix's code does for WebNLG and DART before it calls the script. That script keeps six references per
    row; here all count.
    """
    if task.word_split:
        texts, references = [tokenize(text) for text in texts], [[tokenize(text) for text in row] for row in references]
    return {name: METRICS[name](texts, references) for name in task.metrics}


def tokenize(text: str) -> str:
    """Lower-case words and single other characters, separated by spaces."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


@lru_cache(maxsize=2**16)
def bleu_tokens(text: str) -> tuple[str, ...]:
    """The tokens of mteval-v13a in lower case, which the official E2E script uses for BLEU and NIST."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return tuple(Tokenizer13a()(text).lower().split())


def caption_words(text: str) -> str:
    """Words without punctuation, for ROUGE-L and CIDEr.

    The official script uses Stanford's tokenizer, in Java. These are the words of mteval-v13a without the marks that
    Stanford's leaves out. On human texts of E2E's test set ROUGE-L differs by 0.0001 and CIDEr by 0.002.
    """
    return " ".join(word for word in bleu_tokens(text) if word not in PUNCTUATION)


PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".lower().split())
"""The tokens that pycocoevalcap's tokenizer leaves out."""


def bleu(texts: Texts, references: References) -> float:
    """BLEU-4, Papineni et al., 2002, from 0 to 1: without smoothing, ignoring case, on tokens of mteval-v13a."""
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    streams = [[row[i] if i < len(row) else None for row in references] for i in range(most)]
    metric = BLEU(lowercase=True, smooth_method="none", force=True)
    return metric.corpus_score(texts, streams).score / 100


def ter(texts: Texts, references: References) -> float:
    """Translation edit rate, Snover et al., 2006: the number of edits per word of the reference; 0 is best.

    As in the script of WebNLG and DART, it is the lowest rate over a row's references, and the mean of these over rows.
    sacrebleu counts the edits.
    """
    from sacrebleu.metrics import TER

    metric = TER()
    lowest = []
    for text, row in zip(texts, references, strict=True):
        best = math.inf
        for bound, reference in sorted((fewest_edits(text, reference), reference) for reference in row):
            if bound >= best:  # counting edits is slow, and this skips two references in three
                break
            best = min(best, metric.sentence_score(text, [reference]).score / 100)
        lowest.append(best)
    return math.fsum(lowest) / len(lowest)


def fewest_edits(text: str, reference: str) -> float:
    """A lower bound of the translation edit rate, in which moving words costs nothing."""
    own, right = text.lower().split(), reference.lower().split()
    shared = sum((Counter(own) & Counter(right)).values())
    return (max(len(own), len(right)) - shared) / max(len(right), 1)


def rouge_l(texts: Texts, references: References) -> float:
    """ROUGE-L as for COCO's captions: the mean F score of the longest common subsequence, from 0 to 1."""
    from pycocoevalcap.rouge.rouge import Rouge

    return caption_score(Rouge().compute_score, texts, references)


def cider(texts: Texts, references: References) -> float:
    """CIDEr-D, Vedantam et al., 2015, from 0 to 10, with document frequencies counted in the references."""
    from pycocoevalcap.cider.cider import Cider

    return caption_score(Cider().compute_score, texts, references)


def caption_score(score: Callable[..., tuple[float, Any]], texts: Texts, references: References) -> float:
    """A score of pycocoevalcap over all rows."""
    right = {number: [caption_words(text) for text in row] for number, row in enumerate(references)}
    return float(score(right, {number: [caption_words(text)] for number, text in enumerate(texts)})[0])


def nist(texts: Texts, references: References, order: int = 5) -> float:
    r"""NIST, Doddington, 2002, equation 3: informative n-grams count for more.

    An n-gram's information is :math:`\log_2` of the count of its first n - 1 words over its own, in all references. For
    each n up to `order`, the information of the n-grams that a text shares with any of its references is divided by
    the number of n-grams in the texts; their sum is reduced where texts are shorter than the mean reference. Tokens are
    those of `bleu_tokens`.
    """
    pairs = [
        (bleu_tokens(text), [bleu_tokens(reference) for reference in row])
        for text, row in zip(texts, references, strict=True)
    ]
    total: Counter[tuple[str, ...]] = Counter()
    for _, row in pairs:
        for reference in row:
            total[()] += len(reference)
            for n in range(1, order + 1):
                total.update(ngrams(reference, n))
    precisions = []
    for n in range(1, order + 1):
        shared, possible = 0.0, 0
        for text, row in pairs:
            own, right = ngrams(text, n), Counter[tuple[str, ...]]()
            for reference in row:
                right |= ngrams(reference, n)
            shared += sum(math.log2(total[gram[:-1]] / total[gram]) * count for gram, count in (own & right).items())
            possible += sum(own.values())
        precisions.append(shared / max(possible, 1))
    length = sum(len(text) for text, _ in pairs)
    mean_length = sum(sum(map(len, row)) / len(row) for _, row in pairs)
    return sum(precisions) * brevity(length / mean_length)


def ngrams(tokens: tuple[str, ...], n: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram occurs."""
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def brevity(ratio: float) -> float:
    """NIST's brevity penalty: 1 for texts as long as their references, 0.5 for texts two thirds as long."""
    if ratio <= 0:
        return 0.0
    return math.exp(math.log(0.5) * (math.log(min(ratio, 1.0)) / math.log(1.5)) ** 2)


def exact_match(texts: Texts, references: References) -> float:
    """The share of texts that are one of their references, but for space around them."""
    right = [text.strip() in map(str.strip, row) for text, row in zip(texts, references, strict=True)]
    return sum(right) / len(right)


LIBRARIES = ("sacrebleu", "pycocoevalcap")
"""What all metrics but the exact match come from, or what splits their words."""
METRICS = {
    "bleu": bleu,
    "nist": nist,
    "rouge_l": rouge_l,
    "cider": cider,
    "ter": ter,
    "exact_match": exact_match,
}
