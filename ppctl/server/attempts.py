"""Wrong logins are slowed down: by user and address together, and by address.

Never by user alone: whoever names somebody else's account, from wherever, must not keep its owner out. What
many addresses can try of one account is bounded by how many hashes are computed (ppctl.server.hashing).
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

LIMIT = 4096
"""How many of each kind are remembered; the one that was not seen for the longest time is forgotten."""

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
    """The wrong logins of the last minutes, in this worker. Safe to use from many threads."""

    def __init__(self, *, clock: Clock = time.monotonic, limit: int = LIMIT) -> None:
        self._pairs = _Buckets(BY_USER_AND_ADDRESS, clock, limit)
        self._addresses = _Buckets(BY_ADDRESS, clock, limit)
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._limit = limit
        self._lock = threading.Lock()

    def begin(self, user: str, address: str) -> None:
        """Count an attempt as wrong, before it is looked at: many at once are no way around. Raises TooMany.

        An attempt that is refused does not count.
        """
        pair, network = _pair(user, address), network_of(address)
        with self._lock:
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
        with self._lock:
            self._pairs.forget(pair)
            self._addresses.give_back(network_of(address))
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)

    def is_known(self, user: str, address: str) -> bool:
        """Return whether this user has logged in from this address before."""
        return _pair(user, address) in self._known

    def __len__(self) -> int:
        return len(self._pairs) + len(self._addresses) + len(self._known)


class _Buckets:
    """What is left of a rate, for each key: the time at which all of it will be there again."""

    def __init__(self, rate: Rate, clock: Clock, limit: int) -> None:
        self._rate = rate
        self._clock = clock
        self._limit = limit
        self._full: OrderedDict[Hashable, float] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Return how many seconds it takes until there is one more; 0 if there is one."""
        room = (self._rate.at_once - 1) * self._rate.seconds
        return max(0.0, self._full.get(key, 0.0) - self._clock() - room)

    def take(self, key: Hashable) -> None:
        self._full[key] = max(self._full.get(key, 0.0), self._clock()) + self._rate.seconds
        self._full.move_to_end(key)
        if len(self._full) > self._limit:
            self._full.popitem(last=False)

    def give_back(self, key: Hashable) -> None:
        if key in self._full:
            self._full[key] -= self._rate.seconds

    def forget(self, key: Hashable) -> None:
        self._full.pop(key, None)

    def __len__(self) -> int:
        return len(self._full)


def network_of(address: str) -> str:
    """Return what stands for one client: an IPv4 address, or the /64 that everybody with IPv6 has."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, 64), strict=False))
    except ValueError:
        return address


def _pair(user: str, address: str) -> Hashable:
    return (user[:256], network_of(address))
