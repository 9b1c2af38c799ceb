"""Few-shot splits of Gao et al., LM-BFF, 2021, arXiv:2012.15723, and of LiST and SetFit: a few rows a class."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from lightning.pytorch.trainer.states import TrainerFn

from kronlit.config.user_error import UserError, did_you_mean
from kronlit.data import benchmark, lm_bff
from kronlit.data.movie_reviews import MovieReviews
from kronlit.data.sampling import first_rows, lm_bff_order, rows_per_class, setfit_rows
from kronlit.data.tasks.few_shot import MOVIE_REVIEWS, TASKS, FewShotTask
from kronlit.data.text import TextData


class FewShot(TextData):
    """A few labelled rows of a task for training, and its whole official set for testing.

    The splits equal the published ones of LM-BFF, in the same order, if `path` or the hub has the original rows in
    their original order. The hub has it for cola, mrpc, rte and stsb. The hub's qqp lacks a few malformed lines of the
    original, so its splits differ, although the rule is the same. The hub's other tasks were not compared.

    Args:
        task: sst2 (6,920 sentences, not GLUE's 67,349 phrases), sst5, mr, cr, mpqa, subj, trec, cola, mnli, mnli_mm
            (mnli tested on the mismatched set), snli, qnli, rte, mrpc, qqp, stsb, or movie_reviews (those of
            `MovieReviews`).
        path: a folder of LM-BFF's original data (`<NAME>/train.tsv` or `.csv`, or stsa.fine.train and the like), of
            published splits (`<NAME>/<k>-<seed>/`), or in the hub's layout (`<task>/<split>.parquet`), where the rows
            may also be .jsonl, or .csv with a header, of the task's columns and `label`, the class's number or name;
            by default the hub, which has no mr, cr, mpqa, subj and trec in LM-BFF's order.
        k: rows of each class; for `list`, in all.
        split_seed: selects the split; LM-BFF has 13, 21, 42, 87 and 100, LiST 1 to 5.
        sampling: `lm_bff`, the first k rows of each class in a permutation (of stsb, below 2.5 and from there on);
            `list`, the first k rows of it, balanced or not; `setfit`, as its `sample_dataset` draws them; or
            `published`, the files of `path` as they are.
        protocol: `lm_bff` selects the checkpoint on the next k rows of each class; `true_few_shot` has no validation
            rows, so that the last weights count, as for LiST and AdaMix.
        dev: how many rows LM-BFF selects on, `k_shot` or `k_shot_10x`, ten times as many.
        batch_size: rows per training step and device.
        **kwargs: what `TextData` takes.
    """

    def __init__(
        self,
        task: str,
        path: str | None = None,
        k: int = 16,
        split_seed: int = 42,
        sampling: Literal["lm_bff", "list", "setfit", "published"] = "lm_bff",
        protocol: Literal["lm_bff", "true_few_shot"] = "lm_bff",
        dev: Literal["k_shot", "k_shot_10x"] = "k_shot",
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        if task not in TASKS:
            raise UserError(
                f"`data.task`={task!r} is no few-shot task; there are {', '.join(TASKS)}{did_you_mean(task, TASKS)}"
            )
        if k < 1:
            raise UserError(f"`data.k`={k} must be at least 1.")
        if not 0 <= split_seed < 2**32:
            raise UserError(f"`data.split_seed`={split_seed} must lie between 0 and 2^32 - 1.")
        check_protocol(sampling, protocol, dev)
        if sampling == "published" and (path is None or TASKS[task].layout is None):
            raise UserError(
                "`data.sampling`='published' reads `<NAME>/<k>-<seed>/train.tsv` or `.csv` of one of LM-BFF's tasks: "
                "give their folder with `--data.path`."
            )
        super().__init__(
            TASKS[task].task,
            batch_size=batch_size,
            max_train_samples=None,
            sample_seed=split_seed,
            max_tokens=None,
            **kwargs,
        )
        self.path = path
        self.k = k
        self.split_seed = split_seed
        self.sampling = sampling
        self.protocol = protocol
        self.dev = dev
        self._sources: dict[str, Dataset] = {}

    @property
    def known(self) -> FewShotTask:
        """What is known of the task."""
        return TASKS[self.task.name]

    def validation_splits(self) -> tuple[str, ...]:
        return ("validation",) if self.protocol == "lm_bff" else ()

    def held_out(self, split: str) -> bool:
        return split == "validation"

    def load(self, split: str) -> Dataset:
        if self.sampling == "published":
            return self._load_published(split)
        if split == "test":
            return drop_unlabelled(self._source("test"))
        rows = self._source("train")
        return rows.select(self._draw_rows(self._classes(rows), split))

    def _load_published(self, split: str) -> Dataset:
        layout = self.known.layout
        assert self.path is not None
        assert layout is not None
        file = lm_bff.published_file(Path(self.path), layout, self.k, self.split_seed, split)
        if file is None:
            raise UserError(
                f"`data.path`={self.path!r} has no {split} file for {layout.name}/{self.k}-{self.split_seed}; "
                "`data.k` and `data.split_seed` must be those of a split that is there."
            )
        return drop_unlabelled(lm_bff.read(file, self.known))

    def _source(self, split: Literal["train", "test"]) -> Dataset:
        """All official rows to draw from (`train`) or to test on (`test`), read once."""
        if split not in self._sources:
            self._sources[split] = self._read(split)
        return self._sources[split]

    def _read(self, split: Literal["train", "test"]) -> Dataset:
        if self.task is MOVIE_REVIEWS:
            return MovieReviews().load(split)
        if self.path is not None and (file := lm_bff.original_file(Path(self.path), self.known, split)) is not None:
            rows = lm_bff.read(file, self.known)
            self.check(rows, f"{self.task.name}/{split}")
            return rows
        official = "train" if split == "train" else self.known.test
        rows = self._read_hub(official) if self.path is None else self._read_own(Path(self.path), split, official)
        self.check(rows, f"{self.task.name}/{official}")
        return drop_unlabelled(rows) if self.known.unlabelled else rows

    def _read_hub(self, official: str) -> Dataset:
        if self.known.hub is None:
            raise UserError(
                f"no hub data set has {self.task.name} in LM-BFF's order: give a folder of its data with `--data.path` "
                "(data/download_dataset.sh of github.com/princeton-nlp/LM-BFF fetches it)."
            )
        return benchmark.read_split(self.known.hub.id, self.known.hub.config, official, None)

    def _read_own(self, path: Path, split: str, official: str) -> Dataset:
        folder, layout = self.known.hub_folder, self.known.layout
        if any(Path(path, folder).glob(f"{official}*.parquet")):
            return benchmark.read_split("", folder, official, self.path)
        if (file := lm_bff.own_file(path, self.known, split, official)) is not None:
            return lm_bff.read(file, self.known)
        theirs = f"{layout.name}/{split}{layout.suffix} or another file of LM-BFF's" if layout else "LM-BFF's files"
        raise UserError(
            f"`data.path`={self.path!r} has the {split} rows of {self.task.name} neither as {theirs} nor as "
            f"{folder}/{official}.parquet, .jsonl or .csv with the columns {', '.join(self.task.columns)}, label."
        )

    def _classes(self, rows: Dataset) -> np.ndarray:
        """The class of each row for drawing, -1 if it has none. A number counts by its half of the span."""
        label = np.array(rows["label"][:])
        if not self.task.is_regression:
            return label
        return np.where(label == -1, -1, label >= sum(self.task.span) / 2).astype(int)

    def _draw_rows(self, classes: np.ndarray, split: str) -> list[int]:
        """Draw the row numbers of the training or validation split."""
        if self.sampling == "list":
            rows = first_rows(classes, self.k, self.split_seed)
        elif self.sampling == "setfit":
            rows = setfit_rows(classes, self.k, self.split_seed)
        else:
            order = lm_bff_order(len(classes), self.split_seed, cumulative=self.known.cumulative)
            last = {"k_shot": 2, "k_shot_10x": 11}[self.dev] * self.k
            first, last = (0, self.k) if split == "train" else (self.k, last)
            rows = rows_per_class(classes, order, first, last)
        needed = self.k * (1 if self.sampling == "list" else len(set(classes.tolist()) - {-1}))
        if split == "train" and len(rows) < needed:
            raise UserError(f"`data.k`={self.k} asks for {needed} training rows; {self.task.name} has {len(rows)}.")
        return rows

    def val_dataloader(self) -> list[Any]:
        assert self.trainer is not None
        if self.protocol == "true_few_shot" and self.trainer.state.fn == TrainerFn.VALIDATING:
            raise UserError(
                "`data.protocol`='true_few_shot' has no validation rows: use `test`, or 'lm_bff' as "
                "`data.protocol` and `data.sampling`."
            )
        return super().val_dataloader()


def drop_unlabelled(rows: Dataset) -> Dataset:
    """Keep only the rows that have a label."""
    label = rows["label"][:]
    return rows if -1 not in label else rows.select([row for row, value in enumerate(label) if value != -1])


def check_protocol(sampling: str, protocol: str, dev: str) -> None:
    """Raise `ValueError` if the way of drawing rows leaves none to select a checkpoint on."""
    if protocol == "lm_bff" and sampling in ("list", "setfit"):
        raise UserError(
            f"`data.sampling`={sampling!r} draws no validation rows, on which `data.protocol`='lm_bff' selects: "
            "use the protocol `true_few_shot`."
        )
    if dev != "k_shot" and (protocol, sampling) != ("lm_bff", "lm_bff"):
        raise UserError(
            f"`data.dev`={dev!r} needs `data.protocol` and `data.sampling` to be 'lm_bff': nothing else draws it."
        )
