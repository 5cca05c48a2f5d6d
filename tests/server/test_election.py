"""ppctl.server.election: who has the lock watches; who is there and does not answer is stood in for."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppctl.server import election
from ppctl.server.election import elected


@pytest.fixture
def run() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="ppctl-") as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASK_SECONDS", "SILENT_SECONDS", "_BACK_SECONDS"):
        monkeypatch.setattr(election, name, 0.02)


def test_who_has_the_lock_watches_until_the_end(run: Path) -> None:
    with elected(run / "lock", run / "one.sock", threading.Event()) as is_chosen:
        assert is_chosen()
        assert (run / "lock").read_text() == str(run / "one.sock")
    with elected(run / "lock", None, threading.Event()) as is_chosen:
        assert is_chosen()
        assert (run / "lock").read_text() == ""


def test_one_that_is_silent_is_stood_in_for_until_it_answers(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it has been asked in vain: a queue that is full is no answer."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(run / "one.sock"))
        silent.listen(1)
        first = elected(run / "lock", run / "one.sock", threading.Event())
        second = elected(run / "lock", run / "two.sock", threading.Event())
        with first, second as is_chosen:
            for _ in range(10):
                is_chosen._next_question = 0.0  # type: ignore[attr-defined]
                assert is_chosen()
            silent.close()  # it has ended
            is_chosen._next_question = 0.0  # type: ignore[attr-defined]
            assert not is_chosen()
    assert caplog.text.count("watching beside it") == 1


@pytest.mark.parametrize("name", ["", "answers", "gone", "nonsense\0"])
def test_nobody_stands_in_for_one_that_answers_or_cannot_be_asked(run: Path, name: str) -> None:
    path = run / "lock"
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(run / "answers"))
        there.listen()

        def answer() -> None:
            while True:
                try:
                    client, _ = there.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        path.write_text(f"{run}/{name}" if name else "")
        descriptor = os.open(path, os.O_RDONLY)
        assert not election._is_silent(descriptor, 60.0)
        os.close(descriptor)
        there.shutdown(socket.SHUT_RDWR)


def test_who_has_to_stop_waits_no_longer(run: Path) -> None:
    stopping = threading.Event()
    with elected(run / "lock", None, threading.Event()):
        stopping.set()
        with elected(run / "lock", None, stopping) as is_chosen:
            assert not is_chosen()
