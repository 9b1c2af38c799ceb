"""`python -m kronlit.side_by_side < runs.json` trains several runs; for the form see `kronlit.side_by_side.command`."""

import json
import sys

from kronlit.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import
    from kronlit.side_by_side.command import main

    main(json.load(sys.stdin))
