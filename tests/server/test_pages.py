"""Names, pages and negotiation, whatever they are given; and that a page is rendered once per change."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import sqlite3
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from ppctl.server import answers, marks, moment, names, negotiate, reconcile, scan, simple, store
from ppctl.server import pages as rendered
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.changes import Entry
from ppctl.server.marks import NO_MARKS, Marks, MarksFile
from ppctl.server.negotiate import Format
from ppctl.server.pages import INDEX, Pages
from ppctl.server.scan import Stamp
from ppctl.server.spool import Spool
from tests.server.entered import enter


class Links(HTMLParser):
    """The links of a page, with their attributes and text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.tags: set[str] = set()
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.found.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][1] == "":
            self.found[-1] = (self.found[-1][0], data)


def file(path: str, **more: Any) -> File:
    base = {
        "path": path,
        "name": path.rpartition("/")[2],
        "project": "p",
        "pkgname": "p",
        "version": "1",
        "release": "1",
        "size": 1,
        "mtime_ns": 0,
        "inode": 1,
        "sha256": "ab" * 32,
        "requires_python": None,
        "metadata_sha256": None,
        "metadata_listed": 0,
    }
    return File(**{**base, **more})


# A path's characters: everything but what ends a name.
path_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0\r\n"), min_size=1)


@given(path_text, path_text, st.text(st.characters(blacklist_categories=["Cs"])))
def test_no_name_breaks_a_page(name: str, requires: str, reason: str) -> None:
    known = file(f"sub/{name}.zip", requires_python=requires)
    said = Marks("archived", reason, {"1": reason})
    page = Links(simple.project_html("p", [known], said, "/base"))
    assert page.tags <= {"html", "head", "meta", "title", "body", "h1", "a", "br"}
    [(attributes, text)] = page.found
    assert text == known.name
    href = attributes["href"]
    assert href is not None
    path, _, digest = href.partition("#")
    assert path.isascii()
    assert not set(path) & set(' ?#<>"')
    assert unquote(path) == f"/base/packages/{known.path}"
    assert digest == f"sha256={known.sha256}"
    assert attributes["data-requires-python"] == requires
    if "\r" not in reason:
        assert attributes["data-yanked"] == reason
    found = json.loads(simple.project_json("p", [known], said, "/base"))["files"][0]
    assert (found["filename"], unquote(found["url"])) == (known.name, f"/base/packages/{known.path}")
    index = Links(simple.index_html([name]))
    assert index.found[0][1] == name
    assert unquote(str(index.found[0][0]["href"])) == f"{name}/"


@given(st.text(max_size=60))
def test_any_path_can_be_parsed(path: str) -> None:
    found = names.parse(path)
    if found:
        assert found.project == names.normalize(found.project)
        found.sort.decode()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Foo.Bar-1.0.tar.gz", ("foo-bar", "1.0")),
        ("a/b/foo_bar-1.0-1-py3-none-any.whl", ("foo-bar", "1.0")),
        ("foo-1.0RC1.zip", ("foo", "1.0rc1")),
        ("foo-1.0.zip.asc", ("foo", "1.0")),
        ("foo-what.zip", ("foo", "what")),
        (".foo-1.0.zip", None),
        (".git/foo-1.0.zip", None),
        ("/foo-1.0.zip", None),
        ("a//foo-1.0.zip", None),
        ("../foo-1.0.zip", None),
        ("foo-1.0.txt", None),
        ("foo\udcff-1.0.zip", None),
    ],
)
def test_names(path: str, expected: tuple[str, str] | None) -> None:
    found = names.parse(path)
    assert (found and (found.project, found.release)) == expected


def test_versions_are_sorted_as_people_expect() -> None:
    releases = ["1.10", "1.9", "1.10rc1", "weird", "1.0.dev1", "1.0"]
    files = [file(f"p-{release}.zip", release=release) for release in releases]
    found = json.loads(simple.project_json("p", files, Marks(), ""))["versions"]
    assert found[0] == "weird"
    assert found[1:] == sorted(found[1:], key=Version)


# --- negotiation


@given(st.text(max_size=200))
def test_any_header_can_be_read(header: str) -> None:
    negotiate.by_accept(header)
    negotiate.accepts_gzip(header)
    negotiate.by_name(header)
    environ = {
        "HTTP_RANGE": header,
        "HTTP_IF_RANGE": header,
        "HTTP_IF_NONE_MATCH": header,
        "HTTP_IF_MODIFIED_SINCE": header,
    }
    answers.is_unchanged(environ, '"x"', 0)
    answers.is_unchanged({"HTTP_IF_MODIFIED_SINCE": header}, None, 0)
    answers.plain(404, header or "x")
    try:
        found = answers.part(environ, 10, '"x"', 0)
    except answers.BadRange:
        return
    assert found is None or (0 <= found[0] < 10 and 0 < found[1] <= 10 - found[0])


weights = st.dictionaries(
    st.sampled_from([*(f.value for f in Format), "*/*", "text/*", "application/*"]),
    st.integers(0, 10),
    min_size=1,
)


@given(weights)
def test_nobody_gets_what_he_does_not_want(wanted: dict[str, int]) -> None:
    header = ", ".join(f"{name};q={weight / 10}" for name, weight in wanted.items())

    def quality(found: Format) -> int:
        kind = found.value.partition("/")[0] + "/*"
        return next((wanted[n] for n in (found.value, kind, "*/*") if n in wanted), 0)

    chosen = negotiate.by_accept(header)
    best = max(quality(found) for found in Format)
    assert (chosen is None) == (best == 0)
    if chosen:
        assert quality(chosen) == best


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("gzip;q=0", False),
        ("br, gzip;q=0.1", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
        ("gzip, identity;q=0.5", True),
        ("gzip, identity", True),
        ("gzip;q=0, identity;q=0", False),
    ],
)
def test_gzip(header: str, accepted: bool) -> None:
    assert negotiate.accepts_gzip(header) is accepted


# --- marks


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.builds(
            Marks,
            st.sampled_from(marks.STATUSES),
            st.text(),
            st.dictionaries(st.text(), st.text(), max_size=3),
        ),
        max_size=3,
    )
)
def test_marks_are_read_as_they_were_written(said: dict[str, Marks]) -> None:
    assert marks.parse(marks.serialise(said)) == said


# --- rendered once


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    for name in ("packages", "run"):
        (tmp_path / name).mkdir()
    return Catalogue(tmp_path / "run", tmp_path / "packages")


def entry(path: str, digest: str = "00") -> Entry:
    return Entry(path, Stamp(1, 2, 3), digest * 32, None)


def new_pages(catalogue: Catalogue, *, max_bytes: int = rendered.MAX_BYTES) -> Pages:
    run = catalogue.path.parent
    return Pages(catalogue, MarksFile(catalogue.packages), "", run, max_bytes=max_bytes)


def test_a_page_is_rendered_once_per_change(catalogue: Catalogue) -> None:
    pages = new_pages(catalogue)
    other = Catalogue(catalogue.path.parent, catalogue.packages)
    enter(catalogue, [entry("foo-1.0.zip"), entry("bar-1.0.zip")])
    for _ in range(5):
        for project in ("foo", "bar", INDEX):
            assert pages.get(project, is_json=True)
    assert pages.rendered == 3
    enter(other, [entry("foo-2.0.zip")])
    for _ in range(5):
        page = pages.get("foo", is_json=True)
        assert page
        assert b"foo-2.0.zip" in page.body(zipped=False)
        assert pages.get("bar", is_json=True)
        assert pages.get(INDEX, is_json=True)
    assert pages.rendered == 4
    other.remove(["bar-1.0.zip"])
    assert pages.get("bar", is_json=True) is None
    assert pages.get(INDEX, is_json=True)
    assert pages.rendered == 5
    enter(other, [entry("foo-2.0.zip", "11")])
    page = pages.get("foo", is_json=True)
    assert page
    assert b"11" * 32 in page.body(zipped=False)


def at_hand(pages: Pages, *projects: str) -> list[str]:
    """Return those whose pages the event loop has at hand, in its next round."""
    moment.begin()
    found = []
    for project in projects:
        with contextlib.suppress(answers.MustWait):
            pages.get(project, is_json=True, wait=False)
            found.append(project)
    return found


def test_a_change_concerns_the_pages_it_changes_only(catalogue: Catalogue) -> None:
    pages = new_pages(catalogue)
    other = Catalogue(catalogue.path.parent, catalogue.packages)
    enter(catalogue, [entry(f"{name}-1.0.zip") for name in ("foo", "bar", "baz")])
    all_of_them = ("foo", "bar", "baz", INDEX)

    def ask(*projects: str) -> None:
        for project in projects:
            pages.get(project, is_json=True)

    ask(*all_of_them)
    assert at_hand(pages, *all_of_them) == []  # the event loop has not seen this version before
    ask("foo")
    assert at_hand(pages, *all_of_them) == list(all_of_them)
    enter(other, [entry("foo-2.0.zip")])
    assert at_hand(pages, *all_of_them) == []
    ask("bar")  # whichever request finds the change
    assert at_hand(pages, *all_of_them) == ["bar", "baz", INDEX]
    ask("foo")
    assert at_hand(pages, *all_of_them) == list(all_of_them)
    enter(other, [entry("new-1.0.zip")], ["bar-1.0.zip"])
    assert at_hand(pages, *all_of_them) == []
    ask("baz")
    assert at_hand(pages, *all_of_them) == ["foo", "baz"]
    ask(INDEX)
    assert pages.rendered == 6
    (catalogue.packages / marks.FILE_NAME).write_bytes(marks.serialise({"foo": Marks("archived")}))
    assert at_hand(pages, "foo", "baz", INDEX) == []
    ask("baz")
    assert at_hand(pages, "foo", "baz", INDEX) == ["baz", INDEX]
    # A new catalogue counts from the beginning.
    catalogue.path.unlink()
    other.rebuild()
    enter(other, [entry("baz-2.0.zip")])
    page = pages.get("baz", is_json=True)
    assert page
    assert b"baz-2.0.zip" in page.body(zipped=False)
    assert pages.get("foo", is_json=True) is None
    assert at_hand(pages, "baz", "foo") == []


def mark(catalogue: Catalogue, **said: Marks) -> None:
    path = catalogue.packages / marks.FILE_NAME
    path.with_suffix(".new").write_bytes(marks.serialise(said))
    path.with_suffix(".new").rename(path)


def test_a_page_for_another_prefix_has_the_marks_of_now(catalogue: Catalogue) -> None:
    """Also where nobody asks for any other page."""
    pages = new_pages(catalogue)
    enter(catalogue, [entry("foo-1.0.zip")])
    for status in ("archived", "deprecated"):
        mark(catalogue, foo=Marks(status))
        page = pages.render("foo", is_json=True, base="/elsewhere")
        assert page
        assert json.loads(page.body(zipped=False))["project-status"] == {"status": status}


def test_who_reads_slowly_does_not_bring_old_marks_back(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MarksFile(catalogue.packages)
    mark(catalogue, foo=Marks("archived"))
    usual = marks.parse
    later: list[int] = []

    def slowly(content: bytes) -> dict[str, Marks]:
        monkeypatch.setattr(marks, "parse", usual)
        mark(catalogue, foo=Marks("quarantined"))
        later.append(file.version())  # another thread, which sees the new marks
        return usual(content)

    monkeypatch.setattr(marks, "parse", slowly)
    assert file.version() == later[0]
    assert file.of("foo").status == "quarantined"
    mark(catalogue)
    assert file.version() > later[0]
    assert file.of("foo") == NO_MARKS


def test_marks_that_cannot_be_read_are_told_of_once(
    catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    file = MarksFile(catalogue.packages)
    for content, count in ((b"{", 1), (b"[]", 2)):
        mark(catalogue, foo=Marks("archived"))
        file.version()
        file.path.write_bytes(content)
        assert len({file.version() for _ in range(5)}) == 1
        assert file.of("foo").status == "archived"
        assert caplog.text.count("its last content counts") == count


def test_a_catalogue_in_the_place_of_another_is_another(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the kernel gives the new file the number of the old one, and both count alike."""
    usual = store.identity

    def identity(path: Path | str) -> store.Identity | None:
        found = usual(path)
        return (1, 1) if found and str(path) == str(catalogue.path) else found

    monkeypatch.setattr(store, "identity", identity)
    pages = new_pages(catalogue)
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"x")
    assert pages.get("foo", is_json=True)
    (catalogue.packages / "foo-1.0.zip").unlink()
    catalogue.path.unlink()
    catalogue.rebuild()
    assert pages.get("foo", is_json=True) is None


def test_a_catalogue_that_is_replaced_while_it_is_asked(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = new_pages(catalogue)
    other = Catalogue(catalogue.path.parent, catalogue.packages)
    for number in range(9):
        (catalogue.packages / f"foo-{number}.zip").write_bytes(b"x")
        enter(other, [entry(f"foo-{number}.zip")])
    pages.get("foo", is_json=True)
    (catalogue.packages / "foo-9.zip").write_bytes(b"x")
    enter(other, [entry("foo-9.zip")])
    usual = catalogue.last_changes

    def replaced() -> tuple[int, int]:
        monkeypatch.setattr(catalogue, "last_changes", usual)
        catalogue.path.unlink()
        other.rebuild()
        return usual()

    monkeypatch.setattr(catalogue, "last_changes", replaced)
    page = pages.get("foo", is_json=True)
    assert page
    assert b"foo-9.zip" in page.body(zipped=False)


def test_what_is_asked_for_stays(catalogue: Catalogue) -> None:
    enter(catalogue, [entry(f"p{number}-1.0.zip") for number in range(200)])
    pages = new_pages(catalogue, max_bytes=30_000)
    for number in range(200):
        pages.get(f"p{number}", is_json=True)
        pages.get("p0", is_json=True)
    assert pages.rendered <= 201
    assert ("p0", True) in pages._pages
    assert len(pages._pages) == 60


def test_the_memory_of_pages_is_bounded(catalogue: Catalogue) -> None:
    enter(catalogue, [entry(f"p{number}-1.0.zip") for number in range(200)])
    for limit, kept in ((30_000, 60), (170_000, 200), (600_000, 200)):
        pages = new_pages(catalogue, max_bytes=limit)
        for number in [*range(200), *range(200)]:
            page = pages.get(f"p{number}", is_json=False)
            assert page
            assert f">p{number}-1.0.zip<".encode() in page.body(zipped=False)
            assert gzip.decompress(page.body(zipped=True)) == page.body(zipped=False)
        assert sum(page.size for page in pages._pages.values()) == pages._bytes <= limit
        assert kept <= len(pages._pages) < kept + 10
        assert pages.rendered == (200 if kept == 200 else 400)
        assert (pages._spool is None) == (limit == 600_000)


def test_nobody_sees_the_file_with_the_pages(catalogue: Catalogue) -> None:
    before = sorted(catalogue.path.parent.iterdir())
    spool = Spool(catalogue.path.parent)
    assert spool.read(spool.add(b"abc"), 3, wait=False) == b"abc"
    assert sorted(catalogue.path.parent.iterdir()) == before


def test_the_event_loop_does_not_wait_for_the_disk(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_in_memory(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    enter(catalogue, [entry("foo-1.0.zip"), entry("bar-1.0.zip")])
    pages = new_pages(catalogue, max_bytes=2200)
    page = pages.get("foo", is_json=False)
    assert page
    assert pages.get("bar", is_json=False)
    assert page.body(zipped=False, wait=False) == page.body(zipped=False)
    monkeypatch.setattr(os, "preadv", not_in_memory)
    with pytest.raises(answers.MustWait):
        page.body(zipped=False, wait=False)
    assert b">foo-1.0.zip<" in page.body(zipped=False)


def test_the_file_with_the_pages_does_not_grow_for_ever(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendered, "MAX_SPOOL", 20_000)
    enter(catalogue, [entry(f"p{number}-1.0.zip") for number in range(200)])
    pages = new_pages(catalogue, max_bytes=100_000)
    first = pages.get("p0", is_json=False)
    seen: set[Spool | None] = set()
    for number in [*range(200), *range(200)]:
        page = pages.get(f"p{number}", is_json=False)
        assert page
        assert f">p{number}-1.0.zip<".encode() in page.body(zipped=False)
        seen.add(pages._spool)
        assert pages._spool is None or pages._spool.size < 25_000
        assert sum(page.size for page in pages._pages.values()) == pages._bytes <= 100_000
    assert len(seen - {None}) > 2
    # Whoever was sending it still has it.
    assert first
    assert b">p0-1.0.zip<" in first.body(zipped=False)


def test_a_full_disk_costs_speed_only(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    enter(catalogue, [entry(f"p{number}-1.0.zip") for number in range(100)])
    monkeypatch.setattr(Spool, "add", full)
    pages = new_pages(catalogue, max_bytes=20_000)
    for number in [*range(100), *range(100)]:
        page = pages.get(f"p{number}", is_json=False)
        assert page
        assert f">p{number}-1.0.zip<".encode() in page.body(zipped=False)
        assert sum(page.size for page in pages._pages.values()) == pages._bytes <= 20_000
    assert caplog.text.count("No space left on device") == 1


def test_many_threads_read_while_others_write(catalogue: Catalogue) -> None:
    pages = new_pages(catalogue)
    failures: list[object] = []
    given_up = threading.Event()

    def read() -> None:
        try:
            last = 0
            while last < 100 and not given_up.is_set():
                page = pages.get("foo", is_json=False)
                count = page.body(zipped=False).count(b"<a ") if page else 0
                assert count >= last
                last = count
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            enter(Catalogue(catalogue.path.parent, catalogue.packages), [entry(f"foo-1.{number}.zip")])
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    finally:
        given_up.set()
    assert failures == []


# --- the catalogue


def test_a_new_catalogue_has_what_is_on_the_disk(catalogue: Catalogue) -> None:
    for path in ("foo-1.0.zip", "sub/foo-2.0.zip", ".x/foo-3.0.zip", "readme.txt"):
        (catalogue.packages / path).parent.mkdir(exist_ok=True)
        (catalogue.packages / path).write_bytes(b"x")
    found = catalogue.files("foo")
    assert [file.path for file in found] == ["foo-1.0.zip", "sub/foo-2.0.zip"]
    assert all(file.sha256 for file in found)
    assert found[0].stamp == scan.look(catalogue.packages / "foo-1.0.zip")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_file_that_is_no_catalogue_is_replaced(catalogue: Catalogue, content: bytes) -> None:
    (catalogue.packages / "foo-1.0.zip").write_bytes(b"x")
    catalogue.path.write_bytes(content)
    assert catalogue.projects() == ["foo"]
    assert Catalogue(catalogue.path.parent, catalogue.packages).projects() == ["foo"]


@pytest.mark.parametrize("locks", ["kept", "deleted, too"])
def test_a_change_while_a_new_catalogue_is_made_is_in_it(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, locks: str
) -> None:
    """The disk has been looked at already when the file comes, and another one goes."""
    other = Catalogue(catalogue.path.parent, catalogue.packages)
    old, new = (catalogue.packages / f"foo-{number}.zip" for number in (1, 2))
    old.write_bytes(b"x")
    assert [file.path for file in catalogue.files("foo")] == [old.name]
    usual = store._hash_some
    writers: list[threading.Thread] = []

    def change() -> None:
        old.unlink()
        catalogue.remove([old.name])
        new.write_bytes(b"x")
        enter(catalogue, [entry(new.name)])

    def hash_some(*of: Any) -> None:
        writers.append(threading.Thread(target=change))
        writers[0].start()
        writers[0].join(0.1)
        usual(*of)

    monkeypatch.setattr(store, "_hash_some", hash_some)
    catalogue.path.unlink()
    if locks != "kept":
        catalogue.path.with_suffix(".lock").unlink()
    other.rebuild()
    writers[0].join(60)
    assert [file.path for file in other.files("foo")] == [new.name]
    assert [file.path for file in catalogue.files("foo")] == [new.name]


@pytest.mark.parametrize("what", ["removed", "replaced", "stored"])
def test_what_the_watcher_saw_too_early_does_not_count(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It has looked at a file; before it says so, the file is removed, replaced or stored by a request."""
    path = catalogue.packages / "foo-1.0.zip"
    reconciler = reconcile.Reconciler(catalogue)
    examine, forget = reconcile.examine, reconciler._forget

    def request() -> list[tuple[str, str | None]]:
        path.unlink(missing_ok=True)
        if what == "removed":
            catalogue.remove([path.name])
            return []
        path.with_suffix(".new").write_bytes(b"the new one")
        path.with_suffix(".new").rename(path)
        stamp = scan.look(path)
        assert stamp
        catalogue.put([Entry(path.name, stamp, "11" * 32)])
        return [(path.name, "11" * 32)]

    expected = []

    def examine_slowly(root: Path, name: str) -> Entry | None:
        entry = examine(root, name)
        expected.append(request())
        return entry

    def forget_slowly(paths: list[str]) -> None:
        expected.append(request())
        forget(paths)

    enter(catalogue, [entry("foo-1.0.zip"), entry("bar-1.0.zip")])
    if what == "stored":
        monkeypatch.setattr(reconciler, "_forget", forget_slowly)
    else:
        path.write_bytes(b"the old one")
        monkeypatch.setattr(reconcile, "examine", examine_slowly)
    reconciler.check([path.name])
    reconciler.work(1)
    assert [(file.path, file.sha256) for file in catalogue.files("foo")] == expected[0]


def test_a_change_is_made_whole_or_not_at_all(catalogue: Catalogue) -> None:
    class Broken(dict[str, object]):
        pass

    enter(catalogue, [entry("foo-1.0.zip")])
    broken = Entry("foo-2.0.zip", Stamp(1, 2, 3), Broken(), None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        enter(catalogue, [entry("foo-1.5.zip"), broken])
    assert [file.path for file in catalogue.files("foo")] == ["foo-1.0.zip"]


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 3)), max_size=20))
def test_projects_are_those_that_have_files(catalogue: Catalogue, steps: list[tuple[bool, str, int]]) -> None:
    catalogue.remove([file.path for file in catalogue.all_files()])
    there: set[str] = set()
    for is_put, project, version in steps:
        path = f"{project}-{version}.0.zip"
        before = catalogue.version()
        if is_put:
            enter(catalogue, [entry(path)])
            there.add(path)
        else:
            catalogue.remove([path])
            there.discard(path)
        assert is_put <= (catalogue.version() != before)
        assert catalogue.projects() == sorted({path[0] for path in there})
        assert {file.path for file in catalogue.all_files()} == there
