"""ppctl.server.owners: a name has one owner, whoever asks at the same time."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from ppctl.server import owners
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue
from ppctl.server.guarded import GuardedBackend
from ppctl.server.marks import MarksFile
from ppctl.server.owners import UNKNOWN, Owners
from ppctl.server.permissions import Identity


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("packages", "run"):
        (tmp_path / name).mkdir()
    return tmp_path


def open_owners(home: Path) -> Owners:
    return Owners(home / "packages", home / "run")


def test_the_first_owns_it(home: Path) -> None:
    known = open_owners(home)
    assert known.of("foo") is None
    assert known.claim("foo", "ann") == "ann"
    assert known.claim("foo", "bob") == "ann"
    assert open_owners(home).of("foo") == "ann"


def test_one_of_many_at_once_is_the_first(home: Path) -> None:
    users = [f"user{number}" for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        found = set(pool.map(lambda user: open_owners(home).claim("foo", user), users))
    assert len(found) == 1
    assert found == {open_owners(home).of("foo")}


@pytest.mark.parametrize("ends", ["when it has been given up", "when it is about to be"])
def test_an_upload_that_fails_takes_the_name_from_none_beside_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Two of one user, the first of a new project, as from a build for two platforms; one of them fails."""
    known, catalogue = open_owners(home), Catalogue(home / "run", home / "packages")
    files = FileBackend(SimpleNamespace(hash_algo="sha256"), catalogue, overwrite=False)
    guarded = GuardedBackend(files, catalogue, MarksFile(catalogue.packages), known, overwrite=False)
    store, is_storing, has_failed = files.store, threading.Event(), threading.Event()

    def upload(name: str) -> None:
        with guarded.draft() as draft:
            draft.write(b"content")
            guarded.store(draft, name, None, Identity("ann"))

    def store_beside(*of: object, **more: bool) -> None:
        is_storing.set()
        assert has_failed.wait(60)
        store(*of, **more)  # type: ignore[arg-type]

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(files, "store", store_beside)
        other.start()
        assert is_storing.wait(60)
        raise OSError("no room")

    def put_late(project: str, user: str | None) -> bool:
        if ends == "when it is about to be":
            has_failed.set()
            other.join(60)
        return put(project, user)

    other, put = threading.Thread(target=upload, args=("foo-1.0-linux.zip",)), known.put
    monkeypatch.setattr(files, "store", fail)
    monkeypatch.setattr(known, "put", put_late)
    with pytest.raises(OSError, match="no room"):
        upload("foo-1.0.zip")
    has_failed.set()
    other.join(60)
    assert [file.project for file in catalogue.files("foo")] == ["foo"]
    assert known.of("foo") == "ann"


def test_an_operator_decides(home: Path) -> None:
    known = open_owners(home)
    known.claim("foo", "ann")
    known.claim("bar", "ann")
    assert known.put("foo", "bob") and not known.put("foo", "bob")
    assert (known.of("foo"), known.of("bar")) == ("bob", "ann")
    assert known.put("foo", None) and not known.put("foo", None)
    assert (known.of("foo"), known.of("bar")) == (None, "ann")


def test_a_file_that_is_gone_comes_back_from_its_copy(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By `rsync --delete`, or `cp packages/*` to another disk: nobody else is to get the projects."""
    known = open_owners(home)
    known.begin()
    assert known.claim("foo", "ann") == "ann"
    path = home / "packages" / owners.FILE_NAME
    for look in (
        lambda: known.of("foo"),
        lambda: open_owners(home).of("foo"),
        lambda: known.claim("foo", "bob"),
        lambda: open_owners(home).begin() or known.of("foo"),
    ):
        path.unlink()
        assert look() == "ann"
        assert owners.parse(path.read_bytes()) == {"foo": "ann"}
    assert caplog.text.count("back from its copy") == 4
    known.put("foo", None)
    path.unlink()
    assert known.of("foo") is None


def test_what_is_beside_the_packages_counts(home: Path) -> None:
    """A backup that was put back, or a file that is older than its copy."""
    open_owners(home).claim("foo", "ann")
    path = home / "packages" / owners.FILE_NAME
    path.write_bytes(owners.serialise({"foo": "bob"}))
    open_owners(home).begin()
    path.unlink()
    assert open_owners(home).of("foo") == "bob"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"projects": []}', '{"projects": {"foo": 1}}'])
def test_a_broken_file_makes_everything_somebody_elses(
    home: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "packages" / owners.FILE_NAME).write_text(content)
    with caplog.at_level(logging.ERROR):
        assert open_owners(home).of("foo") == UNKNOWN
    assert "cannot be read" in caplog.text
    with pytest.raises(ValueError, match="not a file of owners"):
        open_owners(home).claim("foo", "ann")
    assert (home / "packages" / owners.FILE_NAME).read_text() == content


def test_what_is_written_is_read() -> None:
    found = {"foo": "ann", "bar": "ü"}
    assert owners.parse(owners.serialise(found)) == found
