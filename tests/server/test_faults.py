"""What a machine can do to running workers: a lost or locked catalogue, a full disk, a clock that is set."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ppctl.server import store
from tests.server.archives import wheel
from tests.server.patience import within
from tests.server.worker_process import Home, new_home

pytestmark = pytest.mark.e2e

COUNT = 5


def fill(home: Home) -> None:
    for number in range(COUNT):
        name, content = wheel("foo", f"1.{number}")
        (home.packages / name).write_bytes(content)


@pytest.fixture
def home() -> Iterator[Home]:
    """An index with two workers and some files."""
    with new_home() as home:
        fill(home)
        home.start(1)
        home.start(2)
        yield home


def catalogue(home: Home) -> Path:
    return home.path / "run" / f"catalogue-{store.VERSION}.db"


def links(home: Home, project: str) -> list[int]:
    """Return how many links each worker's page of a project has."""
    return [worker.get(f"/simple/{project}/").text.count("<a ") for worker in home.workers]


# --- the catalogue


def truncate(path: Path) -> None:
    os.truncate(path, 5000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def drop_a_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE projects")
        db.commit()


def replace_by_another_database(path: Path) -> None:
    other = path.with_suffix(".other")
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE files (other TEXT)")
        db.commit()
    other.rename(path)


def remove_the_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


@pytest.mark.parametrize("harm", [truncate, empty, drop_a_table, replace_by_another_database, remove_the_log])
def test_a_catalogue_that_is_harmed_is_made_anew(home: Home, harm: Callable[[Path], None]) -> None:
    harm(catalogue(home))
    for number in range(2):
        assert links(home, "foo") == [COUNT, COUNT]
        assert home.upload(*wheel("bar", f"1.{number}")).status == 200
        assert links(home, "bar") == [number + 1, number + 1]
    assert "Traceback" not in home.log()


@pytest.fixture
def hasty() -> Iterator[Home]:
    """The same, but the workers wait for a second only."""
    with new_home(changes="from ppctl.server import store; store.BUSY_SECONDS = 1.0") as home:
        fill(home)
        home.start(1)
        home.start(2)
        yield home


def test_a_catalogue_that_somebody_keeps_locked(hasty: Home) -> None:
    """Reads go on; an upload is told to come again, and leaves nothing."""
    home = hasty
    with contextlib.closing(sqlite3.connect(catalogue(home), isolation_level=None)) as stuck:
        stuck.execute("BEGIN IMMEDIATE")
        assert links(home, "foo") == [COUNT, COUNT]
        before = home.stored()
        answer = home.upload(*wheel("bar", "1.0"))
        assert (answer.status, answer.text) == (503, "The index is busy: try again\n")
        assert home.stored() == before
        assert links(home, "foo") == [COUNT, COUNT]
        stuck.execute("ROLLBACK")
    # The watcher may have the lock just then, and a second is all they wait.
    assert within(1, lambda: home.upload(*wheel("bar", "1.0")).status == 200)
    assert links(home, "bar") == [1, 1]
    assert "Traceback" not in home.log()


@pytest.fixture
def small() -> Iterator[Home]:
    """The same, but the catalogue is on a disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    with new_home() as home:
        fill(home)
        run = str(home.path / "run")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "ppctl-test", run], check=True)
        try:
            home.start(1)
            home.start(2)
            yield home
        finally:
            home.close()
            subprocess.run(["umount", "--lazy", run], check=True)


def fill_disk(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_while_there_is_no_room_for_the_catalogue_reads_go_on(small: Home) -> None:
    filler = small.path / "run" / "filler"
    before = small.stored()
    fill_disk(filler)
    for number in range(2):
        answer = small.upload(*wheel("bar", f"1.{number}"))
        assert (answer.status, answer.text) == (507, "No space left on the server\n")
        assert small.stored() == before
        assert links(small, "foo") == [COUNT, COUNT]
        for path in (Path(f"{catalogue(small)}-wal"), Path(f"{catalogue(small)}-shm"), catalogue(small)):
            path.unlink(missing_ok=True)  # lost besides: the second time round
        fill_disk(filler)
    name, content = wheel("foo", "9.0")
    (small.packages / name).write_bytes(content)
    assert small.get(f"/packages/{name}").body == content
    filler.unlink()
    assert within(5, lambda: links(small, "foo") == [COUNT + 1, COUNT + 1])
    assert small.upload(*wheel("bar", "1.0")).status == 200
    assert links(small, "bar") == [1, 1]


# --- the clock


SHIFTED = """
import time
real = time.time
def shifted():
    try:
        with open({path!r}) as file:
            return real() + float(file.read())
    except (OSError, ValueError):
        return real()
time.time = shifted
"""


def change(path: Path, text: str) -> None:
    """Write a file so that its time is another one: the kernel's clock ticks every few milliseconds."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    while path.stat().st_mtime_ns == before:
        path.write_text(text)


def test_a_clock_that_is_set_back_and_forth(tmp_path: Path) -> None:
    """By a day, a year, and to 1970: pages, files by hand, ETags, changed passwords are as ever."""
    shift = tmp_path / "shift"
    with new_home(changes=SHIFTED.format(path=str(shift)), login=["list", "upload"]) as home:
        home.htpasswd.write_text("a:one\n")
        home.start(1)
        home.start(2)
        login = ("a", "one")
        tag = None
        for number, seconds in enumerate((0, -86_400, 86_400 * 400, -time.time())):
            shift.write_text(str(seconds))
            assert home.upload(*wheel("foo", f"{number}.0"), login=login).status == 200
            name, content = wheel("bar", f"{number}.0")
            (home.packages / name).write_bytes(content)

            def bars() -> int:
                return home.get("/simple/bar/", login=login).text.count("<a ")

            assert within(1, lambda n=number: bars() == n + 1)  # type: ignore[misc]
            assert home.get("/simple/foo/", login=login).text.count("<a ") == number + 1
            found = home.get(f"/packages/{wheel('foo', '0.0')[0]}").headers["ETag"]
            assert tag in (None, found)
            tag = found
            for password, status in (("two", 401), ("one", 200)):
                change(home.htpasswd, f"a:{password}\n")
                assert {home.get("/simple/foo/", login=login).status for _ in range(6)} == {status}
        assert "Traceback" not in home.log()
