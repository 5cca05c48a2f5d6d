"""How hard the tests try: `make unit` is to be quick, `make test` is to find something."""

from __future__ import annotations

import os

QUICK = os.environ.get("PPCTL_QUICK_TESTS") == "1"
"""Whether properties get few examples, and long series of cases are thinned out."""


def examples(number: int) -> int:
    """Return how many examples a property gets that is to have `number` of them."""
    return max(10, number // 10) if QUICK else number


def every(number: int) -> int:
    """Return the step through a long series of cases: one out of `number`, or each of them."""
    return number if QUICK else 1
