"""The names that were ever here: written once each, never lost, and closed when they cannot be told."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import known
from ppctl.server.catalogue import Catalogue
from ppctl.server.changes import Entry
from ppctl.server.known import FILE_NAME, HEADER, Known
from ppctl.server.owners import THROW_AWAY
from ppctl.server.reconcile import Reconciler
from ppctl.server.scan import Stamp
from tests.server.archives import wheel
from tests.server.entered import enter

NAME = st.from_regex(known.ORDINARY, fullmatch=True)


@pytest.fixture
def names(tmp_path: Path) -> Known:
    (tmp_path / "packages").mkdir()
    made = Known(tmp_path / "packages", tmp_path)
    made.begin([])
    return made


@given(st.frozensets(NAME))
def test_round_trip(names: frozenset[str]) -> None:
    assert known.parse(known.serialise(names)) == names


@given(st.binary())
def test_anything_else_is_refused_or_names(content: bytes) -> None:
    for whole in (content, HEADER + content):
        try:
            found = known.parse(whole)
        except ValueError:
            continue
        assert whole.startswith(HEADER)
        assert all(known._LINES.fullmatch(f"{name}\n".encode()) for name in found)


def test_a_name_is_written_once(names: Known) -> None:
    names.remember(["foo", "bar"])

    def written() -> tuple[int, int]:
        found = names.path.stat()
        return found.st_ino, found.st_mtime_ns

    before = written()
    names.remember(["foo"])
    names.remember(["bar", "foo"])
    assert written() == before
    assert (names.has("foo"), names.has("baz")) == (True, False)
    assert names.path.read_bytes() == HEADER + b"bar\nfoo\n"


def test_what_checks_upload_is_not_written(names: Known) -> None:
    names.remember([f"{THROW_AWAY}937a6957c8d6", "foo"])
    assert names.path.read_bytes() == HEADER + b"foo\n"


def test_what_no_index_can_have_is_not_written(names: Known) -> None:
    names.remember(["", "-x", "a b", "ü", "a\nb", "Foo"])
    assert names.path.read_bytes() == HEADER


def test_a_name_for_which_the_disk_has_room_in_part_is_not_taken_for_written(names: Known) -> None:
    """write(2) says so by a smaller number, and only the next one fails."""
    names.remember(["foo"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (names.path.stat().st_size + 2, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            names.remember(["bar"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names.path.read_bytes() == HEADER + b"foo\nba"
    names.remember(["bar"])
    assert names.path.read_bytes() == HEADER + b"foo\nbar\n"


def test_another_worker_sees_it_at_once(names: Known) -> None:
    other = Known(names.path.parent, names.path.parent.parent)
    assert not other.has("foo")
    names.remember(["foo"])
    assert other.has("foo")
    other.remember(["bar"])
    assert names.forget("foo")
    assert (other.has("foo"), other.has("bar"), names.forget("foo")) == (False, True, False)


def test_many_at_once(names: Known) -> None:
    def add(number: int) -> None:
        mine = Known(names.path.parent, names.path.parent.parent)
        for each in range(20):
            mine.remember([f"n{number}-{each}", f"shared-{each}"])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names.all()) == 8 * 20 + 20
    assert names.path.read_bytes().count(b"\n") == 1 + 8 * 20 + 20


def test_a_name_that_was_cut_short_is_none_and_does_no_harm(names: Known) -> None:
    names.remember(["foo"])
    with names.path.open("ab") as file:
        file.write(b"corp-to")
    assert (names.has("foo"), names.has("corp-to"), names.has("corp-tools")) == (True, False, False)
    names.remember(["corp-tools"])
    assert names.path.read_bytes() == HEADER + b"foo\ncorp-tools\n"


@pytest.mark.parametrize("content", [b"", b"foo\n", HEADER + b"\0\0\0\n", HEADER + b"Foo\n", b"\xff\xfe"])
def test_a_broken_file_closes_everything(names: Known, content: bytes) -> None:
    names.path.write_bytes(content)
    assert names.has("foo") and names.has("whatever")
    names.remember(["foo"])  # an upload goes on
    assert content in names.path.read_bytes()
    with pytest.raises(ValueError):
        names.forget("foo")


def test_a_file_that_cannot_be_read_closes_everything(names: Known) -> None:
    names.path.unlink()
    names.path.mkdir()
    assert names.has("whatever")


def test_a_deleted_file_closes_everything_and_comes_back_with_what_was_in_it(names: Known) -> None:
    names.remember(["foo"])
    assert names.has("foo")
    names.path.unlink()
    assert names.has("whatever")
    names.remember(["bar"])
    assert names.all() == {"foo", "bar"}
    assert not names.has("whatever")


# --- deleted while nobody runs


def again(names: Known, here: list[str] | None = None) -> Known:
    """Return what the next start makes of it."""
    made = Known(names.path.parent, names.path.parent.parent)
    made.begin(here or [])
    return made


def lost(names: Known) -> bool:
    return (names.path.parent.parent / known.LOST_NAME).exists()


def test_a_file_that_is_gone_comes_back_from_its_copy(names: Known, caplog: pytest.LogCaptureFixture) -> None:
    names.remember(["foo", "gone"])
    names.path.unlink()
    assert again(names, ["foo", "new"]).all() == {"foo", "gone", "new"}
    assert ".ppctl-names was gone: made anew with the 2 names of its copy" in caplog.text
    assert not lost(names)
    # Also what came after that is in the copy.
    names.remember(["later"])
    names.path.unlink()
    assert again(names).all() == {"foo", "gone", "new", "later"}


def test_an_older_file_gets_the_names_of_the_copy(names: Known) -> None:
    """packages/ was restored from a backup."""
    names.remember(["old"])
    before = names.path.read_bytes()
    names.remember(["new"])
    names.path.write_bytes(before)
    assert again(names).all() == {"old", "new"}


def test_a_lost_or_broken_copy_is_made_anew(names: Known) -> None:
    names.remember(["foo"])
    copy = names.path.parent.parent / known.COPY_NAME
    for content in (None, b"", b"nonsense", HEADER + b"fo", HEADER + b"\0\n"):
        if content is None:
            copy.unlink()
        else:
            copy.write_bytes(content)
        names.remember([f"more-{len(content or b'')}"])
        assert again(names).all() == names.all()
        assert copy.read_bytes() == names.path.read_bytes()


def test_what_is_let_go_does_not_come_back(names: Known) -> None:
    names.remember(["foo", "bar"])
    assert names.forget("foo")
    assert again(names).all() == {"bar"}
    names.path.unlink()
    assert again(names).all() == {"bar"}


def test_a_list_of_what_is_here_alone_says_so(names: Known, caplog: pytest.LogCaptureFixture) -> None:
    assert not lost(names)  # there was nothing when it began
    for path in (names.path, names.path.parent.parent / known.COPY_NAME):
        path.unlink()
    assert again(names, ["foo"]).all() == {"foo"}
    assert "names whose files are all gone are not in it" in caplog.text
    assert lost(names)


def test_a_copy_that_cannot_be_written_keeps_nobody_from_uploading(names: Known) -> None:
    copy = names.path.parent.parent / known.COPY_NAME
    copy.unlink()
    copy.mkdir()
    names.remember(["foo"])
    assert names.has("foo")


def test_it_is_no_package_and_is_not_followed(names: Known, tmp_path: Path) -> None:
    names.path.unlink()
    target = tmp_path / "elsewhere"
    target.write_bytes(HEADER)
    names.path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        names.remember(["foo"])
    assert target.read_bytes() == HEADER


# --- by whatever way files come and go


def test_every_way_in_and_out_is_noted(names: Known, tmp_path: Path) -> None:
    packages = names.path.parent
    catalogue = Catalogue(tmp_path, packages, names.remember)
    catalogue.open()
    by_hand, content = wheel("By.Hand", "1.0")
    (packages / "sub").mkdir()
    (packages / "sub" / by_hand).write_bytes(content)
    os.utime(packages / "sub" / by_hand, (1, 1))
    reconciler = Reconciler(catalogue)
    for _ in reconciler.check_all():
        pass
    reconciler.work(5)
    assert names.has("by-hand")
    # It comes in with a new catalogue, and is gone before anybody has looked.
    early, content = wheel("early", "1.0")
    (packages / early).write_bytes(content)
    catalogue.path.unlink()
    catalogue.rebuild()
    assert catalogue.files("early") and not names.has("early")
    (packages / early).unlink()
    reconciler.check([early])
    assert not catalogue.files("early") and names.has("early")
    assert FILE_NAME not in [file.name for file in catalogue.all_files()]


@pytest.mark.parametrize("has_seen", ["the file has gone", "the file has come"])
def test_a_watcher_that_is_late_does_not_bring_back_what_was_let_go(
    names: Known, tmp_path: Path, has_seen: str
) -> None:
    """A project is removed and forgotten in one script; then the watcher gets to its files."""
    catalogue = Catalogue(tmp_path, names.path.parent, names.remember)
    entry = Entry("foo-1.0.zip", Stamp(1, 2, 3), "00" * 32)
    enter(catalogue, [entry])
    catalogue.remove([entry.path])
    assert names.forget("foo")
    if has_seen == "the file has gone":
        Reconciler(catalogue).check([entry.path])
    else:
        catalogue.put([entry])
    assert not names.has("foo") and not catalogue.files("foo")
