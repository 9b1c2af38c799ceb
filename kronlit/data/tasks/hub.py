"""Where the hub has a task's rows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hub:
    """A data set on the hub.

    Args:
        id: of the data set.
        config: name of its configuration there.
        revision: a branch or commit; by default the main branch.
    """

    id: str
    config: str = "default"
    revision: str | None = None
