"""How fast the server is, beside others on the same machine in the same run."""

from __future__ import annotations


def main() -> None:
    """Measure, and write the page."""
    from benchmarks.server.run import main as measure

    measure()
