"""Many hosts: ppctl, the same with native Ansible tasks, and the same with pyinfra, in one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, and write the page. `arguments`: `--hosts 1,5,20`."""
    from benchmarks.fleet.run import main as measure

    parser = argparse.ArgumentParser(prog="python -m benchmarks fleet", description=__doc__)
    parser.add_argument("--hosts", default="1,5,20", metavar="N,…", help="how many (default: 1,5,20)")
    measure([int(count) for count in parser.parse_args(arguments).hosts.split(",")])
