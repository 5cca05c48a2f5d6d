"""Wrong logins are slowed down: by user and address together, and by address.

Never by user alone: whoever names somebody else's account, from wherever, must not keep its owner out. What
many addresses can try of one account is bounded by how many hashes are computed (ppctl.server.hashing).
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ppctl.server.shared import Table

LIMIT = 8192
"""About how many users and addresses are remembered; those that have waited for the longest are forgotten."""

FILE_NAME = "attempts.table"

Clock = Callable[[], float]


class Rate(NamedTuple):
    """So many at once, and from then on one more every so many seconds."""

    at_once: int
    seconds: float


BY_USER_AND_ADDRESS = Rate(10, 10.0)
BY_ADDRESS = Rate(30, 3.0)


class TooMany(Exception):
    """There were too many wrong logins. `seconds`: when the next one is looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__("Too many wrong logins")
        self.seconds = seconds


class Attempts:
    """The wrong logins of the last minutes, in all workers: they share the file `path`. For many threads."""

    def __init__(
        self, path: Path | None = None, *, clock: Clock = time.monotonic, limit: int = LIMIT
    ) -> None:
        self._table = Table(path, limit)
        self._pairs = _Buckets(BY_USER_AND_ADDRESS, clock, self._table)
        self._addresses = _Buckets(BY_ADDRESS, clock, self._table)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._limit = limit

    def begin(self, user: str, address: str) -> None:
        """Count an attempt as wrong, before it is looked at: many at once are no way around. Raises TooMany.

        An attempt that is refused does not count.
        """
        pair, network = _pair(user, address), network_of(address)
        with self._table.alone():
            wait = self._pairs.wait(pair)
            # Somebody who has got in from there before is not held up by others at the same address.
            if pair not in self._known:
                wait = max(wait, self._addresses.wait(network))
            if wait > 0:
                raise TooMany(wait)
            self._pairs.take(pair)
            self._addresses.take(network)

    def succeeded(self, user: str, address: str) -> None:
        """Take back what `begin` has counted: the login was right."""
        pair = _pair(user, address)
        with self._table.alone():
            self._pairs.forget(pair)
            self._addresses.give_back(network_of(address))
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)

    def is_known(self, user: str, address: str) -> bool:
        """Return whether this user has logged in from this address before, at this worker."""
        return _pair(user, address) in self._known


class _Buckets:
    """What is left of a rate, for each key: the table has the time at which all of it will be there again."""

    def __init__(self, rate: Rate, clock: Clock, table: Table) -> None:
        self._rate = rate
        self._clock = clock
        self._table = table

    def wait(self, key: str) -> float:
        """Return how many seconds it takes until there is one more; 0 if there is one."""
        room = (self._rate.at_once - 1) * self._rate.seconds
        return max(0.0, self._full(key) - self._clock() - room)

    def take(self, key: str) -> None:
        self._put(key, max(self._full(key), self._clock()) + self._rate.seconds)

    def give_back(self, key: str) -> None:
        full = self._full(key)
        if full:
            self._put(key, full - self._rate.seconds)

    def forget(self, key: str) -> None:
        self._put(key, 0.0)

    def _full(self, key: str) -> float:
        return self._table.get(self._named(key), self._latest())

    def _put(self, key: str, time: float) -> None:
        self._table.put(self._named(key), time, self._latest())

    def _latest(self) -> float:
        # Of either rate, or one would take the other's entries for lost ones.
        return self._clock() + max(rate.at_once * rate.seconds for rate in (BY_USER_AND_ADDRESS, BY_ADDRESS))

    def _named(self, key: str) -> str:
        return f"{self._rate.at_once}\0{key}"


def network_of(address: str) -> str:
    """Return what stands for one client: an IPv4 address, or the /64 that everybody with IPv6 has."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address


def _pair(user: str, address: str) -> str:
    return f"{network_of(address)}\0{user[:256]}"
