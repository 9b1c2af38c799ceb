"""`python -m kronlit.experimental.side_by_side < runs.json` trains several runs; `command` has the form."""

import json
import sys

from kronlit.training.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import
    from kronlit.experimental.side_by_side.command import side_by_side_command

    side_by_side_command(json.load(sys.stdin))
