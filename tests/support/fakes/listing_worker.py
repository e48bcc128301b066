"""Runs the real worker and writes the names of all modules that it has loaded to a file.

python -m tests.support.fakes.listing_worker FILE --events-fd N ...
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch


def main() -> None:
    file = Path(sys.argv.pop(1))
    before, leave = {*sys.modules}, os._exit

    def write_and_leave(status: int) -> None:
        # A stand-in has no spec.
        loaded = {name for name, m in sys.modules.items() if getattr(m, "__spec__", None)}
        file.write_text(json.dumps(sorted(loaded - before)))
        leave(status)

    with patch("os._exit", write_and_leave):
        from worker.__main__ import main

        main()


if __name__ == "__main__":
    main()
