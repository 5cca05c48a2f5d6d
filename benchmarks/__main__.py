"""`python -m benchmarks [NAME...]`: run the benchmarks, print their tables, write docs/benchmarks/NAME.md.

`python -m benchmarks server --help` says how to measure a part of the server.
"""

from __future__ import annotations

import argparse
import importlib
import sys

NAMES = ("operating", "restart", "server")


def main() -> None:
    """Run the benchmarks that were asked for; without a name all of them."""
    if sys.argv[1:2] == ["server"] and len(sys.argv) > 2 and sys.argv[2] not in NAMES:
        importlib.import_module("benchmarks.server").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"no such benchmark: {name} (there are: {', '.join(NAMES)})")
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
