"""`python -m kronlit.side_by_side '[[["fit", ...], "log.txt"], ...]'` prints the exit codes of the fits."""

import json
import sys

from kronlit.side_by_side.command import main

if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
