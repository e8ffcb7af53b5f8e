"""`python -m bench`: the command line."""

import sys

# Python puts the current folder first for `-m`, so that a typer.py there would hide the library.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from bench.cli import main

if __name__ == "__main__":
    main()
