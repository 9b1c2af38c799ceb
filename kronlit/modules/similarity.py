"""Sentence embeddings by Sentence-BERT: Reimers and Gurevych, 2019, arXiv:1908.10084, with their library."""

from functools import cached_property
from typing import Any

from kronlit.adapters.state import fingerprint
from kronlit.config.user_error import UserError
from kronlit.modules.plm import resolve_path


class SentenceEncoder:
    """A Sentence-BERT model, which is loaded on first use.

    Args:
        name: hub id or local folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def model(self) -> Any:
        """The model.

        Raises:
            ValueError: if the library is not installed, or the model cannot be loaded.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise UserError(
                "`model.demonstration_filter` needs the package sentence-transformers: "
                "pip install 'kronlit[similarity]'."
            ) from error
        try:
            return SentenceTransformer(resolve_path(self.name)).requires_grad_(False)
        except (OSError, ConnectionError, ValueError) as error:
            raise UserError(
                f"`model.demonstration_filter`={self.name!r} cannot be loaded: {' '.join(str(error).split())[:300]} "
                "Give a hub id that this machine reaches, or a local folder of its layout."
            ) from error

    @property
    def key(self) -> str:
        """A hash of its weights."""
        return fingerprint(self.model)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """The embedding of each text, of length 1."""
        embeddings = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return embeddings.tolist()
