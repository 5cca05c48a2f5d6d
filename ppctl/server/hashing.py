"""Password hashes are computed here: by few threads, for a bounded number of requests.

A bcrypt hash takes a fifth of a second on purpose. Whoever sends logins faster than that must not take the
threads and the processor from requests that need no hash: anonymous ones, and logins that are remembered.
bcrypt lets Python's other threads run meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

MOST_WAITING = 32
"""How many requests may wait for a hash, in a worker. They occupy none of the threads that serve."""

MOST_STRANGERS = 8
"""For how many logins of users at addresses where they are not known: two seconds' work."""


Aside = Callable[[], AbstractContextManager[Any]]


class Share(NamedTuple):
    """Somebody whose logins are looked at: a user's name, an address; and how many at once."""

    kind: str
    value: str
    most: int


class Busy(Exception):
    """More logins come than can be looked at. It is no use to wait here: ask again in a second."""


class Login(Protocol):
    """A login that is to be looked at. `key`: the same for the same login. `shares`: whom it is for."""

    @property
    def key(self) -> bytes: ...

    @property
    def shares(self) -> Sequence[Share]: ...

    def recall(self) -> bool | None:
        """Return what was found out about it a short while ago; None for nothing."""

    def is_known(self) -> bool:
        """Return whether there is to be room for it, whoever else is waiting."""

    def begin(self) -> None:
        """Prepare to look at it; what this raises, everybody who waits for it gets."""

    def look(self) -> bool:
        """Return whether it is right, which takes long."""


class Hasher:
    """Looks at logins. Safe to use from many threads."""

    def __init__(self, threads: int | None = None) -> None:
        # Two workers leave half of the processors to others.
        count = threads or max(1, len(os.sched_getaffinity(0)) // 2)
        self._pool = ThreadPoolExecutor(count, "hash")
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Future[bool]] = {}
        self._shares: Counter[Share] = Counter()
        self._waiting = 0

    def verify(self, login: Login, aside: Aside = contextlib.nullcontext) -> bool:
        """Return whether a login is right. The same login is looked at once for all that wait for it.

        A client's first requests come together, and they need one hash. `aside`: what the thread is in while
        it waits. Raises Busy, and what `begin` raises.
        """
        with self._lock:
            future = self._under_way.get(login.key)
            known = login.recall() if future is None else None
            if known is not None:
                return known
            if self._waiting >= MOST_WAITING:
                raise Busy
            future = future or self._begin(login)
            self._waiting += 1
        try:
            with aside():
                return future.result()
        finally:
            with self._lock:
                self._waiting -= 1

    def _begin(self, login: Login) -> Future[bool]:
        if not login.is_known() and (
            len(self._under_way) >= MOST_STRANGERS
            or any(self._shares[share] >= share.most for share in login.shares)
        ):
            raise Busy
        login.begin()
        future = self._under_way[login.key] = self._pool.submit(self._look, login)
        self._shares.update(login.shares)
        return future

    def _look(self, login: Login) -> bool:
        try:
            return login.look()
        finally:
            with self._lock:
                del self._under_way[login.key]
                self._shares -= Counter(login.shares)  # and forgets who has none left
