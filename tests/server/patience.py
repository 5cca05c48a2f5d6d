"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 10.0
"""A busy machine is no failure: how often the time that something should take is waited for."""

LEAST_PATIENCE = 30.0
"""So long is waited at least: a process may not get its turn for some seconds."""


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return whether `condition` comes true, in `seconds` on a quiet machine."""
    until = time.monotonic() + max(LEAST_PATIENCE, PATIENCE * seconds)
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
