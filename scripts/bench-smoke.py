#!/usr/bin/env python3
"""Time ``your_ai benchmark --suite smoke`` with and without cached CPU kernels.

MLX compiles its CPU kernels at first use and keeps them in the temporary folder, so the first run
on a machine is slower.
"""

from __future__ import annotations

import os
import tempfile

from benchlib import benchmark, table


def main() -> None:
    """Run the suite with an empty kernel cache, then again with a full one."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        os.environ["TMPDIR"] = folder
        for cache in ("empty", "full"):
            run = benchmark("--suite", "smoke")
            passed = sum(entry["success"] for entry in run.results)
            rows.append([cache, f"{run.seconds:.1f} s", f"{passed} of {len(run.results)}"])
    table("The smoke suite", ["kernel cache", "wall time (target 60 s)", "passed"], rows)


if __name__ == "__main__":
    main()
