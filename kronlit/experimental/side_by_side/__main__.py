"""`python -m kronlit.experimental.side_by_side < runs.json` trains several runs; see `command` for the format."""

import json
import sys

from kronlit.training.signals import listen

if __name__ == "__main__":
    listen()  # before the imports, which take seconds
    from kronlit.experimental.side_by_side.command import side_by_side_command

    side_by_side_command(json.load(sys.stdin))
