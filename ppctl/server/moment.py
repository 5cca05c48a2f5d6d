"""The rounds of the worker's event loop: what has been looked up once in a round need not be again.

The requests that are answered in a round were sent before it began: by clients that the kernel has told of
then. So whatever was stored before one of them was sent has been seen by the first look in the round. Where
that is not so (a connection that has just been accepted, a request behind another one) a new round begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_number = 0


def begin() -> None:
    """Begin a round. For the event loop alone."""
    global _number  # noqa: PLW0603 - a process has one event loop
    _number += 1


class Once(Generic[T]):
    """Asks `look` once in a round. For the event loop alone."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._asked = -1
        self._found: T

    def get(self) -> T:
        """Return what there is in this round. Raises what `look` raises."""
        if self._asked != _number:
            self._found = self._look()
            self._asked = _number
        return self._found
