"""ppctl.server.watch without the kernel's notes: its limit is reached, or the file system has none."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ppctl.server import inotify, known, reconcile, scan, store, watch
from ppctl.server.catalogue import Catalogue
from ppctl.server.inotify import Event, Inotify
from ppctl.server.watch import Session, Watcher
from tests.server.patience import within

pytestmark = pytest.mark.e2e


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    for name in ("packages", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "packages" / known.FILE_NAME).touch()  # without it they would count as away when empty
    return Catalogue(tmp_path / "run", tmp_path / "packages")


@pytest.fixture
def watching(catalogue: Catalogue) -> Iterator[Watcher]:
    watcher = Watcher(catalogue, catalogue.path.with_name("watch.lock"))
    yield watcher
    watcher.stop()


def has_looked(watcher: Watcher) -> bool:
    """Return whether it has looked at everything once."""
    session = watcher._session
    return session is not None and session._next_poll > 0


def has_begun_anew(watcher: Watcher, before: object) -> bool:
    return watcher._session is not before and has_looked(watcher)


def no_inotify(*_: Any) -> None:
    raise OSError(errno.EMFILE, "inotify_init1: Too many open files")


def no_more_watches(_self: Inotify, _directory: str) -> None:
    raise OSError(errno.ENOSPC, "inotify_add_watch: No space left on device")


@pytest.mark.parametrize(
    ("what", "replacement"), [("_libc", no_inotify), ("add", no_more_watches)], ids=["instances", "watches"]
)
def test_at_the_limit_the_times_of_directories_are_looked_at(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch, what: str, replacement: Any
) -> None:
    monkeypatch.setattr(inotify if what == "_libc" else Inotify, what, replacement)
    watching.start()
    assert within(2, lambda: watching.is_watching)
    for directory in ("", "sub/deep/"):
        path = catalogue.packages / f"{directory}foo-1.0.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
        found = path.relative_to(catalogue.packages).as_posix()
        assert within(4, lambda: bool(catalogue.without_hash(1)) is False and catalogue.count() == 1)
        assert [file.path for file in catalogue.files("foo")] == [found]
        path.unlink()
        assert within(4, lambda: catalogue.projects() == [])


def test_when_the_limit_is_reached_later_nothing_is_missed(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.start()
    assert within(2, lambda: watching.is_watching)
    time.sleep(0.2)
    monkeypatch.setattr(Inotify, "add", no_more_watches)
    (catalogue.packages / "sub").mkdir()
    time.sleep(0.2)
    (catalogue.packages / "sub" / "foo-1.0.zip").write_bytes(b"1")
    assert within(4, lambda: catalogue.projects() == ["foo"])


def test_a_network_file_system_is_looked_at(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "file_system", lambda path: "nfs4")
    monkeypatch.setattr(inotify, "_libc", lambda: pytest.fail("not to be used"))
    watching.start()
    assert within(2, lambda: watching.is_watching)
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"1")
    assert within(4, lambda: catalogue.projects() == ["foo"])


@pytest.mark.parametrize("is_new", [True, False], ids=["the catalogue is made", "the catalogue is there"])
def test_without_notes_a_slow_writer_is_found_out(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """A file that pauses while it is written is read too early, and again later, more than once."""
    monkeypatch.setattr(inotify, "_libc", no_inotify)
    monkeypatch.setattr(reconcile, "SECOND_LOOK_SECONDS", 0.5)
    if not is_new:
        watching.start()
        assert within(2, catalogue.is_in_place)
    with (catalogue.packages / "foo-1.0.zip").open("wb") as file:
        file.write(b"half")
        file.flush()
        if is_new:
            catalogue.open()
            watching.start()
        assert within(4, lambda: [found.size for found in catalogue.files("foo")] == [4])
        time.sleep(1.0)  # longer than until the first second look
        file.write(b"whole")
    assert within(5, lambda: [found.size for found in catalogue.files("foo")] == [9])


def test_names_that_are_no_text_hinder_nobody(
    catalogue: Catalogue, watching: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    packages = os.fsencode(catalogue.packages)

    def put(directory: bytes) -> None:
        os.mkdir(packages + directory)
        for path in (directory + b"/foo-1.0.zip", directory + b".zip"):
            Path(os.fsdecode(packages + path)).write_bytes(b"1")
            os.chmod(packages + path, 0o600)

    put(b"/first-\xff")
    watching.start()
    assert within(2, lambda: has_looked(watching))
    put(b"/second-\xff")
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"1")
    assert within(4, lambda: catalogue.projects() == ["foo"] and not catalogue.without_hash(1))
    assert [file.path for file in catalogue.files("foo")] == ["foo-1.0.zip"]
    assert "begins anew" not in caplog.text


def test_a_directory_that_came_back_while_notes_were_lost_is_watched(catalogue: Catalogue) -> None:
    """The note that it went is there, the one that it came back is not."""
    (catalogue.packages / "sub").mkdir()
    session = Session(catalogue, threading.Event(), lambda: True)
    session._notes = notes = session._open_notes()
    assert notes
    try:
        (catalogue.packages / "sub").rmdir()
        told = notes.read()
        assert any(event.name == "sub" and event.mask & inotify.DELETED for event in told)
        (catalogue.packages / "sub").mkdir()
        notes.read()
        rounds = iter([[*told, Event(None, "", inotify.OVERFLOW)], []])
        with mock.patch.object(notes, "read", lambda: next(rounds)):
            session._follow_notes()
        (catalogue.packages / "sub" / "foo-1.0.zip").write_bytes(b"1")
        assert "foo-1.0.zip" in [event.name for event in notes.read()]
    finally:
        notes.close()


def test_who_is_told_to_stop_waits_for_no_more_notes(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TICK_SECONDS", "SAFETY_SECONDS"):
        monkeypatch.setattr(watch, name, 1e6)
    watcher = Watcher(catalogue, catalogue.path.with_name("watch.lock"))
    watcher.start()
    assert within(2, lambda: watcher.is_watching and catalogue.is_in_place())
    watcher.stop(seconds=60)
    assert not watcher._thread.is_alive()


def test_the_kind_of_file_system() -> None:
    assert scan.file_system(Path("/proc/self")) == "proc"
    assert scan.file_system(Path("/")) != ""


def test_a_file_is_read_once_in_its_life_and_the_rest_is_not_looked_at(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when another one comes or goes, not when it is moved, and not when the watcher begins anew."""
    read: list[str] = []
    looked: list[str] = []
    examine, scandir = reconcile.examine, os.scandir

    def noted(packages: Path, path: str) -> Any:
        read.append(path)
        return examine(packages, path)

    def seen(path: Any) -> Any:
        if threading.current_thread().name == "watch":
            looked.append(str(path))
        return scandir(path)

    for module in (store, reconcile):
        monkeypatch.setattr(module, "examine", noted)
    monkeypatch.setattr(watch, "SAFETY_SECONDS", 1000.0)
    for number in range(20):
        (catalogue.packages / f"foo-1.{number}.zip").write_bytes(b"%d" % number)
    (catalogue.packages / "sub").mkdir()
    watching.start()
    assert within(4, lambda: catalogue.is_in_place() and not catalogue.without_hash(1))
    assert within(4, lambda: has_looked(watching))
    monkeypatch.setattr(os, "scandir", seen)
    (catalogue.packages / "sub" / "bar-1.0.zip").write_bytes(b"bar")
    assert within(4, lambda: catalogue.projects() == ["bar", "foo"])
    (catalogue.packages / "foo-1.0.zip").rename(catalogue.packages / "sub" / "foo-1.0.zip")
    assert within(4, lambda: catalogue.file("sub/foo-1.0.zip") is not None)
    (catalogue.packages / "foo-1.1.zip").unlink()
    assert within(4, lambda: catalogue.count() == 20)
    assert looked == []
    watching.stop(seconds=60)
    again = Watcher(catalogue, catalogue.path.with_name("watch.lock"))
    again.start()
    assert within(4, lambda: bool(looked) and has_looked(again))
    time.sleep(0.5)
    again.stop(seconds=60)
    assert sorted(read) == sorted(["sub/bar-1.0.zip", *(f"foo-1.{number}.zip" for number in range(20))])


def test_one_watches_at_a_time(catalogue: Catalogue) -> None:
    lock = catalogue.path.with_name("watch.lock")
    first, second = Watcher(catalogue, lock), Watcher(catalogue, lock)
    first.start()
    assert within(2, lambda: first.is_watching)
    second.start()
    time.sleep(0.5)
    assert not second.is_watching
    first.stop()
    assert within(2, lambda: second.is_watching)
    second.stop(seconds=60)
    assert not second.is_watching


def test_an_unreadable_directory_does_not_empty_the_catalogue(
    catalogue: Catalogue,
    watching: Watcher,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"1")
    catalogue.open()
    scandir = os.scandir

    def broken(path: Any) -> Any:
        if threading.current_thread().name == "watch":
            raise OSError(errno.EIO, "broken")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", broken)
    watching.start()
    assert within(2, lambda: "cannot be read: [Errno 5] broken" in caplog.text)
    time.sleep(0.5)
    assert catalogue.projects() == ["foo"]


def test_an_unreadable_file_is_reported_once(
    catalogue: Catalogue,
    watching: Watcher,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_packages: Path, path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    for module in (store, reconcile):
        monkeypatch.setattr(module, "examine", refuse)
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"1")
    watching.start()
    assert within(2, lambda: "cannot be read" in caplog.text)
    time.sleep(1)
    assert caplog.text.count("cannot be read") == 1
    assert catalogue.projects() == ["foo"]


@pytest.mark.parametrize("size", [1, reconcile.LARGE], ids=["small", "large"])
def test_a_file_that_becomes_readable_is_read(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Moved into place first, and given to the others afterwards: as Ansible copies, or who has umask 077."""
    opened, is_closed = os.open, True

    def open_(path: Any, *of: Any, **more: Any) -> int:
        if is_closed and str(path).endswith(".zip"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *of, **more)

    monkeypatch.setattr(os, "open", open_)
    catalogue.open()
    session = Session(catalogue, threading.Event(), lambda: True)
    session._notes = notes = session._open_notes()
    assert notes
    path = catalogue.packages / "foo-1.0.zip"
    try:
        path.with_name(".foo").write_bytes(bytes(size))
        path.with_name(".foo").rename(path)
        session._follow_notes()
        while session._reconciler.work(1):
            pass
        is_closed = False
        path.chmod(0o644)
        session._follow_notes()
        while session._reconciler.work(1):
            pass
        assert [file.path for file in catalogue.files("foo")] == [path.name]
    finally:
        notes.close()


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_directory_that_may_not_be_read_costs_no_notes_of_others(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """And once it may be read, there are notes of it: made with umask 077, and given to the others later."""
    call, is_closed = Inotify._call, True

    def refuse(self: Inotify, name: str, *values: Any) -> int:
        if is_closed and name == "inotify_add_watch" and values[1].endswith(b"/sub"):
            raise OSError(errno.EACCES, "inotify_add_watch: Permission denied")
        return call(self, name, *values)

    monkeypatch.setattr(Inotify, "_call", refuse)
    sub, session = catalogue.packages / "sub", Session(catalogue, threading.Event(), lambda: True)
    if when == "at the start":
        sub.mkdir()
    session._notes = notes = session._open_notes()
    assert notes
    try:
        sub.mkdir(exist_ok=True)
        session._follow_notes()
        assert session._notes
        is_closed = False
        sub.chmod(0o755)
        session._follow_notes()
        (sub / "foo-1.0.zip").write_bytes(b"1")
        assert "foo-1.0.zip" in [event.name for event in notes.read()]
    finally:
        if session._notes:
            notes.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("how", ["unmounted", "moved away"])
def test_packages_that_are_away_for_a_while_are_not_read_again(
    catalogue: Catalogue, watching: Watcher, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    packages, disk = str(catalogue.packages), str(catalogue.packages.with_name("disk"))
    changes = [["mv", packages, disk], ["mv", disk, packages]]
    if how == "unmounted":
        (catalogue.packages / known.FILE_NAME).unlink()
        os.mkdir(disk)
        changes = [["umount", "--lazy", packages], ["mount", "--bind", disk, packages]]
        subprocess.run(changes[1], check=True)
    try:
        for name in (known.FILE_NAME, "foo-1.0.zip", "sub/bar-1.0.zip"):
            (catalogue.packages / name).parent.mkdir(exist_ok=True)
            (catalogue.packages / name).write_bytes(b"1")
        watching.start()
        assert within(2, lambda: catalogue.count() == 2 and not catalogue.without_hash(1))
        monkeypatch.setattr(reconcile, "examine", lambda _, path: pytest.fail(f"{path} was read again"))
        for argv in changes:
            before = watching._session
            subprocess.run(argv, check=True)
            assert within(2, partial(has_begun_anew, watching, before))
            assert catalogue.projects() == ["bar", "foo"]
        (catalogue.packages / "foo-1.0.zip").unlink()
        assert within(1, lambda: catalogue.projects() == ["bar"])
    finally:
        if packages in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", "--lazy", packages], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_that_is_mounted_late_is_watched(catalogue: Catalogue, watching: Watcher) -> None:
    """The kernel tells nobody that a directory is hidden by another one."""
    packages = str(catalogue.packages)
    watching.start()
    assert within(2, lambda: has_looked(watching))
    before = watching._session
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", packages], check=True)
    try:
        assert within(2, partial(has_begun_anew, watching, before))
        (catalogue.packages / "foo-1.0.zip").write_bytes(b"1")
        assert within(1, lambda: catalogue.projects() == ["foo"])
    finally:
        subprocess.run(["umount", "--lazy", packages], check=True)
