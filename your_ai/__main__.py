"""Entry point of ``python -m your_ai``."""

import sys
from pathlib import Path

# ``-m`` puts the current directory first in sys.path, where a worker.py would hide our package.
if (
    not sys.flags.safe_path
    and sys.path
    and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent
):
    del sys.path[0]

from your_ai.cli import main

if __name__ == "__main__":
    main()
