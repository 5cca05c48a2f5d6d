"""What is to be done in a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Later:
    """Paths that want to be looked at so many seconds after they were added."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def add(self, path: str) -> None:
        """Add a path, unless it is there."""
        self._due.setdefault(path, self._clock() + self._seconds)

    def drop(self, path: str) -> None:
        """Forget a path."""
        self._due.pop(path, None)

    def next(self) -> float | None:
        """Return in how many seconds the first one is due; None when there is none."""
        first = next(iter(self._due.values()), None)
        return None if first is None else max(0.0, first - self._clock())

    def take_due(self) -> list[str]:
        """Return those that are due, and forget them."""
        found = []
        while self.next() == 0.0:
            found.append(self._due.popitem(last=False)[0])
        return found
