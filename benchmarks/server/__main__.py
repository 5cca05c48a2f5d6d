"""`python -m benchmarks.server [--files N...] [--seconds S] [--only NAME...]`."""

from __future__ import annotations

import argparse

from benchmarks.server.run import SERVERS, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10000, 50000])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", choices=SERVERS, nargs="+", default=list(SERVERS))
    wanted = parser.parse_args()
    main(wanted.files, wanted.seconds, wanted.only)
