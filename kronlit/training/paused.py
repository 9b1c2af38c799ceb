"""The note that a run leaves in its folder when it pauses after some epochs."""

import json
from contextlib import suppress
from pathlib import Path

PAUSED = "paused.json"


def paused_after(folder: Path) -> int:
    """The epochs after which the run in a folder paused last; 0 if it never did."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((folder / PAUSED).read_text(encoding="utf-8"))["epochs"])
    return 0
