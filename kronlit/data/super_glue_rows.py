"""SuperGLUE's rows as Raffel et al. (T5, arXiv:1910.10683, appendix D) and Mahabadi et al. prepare them."""

import re
from typing import Any

from datasets import Dataset

Row = dict[str, Any]


def prepare_multirc(row: Row) -> Row:
    """Remove the HTML, and add the number of the question: its answers are scored together."""
    texts = {name: re.sub("</?b>", "", row[name].replace("<br>", " ")) for name in ("question", "answer", "paragraph")}
    return texts | {"group": row["idx"]["question"]}


def prepare_wsc(row: Row) -> Row:
    """Put `*` around the first span of the text and `#` around the second."""
    text = mark_span(row["text"], row["span1_text"], row["span1_index"], "*")
    index = row["span2_index"] + 2 * (row["span1_index"] < row["span2_index"])  # the marks of span 1 count as words
    return {"text": mark_span(text, row["span2_text"], index, "#")}


def mark_span(text: str, span: str, index: int, mark: str) -> str:
    """Put `mark` on both sides of `span`, which begins at word number `index`; no change if it is not there."""
    return re.sub(rf"^((?:\S+\s){{{index}}})({re.escape(span)})", rf"\1{mark} \2 {mark}", text)


def prepare_record(rows: Dataset, one_row_an_answer: bool) -> Dataset:
    """Join ReCoRD's entities to one text; with `one_row_an_answer`, give each answer its own row."""

    def prepared(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"query": [], "entities": [], "passage": [], "answers": [], "idx": []}
        for query, entities, passage, answers, idx in zip(
            batch["query"], batch["entities"], batch["passage"], batch["answers"], batch["idx"], strict=True
        ):
            if isinstance(entities, str) or isinstance(answers, str):
                raise TypeError("entities and answers must be lists of texts")  # of a text, each letter would be one
            passage = re.sub(r"(\.|\?|\!|\"|\')\n@highlight\n", r"\1 ", passage)
            passage = re.sub(r"\n@highlight\n", ". ", passage)
            for some in [[answer] for answer in answers] if one_row_an_answer else [answers]:
                for name, value in zip(columns, (query, ", ".join(entities), passage, some, idx), strict=True):
                    columns[name].append(value)
        return columns

    return rows.map(prepared, batched=True, remove_columns=rows.column_names)
