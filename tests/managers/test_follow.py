"""Following logs: from their ends, as they grow, through rotation and truncation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from ppctl.managers import follow
from ppctl.managers.follow import follow_files


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens, one after the other, each time that all there was has been read."""
    due: list[Callable[[], object]] = []

    def sleep(_: float) -> None:
        if due:
            due.pop(0)()
        else:
            time.sleep(0.005)

    monkeypatch.setattr(follow, "time", SimpleNamespace(sleep=sleep))
    return due


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree\n")
    return path


def take(lines: Iterator[str], count: int) -> list[str]:
    """Return the next `count` lines; fails when they do not come."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(next(lines) for _ in range(count)), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), f"only {found}"
    return found


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_last_lines_first(log: Path) -> None:
    lines = follow_files({"w": log}, 2)
    assert take(lines, 2) == ["w: two", "w: three"]
    append(log, "four\n")
    assert take(lines, 1) == ["w: four"]


def test_no_old_lines(log: Path, later: list[Callable[[], object]]) -> None:
    lines = follow_files({"w": log}, 0)
    later.append(partial(append, log, "four\n"))
    assert take(lines, 1) == ["w: four"]


def test_a_line_is_shown_when_it_is_complete(log: Path, later: list[Callable[[], object]]) -> None:
    lines = follow_files({"w": log}, 1)
    assert take(lines, 1) == ["w: three"]
    later += [partial(append, log, "half"), partial(append, log, " and half\n")]
    assert take(lines, 1) == ["w: half and half"]


def test_rotation_loses_nothing(log: Path, tmp_path: Path, later: list[Callable[[], object]]) -> None:
    lines = follow_files({"w": log}, 1)
    take(lines, 1)
    append(log, "last of the old\n")
    log.rename(tmp_path / "log.1")
    log.write_text("first of the new\n")
    assert take(lines, 2) == ["w: last of the old", "w: first of the new"]
    # For a moment there is none.
    later += [partial(log.rename, tmp_path / "log.2"), partial(log.write_text, "again\n")]
    assert take(lines, 1) == ["w: again"]


def test_what_is_written_and_rotated_away_between_two_looks(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rotations = follow._Tail._read, [lambda: log.rename(tmp_path / "log.1")]

    def read_and_be_late(tail: follow._Tail, file: IO[str]) -> list[str]:
        found = read(tail, file)
        if rotations:
            append(log, "last of the old\n")
            rotations.pop()()
            log.write_text("first of the new\n")
        return found

    monkeypatch.setattr(follow._Tail, "_read", read_and_be_late)
    expected = ["w: three", "w: last of the old", "w: first of the new"]
    assert take(follow_files({"w": log}, 3), 3) == expected


def test_truncated_in_place(log: Path) -> None:
    lines = follow_files({"w": log}, 1)
    take(lines, 1)
    log.write_text("new\n")
    assert take(lines, 1) == ["w: new"]


def test_a_file_that_comes_later(tmp_path: Path, later: list[Callable[[], object]]) -> None:
    path = tmp_path / "later"
    lines = follow_files({"w": path}, 5)
    later.append(partial(path.write_text, "here\n"))
    assert take(lines, 1) == ["w: here"]


def test_several_files_and_bytes_that_are_no_text(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\xff\r\n")
    lines = follow_files({"worker 1": log, "worker 2": other}, 1)
    assert take(lines, 2) == ["worker 1: three", "worker 2: \ufffd\r"]
