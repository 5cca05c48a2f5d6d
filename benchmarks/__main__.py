"""`python -m benchmarks [NAME...]`: run the benchmarks, print their tables, write docs/benchmarks/NAME.md."""

from __future__ import annotations

import argparse
import importlib

NAMES = ("fleet", "operating", "restart", "server")


def main() -> None:
    """Run the benchmarks that were asked for; without a name all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    asked, options = parser.parse_known_args()
    names = asked.names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"no such benchmark: {name} (there are: {', '.join(NAMES)})")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main(*([options] if options else []))


if __name__ == "__main__":
    main()
