"""How a task lies in the folders of Gao et al., LM-BFF, 2021, arXiv:2012.15723, and in the files they come of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How LM-BFF's files hold a task.

    Args:
        name: name of its folder.
        texts: numbers of the columns of text, counted from 0.
        label: number of the column of the label.
        names: the labels as they are written, in the order of their integers; by default the integers.
        suffix: suffix of its files.
        original: name of the file of original rows that are tested on; that of the others is train.
        validation: name of a published split's validation file.
        test: name of a published split's test file.
    """

    name: str
    texts: tuple[int, ...]
    label: int
    names: tuple[str, ...] = ()
    suffix: str = ".tsv"
    original: str = "dev"
    validation: str = "dev"
    test: str = "test"

    def stem(self, split: str) -> str:
        """The name of the original training or test file, without its suffix."""
        return "train" if split == "train" else self.original


@dataclass(frozen=True)
class Treebank:
    """How a task of sentences lies in the files of the Stanford treebank.

    Args:
        name: the beginning of the files' names.
        test: the split to test on.
        brackets: what the files have for `(` and `)`; LM-BFF's have the brackets, in sst2 without the space inside.
    """

    name: str
    test: str
    brackets: tuple[str, str]
