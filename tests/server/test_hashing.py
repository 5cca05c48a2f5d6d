"""ppctl.server.hashing: slow work for a bounded number of requests, in threads of its own."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from ppctl.server import hashing, htpasswd
from ppctl.server.hashing import MOST_WAITING, Busy, Hasher, Share


@dataclass
class Login:
    """A login that takes until it is told the answer."""

    name: str
    known: bool = False
    recalled: bool | None = None
    shares: tuple[Share, ...] = ()
    go: threading.Event = field(default_factory=threading.Event)
    looked: int = 0
    begun: int = 0
    error: Exception | None = None

    @property
    def key(self) -> bytes:
        return self.name.encode()

    def recall(self) -> bool | None:
        return self.recalled

    def is_known(self) -> bool:
        return self.known

    def begin(self) -> None:
        if self.error:
            raise self.error
        self.begun += 1

    def look(self) -> bool:
        self.looked += 1
        assert self.go.wait(60)
        return self.name != "wrong"


class Crowd:
    """Threads that wait for a hasher."""

    def __init__(self, hasher: Hasher, pool: ThreadPoolExecutor) -> None:
        self.hasher, self._pool = hasher, pool
        self.waits: list[Future[bool]] = []
        self._inside = threading.Semaphore(0)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        self._inside.release()
        yield

    def add(self, login: Login) -> None:
        """Have a thread wait, and return when it does."""
        self.waits.append(self._pool.submit(self.hasher.verify, login, self._aside))
        assert self._inside.acquire(timeout=60)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with ThreadPoolExecutor(MOST_WAITING + 8) as pool:
        yield Crowd(Hasher(threads=1), pool)


def test_the_answer_is_that_of_the_login(crowd: Crowd) -> None:
    for name, answer in (("right", True), ("wrong", False)):
        login = Login(name)
        login.go.set()
        assert crowd.hasher.verify(login) is answer


def test_what_comes_together_is_looked_at_once(crowd: Crowd) -> None:
    login = Login("right")
    for _ in range(MOST_WAITING):
        crowd.add(login)
    login.go.set()
    assert all(wait.result(60) for wait in crowd.waits)
    assert (login.looked, login.begun) == (1, 1)
    # It is over: the next one is looked at by itself.
    assert crowd.hasher.verify(login)
    assert login.looked == 2


def test_more_than_can_wait_are_refused_at_once(crowd: Crowd) -> None:
    login = Login("right")
    for _ in range(MOST_WAITING):
        crowd.add(login)
    with pytest.raises(Busy):
        crowd.hasher.verify(login)
    assert crowd.hasher.verify(Login("other", recalled=True))
    login.go.set()
    assert [wait.result(60) for wait in crowd.waits] == [True] * MOST_WAITING
    assert crowd.hasher.verify(login)


def test_there_is_room_for_those_who_are_known(crowd: Crowd) -> None:
    logins = [Login(f"stranger{number}") for number in range(hashing.MOST_STRANGERS)]
    logins.append(Login("known", known=True))
    for login in logins[:-1]:
        crowd.add(login)
    with pytest.raises(Busy):
        crowd.hasher.verify(Login("one stranger more"))
    crowd.add(logins[-1])
    for login in logins:
        login.go.set()
    assert all(wait.result(60) for wait in crowd.waits)


def test_nobody_takes_more_than_a_share(crowd: Crowd) -> None:
    share = (Share("name", "ann", 2),)
    first, second = Login("1", shares=share), Login("2", shares=share)
    crowd.add(first)
    crowd.add(second)
    third = Login("3", shares=share)
    with pytest.raises(Busy):
        crowd.hasher.verify(third)
    assert third.begun == 0  # it does not count as an attempt
    known = Login("4", shares=share, known=True)
    other = Login("5", shares=(Share("name", "bob", 2),))
    for login in (known, other):
        crowd.add(login)
    for login in (first, second, known, other):
        login.go.set()
    assert all(wait.result(60) for wait in crowd.waits)
    third.go.set()
    assert crowd.hasher.verify(third)
    assert not crowd.hasher._shares and not crowd.hasher._under_way and not crowd.hasher._waiting


def test_what_is_refused_before_it_is_looked_at_leaves_nothing(crowd: Crowd) -> None:
    login = Login("right", error=ValueError("no"))
    for _ in range(MOST_WAITING + 1):
        with pytest.raises(ValueError, match="no"):
            crowd.hasher.verify(login)
    assert login.looked == 0 and crowd.hasher._waiting == 0


def test_bcrypt_lets_other_threads_run() -> None:
    """Here no thread is interrupted: if bcrypt did not let go, this one would go on only after it."""
    begun, done = threading.Event(), threading.Event()

    def verify() -> None:
        begun.set()
        htpasswd.verify("x", f"$2y$12${'.' * 53}")
        done.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        thread = threading.Thread(target=verify)
        thread.start()
        begun.wait()
        assert not done.is_set()
    finally:
        sys.setswitchinterval(before)
        thread.join()
