"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 10.0
"""A busy machine is no failure: how often the time that something should take is waited for."""


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return whether `condition` comes true, in `seconds` on a quiet machine."""
    until = time.monotonic() + PATIENCE * seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
