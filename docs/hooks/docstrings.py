"""What mkdocstrings should read otherwise than it does: Sphinx's `:math:`, and the heading `Example:`."""

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Write mathematics as Markdown does, and examples as Google's style names their section."""
        if obj.docstring:
            text = re.sub(r":math:`([^`]+)`", r"$\1$", obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
