"""`python -m benchmarks [NAME...]`: run the benchmarks, print their tables, write docs/benchmarks/NAME.md.

`python -m benchmarks server --help`, and `fleet --help`, say how to measure a part of it.
"""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("fleet", "operating", "restart", "server")
WITH_OPTIONS = ("fleet", "server")


def main() -> None:
    """Run the benchmarks that were asked for; without a name all of them."""
    name, *rest = sys.argv[1:] or [""]
    if name in WITH_OPTIONS and rest and rest[0] not in NAMES:
        importlib.import_module(f"benchmarks.{name}").main(rest)
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"no such benchmark: {name} (there are: {', '.join(NAMES)})")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
