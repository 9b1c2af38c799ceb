"""`python -m kronlit.side_by_side < runs.json` trains the runs and prints their exit codes, in its last line.

`runs.json` has for each run the words of its command after `kronlit`, and the file to which it adds what it prints.
"""

import json
import sys

from kronlit.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import
    from kronlit.side_by_side.command import main

    print(json.dumps(main(json.load(sys.stdin))))
