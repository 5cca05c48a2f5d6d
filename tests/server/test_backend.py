"""ppctl.server.backend: a file is there completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppctl.server import drafts
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue

NAME = "foo-1.0.tar.gz"


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not request.param:
        monkeypatch.setattr(os, "link", refuse)


def make(path: Path, *, overwrite: bool = False) -> FileBackend:
    run = path.with_name(f"{path.name}-run")
    run.mkdir(exist_ok=True)
    return FileBackend(SimpleNamespace(hash_algo="sha256"), Catalogue(run, path), overwrite=overwrite)


class Failing(io.BytesIO):
    """Half a file, then an error."""

    def read(self, size: int | None = -1, /) -> bytes:
        half = super().read(size)
        if not half:
            raise OSError(errno.EIO, "cut off")
        return half


def test_a_file_is_stored(tmp_path: Path, links: None) -> None:
    before = os.umask(0o027)
    try:
        make(tmp_path).add_package(NAME, io.BytesIO(b"content"))
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == b"content"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640


def test_a_file_is_readable_by_all_with_the_usual_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        make(tmp_path).add_package(NAME, io.BytesIO(b"content"))
    finally:
        os.umask(before)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


def test_a_file_is_not_replaced_unless_told_to(tmp_path: Path, links: None) -> None:
    make(tmp_path).add_package(NAME, io.BytesIO(b"old"))
    with pytest.raises(FileExistsError):
        make(tmp_path).add_package(NAME, io.BytesIO(b"new"))
    assert (tmp_path / NAME).read_bytes() == b"old"
    make(tmp_path, overwrite=True).add_package(NAME, io.BytesIO(b"new"))
    assert (tmp_path / NAME).read_bytes() == b"new"
    assert os.listdir(tmp_path) == [NAME]


def test_a_name_is_free_as_soon_as_its_file_has_gone(tmp_path: Path) -> None:
    """Also before anybody has noticed that it was removed by hand."""
    made = make(tmp_path)
    made.add_package(NAME, io.BytesIO(b"old"))
    assert made.exists(NAME)
    (tmp_path / NAME).unlink()
    assert not made.exists(NAME)
    made.add_package(NAME, io.BytesIO(b"new"))
    assert [package.digest for package in made.find_project_packages("foo")] == [
        f"sha256={hashlib.sha256(b'new').hexdigest()}"
    ]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failed_upload_leaves_nothing(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(OSError, match="cut off"):
        make(tmp_path, overwrite=overwrite).add_package(NAME, Failing(b"half"))
    assert os.listdir(tmp_path) == []


def test_of_many_uploads_at_once_one_wins(tmp_path: Path, links: None) -> None:
    start = threading.Barrier(8)
    results: list[str] = []

    def upload(number: int) -> None:
        start.wait()
        try:
            make(tmp_path).add_package(NAME, io.BytesIO(b"%d" % number * 100000))
            results.append("stored")
        except FileExistsError:
            results.append("exists")

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["exists"] * 7 + ["stored"]
    assert os.listdir(tmp_path) == [NAME]
    assert len(set((tmp_path / NAME).read_bytes())) == 1


def test_a_file_is_seen_only_when_complete(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    store = make(tmp_path)

    class Watching(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            seen.append([package.relfn for package in store.get_all_packages()])
            return super().read(size)

    store.add_package(NAME, Watching(b"content"))
    assert seen == [[], []]
    assert [package.relfn for package in store.get_all_packages()] == [NAME]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        order.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", lambda *args: (order.append("link"), link(*args)))
    make(tmp_path).add_package(NAME, io.BytesIO(b"content"))
    assert order == ["file", "link", "directory"]


def test_the_longest_name_is_stored(tmp_path: Path) -> None:
    name = f"{'x' * 240}-1.0.tar.gz"
    make(tmp_path).add_package(name, io.BytesIO(b"content"))
    assert os.listdir(tmp_path) == [name]


def killed(packages: Path, *files: str) -> Path:
    """Return a draft with such files, as a killed worker leaves it."""
    left = packages / f"{drafts.PREFIX}0"
    left.mkdir()
    for name in files:
        (left / name).write_bytes(b"x")
    return left


def test_leftovers_of_the_dead_are_removed_and_nothing_else(tmp_path: Path) -> None:
    lock = tmp_path.with_name("lock")
    others = [tmp_path / NAME, tmp_path / ".hidden", tmp_path / "ppctl-upload-1.0.tar.gz"]
    for path in others:
        path.write_bytes(b"")
    with drafts.draft(tmp_path) as living:
        living.write(b"x")
        dead = killed(tmp_path, "content", f"{NAME}.asc")
        assert drafts.remove_leftovers(tmp_path, lock) == [dead]
        assert len(list(tmp_path.iterdir())) == len(others) + 1
        living.place("bar-1.0.zip", overwrite=False, lock=lock)
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "bar-1.0.zip"])
    assert drafts.remove_leftovers(tmp_path / "missing", lock) == []


@pytest.mark.parametrize("has_file", [True, False])
def test_a_sidecar_that_got_its_name_without_its_file_goes(tmp_path: Path, has_file: bool) -> None:
    placed = tmp_path / f"{NAME}.asc"
    dead = killed(tmp_path, "content", placed.name)
    os.link(dead / placed.name, placed)
    if has_file:
        os.link(dead / "content", tmp_path / NAME)
    drafts.remove_leftovers(tmp_path, tmp_path.with_name("lock"))
    assert placed.exists() is has_file
    assert not dead.exists()


def test_a_sidecar_that_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    placed = tmp_path / f"{NAME}.asc"
    placed.write_bytes(b"x")
    killed(tmp_path, "content", placed.name)
    drafts.remove_leftovers(tmp_path, tmp_path.with_name("lock"))
    assert os.listdir(tmp_path) == [placed.name]


def test_an_upload_that_cannot_be_entered_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store = make(tmp_path)
    monkeypatch.setattr(Catalogue, "put", full)
    with pytest.raises(OSError, match="cannot be written") as error:
        store.add_package(NAME, io.BytesIO(b"content"))
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_two_of_one_name_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the file is the signature that came with it, also when another upload comes between the two."""
    lock, real = tmp_path.with_name("lock"), drafts._place
    between, go = threading.Event(), threading.Event()

    def place(made: Path, final: Path) -> None:
        if made.name == "content" and not between.is_set():
            between.set()
            go.wait(10)
        real(made, final)

    def upload(content: bytes) -> None:
        with drafts.draft(tmp_path) as draft, contextlib.suppress(FileExistsError):
            draft.write(content)
            draft.sidecars[".asc"] = content
            draft.place(NAME, overwrite=False, lock=lock)

    monkeypatch.setattr(drafts, "_place", place)
    first, second = (threading.Thread(target=upload, args=(content,)) for content in (b"first", b"second"))
    first.start()
    assert between.wait(10)
    second.start()
    second.join(0.1)
    go.set()
    first.join()
    second.join()
    assert (tmp_path / NAME).read_bytes() == (tmp_path / f"{NAME}.asc").read_bytes()
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("first", ["stores", "removes"])
@pytest.mark.parametrize("other", ["stores", "removes"])
def test_what_another_worker_does_before_it_is_entered_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, other: str
) -> None:
    """The disk has changed, the catalogue not yet: somebody else comes in between, and is answered."""
    workers = [make(tmp_path, overwrite=True) for _ in range(2)]
    put = Catalogue.put

    def act(worker: FileBackend, how: str, content: bytes) -> None:
        if how == "stores":
            worker.add_package(NAME, io.BytesIO(content))
        else:
            worker.remove_package(SimpleNamespace(relfn=NAME))

    def late(*of: object, **more: Any) -> None:
        monkeypatch.setattr(Catalogue, "put", put)
        act(workers[1], other, b"the other one")
        put(*of, **more)

    act(workers[0], "stores", b"before")
    monkeypatch.setattr(Catalogue, "put", late)
    act(workers[0], first, b"the first one")
    found = [file.sha256 for file in workers[1]._catalogue.files("foo")]
    expected = [hashlib.sha256(b"the other one").hexdigest()] if other == "stores" else []
    assert found == expected
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the other one"] * len(expected)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "replaces"])
def test_what_is_taken_back_is_not_what_another_worker_has_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: None, is_new: bool
) -> None:
    """An upload waits in vain for the catalogue; before it gives up, another one of that name is there."""
    workers = [make(tmp_path, overwrite=True) for _ in range(2)]
    put = Catalogue.put

    def locked(*_: object) -> None:
        monkeypatch.setattr(Catalogue, "put", put)
        workers[1].add_package(NAME, io.BytesIO(b"the other one"))
        raise sqlite3.OperationalError("database is locked")

    if not is_new:
        workers[0].add_package(NAME, io.BytesIO(b"before"))
    monkeypatch.setattr(Catalogue, "put", locked)
    with pytest.raises(OSError, match="is locked"):
        workers[0].add_package(NAME, io.BytesIO(b"the first one"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the other one"]
    found = [file.sha256 for file in workers[1]._catalogue.files("foo")]
    assert found == [hashlib.sha256(b"the other one").hexdigest()]
