"""ppctl.server.owners: a name has one owner, whoever asks at the same time."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ppctl.server import owners
from ppctl.server.owners import UNKNOWN, Owners


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
