"""ppctl.server.connection: waiting for a client frees its place, and ends when it moves too little."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import connection
from ppctl.server.connection import ClientSocket, Places
from tests.server.patience import within


@pytest.fixture(params=["inet", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ClientSocket, socket.socket, Places]]:
    """A connection as the worker sees it, the client's end, and the worker's places."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    places = Places(1, 3, lambda: None)
    assert places.take()
    client = ClientSocket(ours, places)
    with client, theirs:
        yield client, theirs, places


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WINDOW_SECONDS", 0.05)


Pair = tuple[ClientSocket, socket.socket, Places]


def test_a_silent_client_is_given_up(pair: Pair, short: None) -> None:
    client, _, places = pair
    client.setblocking(True)
    with pytest.raises(TimeoutError):
        client.recv(1)
    with pytest.raises(TimeoutError):
        while True:
            client.sendall(b"x" * 65536)
    assert not places.is_free()  # the request still has its place


def test_a_client_that_trickles_is_given_up(pair: Pair, short: None) -> None:
    client, theirs, _ = pair
    stopping = threading.Event()

    def trickle() -> None:
        while not stopping.wait(0.005):
            theirs.send(b"x")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        with pytest.raises(TimeoutError, match="too slow"):
            while client.recv(100):
                pass
    finally:
        stopping.set()
        trickling.join()


@pytest.mark.parametrize(("least", "is_enough"), [(150, True), (250, False)])
def test_a_client_that_moves_enough_is_not(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, least: int, is_enough: bool
) -> None:
    """Each time it is waited for, 100 bytes come after ten seconds: in a window of 20 these are 200."""
    now = 0.0
    client, theirs, _ = pair

    def move(*_: object) -> bool:
        nonlocal now
        now += 10.0
        theirs.sendall(b"x" * 100)
        return True

    monkeypatch.setattr(connection, "WINDOW_SECONDS", 20.0)
    monkeypatch.setattr(connection, "LEAST_BYTES", least)
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(ClientSocket, "_poll", move)
    with contextlib.nullcontext() if is_enough else pytest.raises(TimeoutError, match="too slow"):
        assert [len(client.recv(100)) for _ in range(10)] == [100] * 10


def test_while_a_client_is_waited_for_its_place_is_free(pair: Pair) -> None:
    client, theirs, places = pair
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(client.recv(10)))
    waiting.start()
    assert within(1, places.is_free)
    theirs.sendall(b"x")
    waiting.join()
    assert found == [b"x"]
    assert not places.is_free()


def test_without_waiting(pair: Pair) -> None:
    client, theirs, _ = pair
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    client.settimeout(0.05)
    assert client.gettimeout() == 0.05
    with pytest.raises(TimeoutError, match="timed out"):
        client.recv(1)
    theirs.close()
    client.setblocking(True)
    assert client.recv(1) == b""


def test_a_file_is_sent_whole_or_not_at_all(pair: Pair, tmp_path: Path) -> None:
    client, theirs, _ = pair
    content = bytes(range(256)) * 40_000
    path = tmp_path / "file"
    path.write_bytes(content)
    found: list[bytes] = []

    def read() -> None:
        found.extend(iter(lambda: theirs.recv(1 << 16), b""))

    reading = threading.Thread(target=read)
    reading.start()
    with path.open("rb") as file:
        assert client.sendfile(file, 10, 5_000_000) == 5_000_000
        assert client.sendfile(file, len(content) - 5) == 5
        with pytest.raises(BrokenPipeError, match="shorter"):
            client.sendfile(file, len(content) - 5, 10)
    client.shutdown(socket.SHUT_WR)
    reading.join()
    assert b"".join(found) == content[10:5_000_010] + 2 * content[-5:]


@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.sampled_from("tgpr"), max_size=60))
def test_there_are_never_more_begun_than_there_are_places(count: int, waiting: int, steps: list[str]) -> None:
    """Whoever waits does not count; whoever asked in vain is woken when that has changed."""
    woken: list[None] = []
    places = Places(count, count + waiting, lambda: woken.append(None))
    working = paused = 0
    is_wanted = False
    for step in steps:
        before = len(woken)
        if step == "t":
            took = places.take()
            assert took == (working < count and working + paused < count + waiting)
            working += took
            is_wanted = not took
        elif step == "g" and working:
            places.give_back()
            working -= 1
        elif step == "p" and working:
            places.pause()
            working, paused = working - 1, paused + 1
            is_due = is_wanted and working < count and working + paused < count + waiting
            assert len(woken) - before == is_due
            is_wanted = is_wanted and not is_due
        elif step == "r" and paused:
            places.resume()
            working, paused = working + 1, paused - 1
    assert places.is_free() == (working < count and working + paused < count + waiting)
