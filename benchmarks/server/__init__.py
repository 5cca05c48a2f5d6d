"""How fast the server is, beside others on the same machine in the same run."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, and write the page; with options only print the figures."""
    from benchmarks.server import run

    parser = argparse.ArgumentParser(prog="python -m benchmarks server", description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", metavar="N", help="other numbers of files")
    parser.add_argument("--only", choices=run.NAMES, nargs="*", help="these servers beside ppctl")
    parser.add_argument("--quick", action="store_true", help="short rounds, for looking at a change")
    wanted = parser.parse_args(arguments)
    for program in ("wrk", "nginx"):
        if not shutil.which(program):
            sys.exit(f"error: {program} is not installed: apt-get install {program}")
    run.main(
        wanted.files or run.COUNTS,
        1 if wanted.quick else 2,
        run.NAMES if wanted.only is None else wanted.only,
        write=not arguments,
    )
