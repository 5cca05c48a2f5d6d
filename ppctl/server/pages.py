"""The rendered pages: made once per change, kept in bounded memory, checked in every request."""

from __future__ import annotations

import gzip
import hashlib
import logging
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ppctl.server import simple
from ppctl.server.answers import Answer, Header, MustWait, is_unchanged
from ppctl.server.catalogue import Catalogue
from ppctl.server.current import Version
from ppctl.server.marks import NO_MARKS, Marks, MarksFile
from ppctl.server.moment import Once
from ppctl.server.negotiate import Format
from ppctl.server.spool import Spool

log = logging.getLogger("ppctl.server.pages")

MAX_BYTES = 15 << 20
"""How much memory the pages of one worker may take: enough for 50,000 files, most of them in the spool."""

MAX_SPOOL = 256 << 20
"""How much of the disk they may take."""

# The index page of many projects is large and changes often.
_FAST_GZIP_FROM = 1 << 18
_OVERHEAD = 500
_GZIP = 31  # zlib's name for the format

Key = tuple[str, bool]
_Seen = tuple[Version, int]
INDEX = ""
"""Stands for the page of all projects where a project's name is asked for."""


class Page:
    """A rendered page, made with `marks`. `used`: somebody has asked for it lately."""

    __slots__ = ("_content", "_digest", "_gzipped", "_packed", "_place", "_spool", "_whole", "marks", "used")

    def __init__(self, content: bytes, marks: Marks) -> None:
        self.marks = marks
        self.used = True
        # Most clients want it compressed.
        gzipped = gzip.compress(content, 1 if len(content) >= _FAST_GZIP_FROM else 6, mtime=0)
        self._content: bytes | None = content
        self._gzipped: bytes | None = gzipped
        self._whole, self._packed = len(content), len(gzipped)
        self._spool: Spool | None = None
        self._place = 0
        self._digest = hashlib.sha256(content).hexdigest()[:32]

    @classmethod
    def unpacked_later(cls, gzipped: bytes) -> Page:
        """Return a page that was rendered and compressed by somebody else."""
        page = cls.__new__(cls)
        page._content = page._spool = None
        page._gzipped = gzipped
        page._digest = hashlib.sha256(gzipped).hexdigest()[:32]
        return page

    @property
    def size(self) -> int:
        """Return about how much memory it takes."""
        return _OVERHEAD + (0 if self._spool else self._whole + self._packed)

    def body(self, *, zipped: bool, wait: bool = True) -> bytes:
        """Return the page, perhaps compressed. Raises MustWait when it would have to wait for the disk."""
        kept = self._gzipped if zipped else self._content
        if kept is not None:
            return kept
        if self._spool is None:
            return zlib.decompress(self._gzipped or b"", _GZIP)
        if zipped:
            return self._spool.read(self._place + self._whole, self._packed, wait=wait)
        return self._spool.read(self._place, self._whole, wait=wait)

    def move(self, spool: Spool) -> int:
        """Keep it in the spool instead of in memory; returns the bytes saved. Raises OSError."""
        if self._content is None or self._gzipped is None:
            return 0
        self._place = spool.add(self._content + self._gzipped)
        # In this order: other threads look in memory first.
        self._spool = spool
        self._content = self._gzipped = None
        return self._whole + self._packed

    def etag(self, form: Format, *, zipped: bool) -> str:
        """Return what tells this representation from all others (RFC 9110, section 8.8.3)."""
        return f'"{self._digest}{"-v1" if form is Format.V1_HTML else ""}{"-gz" if zipped else ""}"'


class Pages:
    """The pages of one worker, those rendered last in memory, the others in a file in the directory `run`.

    What is kept is current as of one version of the catalogue and of the marks. A new version costs one look
    at what has changed, in the first request that finds it. `base` is the path under which the index is
    mounted. For many threads.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        marks: MarksFile,
        base: str,
        run: Path,
        *,
        public_url: str = "",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._catalogue = catalogue
        self._marks = marks
        self._base = base
        self._public_url = public_url
        self._run = run
        self._max_bytes = max_bytes
        self._bytes = 0
        self._spool: Spool | None = None
        self._complained = False
        self._lock = threading.Lock()
        self._pages: dict[Key, Page] = {}
        self._whole: dict[Key, Page] = {}
        self._seen: _Seen | None = None
        self._number = self._names_number = 0
        # The same version has another number for the event loop: what it has found last, and what was the
        # last that it had found before the pages became current.
        self._round = Once(lambda: (catalogue.version(wait=False), marks.version()))
        self._found_at_once: _Seen | None = None
        self._seen_at_once: _Seen | None = None
        self.rendered = 0

    def get(self, project: str, *, is_json: bool, wait: bool = True) -> Page | None:
        """Return the page of a project, or of all (INDEX), as of now; None when there is no such project.

        `wait=False` is for the event loop: it raises MustWait when the page is not at hand.
        """
        key = (project, is_json)
        if not wait:
            return self._get_at_once(key)
        self._catch_up()
        page = self._pages.get(key)
        if page is None:
            with self._lock:
                page = self._pages.get(key) or self._make(key)
        if page is not None:
            page.used = True
        return page

    def _get_at_once(self, key: Key) -> Page:
        self._found_at_once = seen = self._round.get()
        page = self._pages.get(key) if seen == self._seen_at_once else None
        if page is None:
            raise MustWait
        page.used = True
        return page

    def render(self, project: str, *, is_json: bool, base: str) -> Page | None:
        """Return a page for an index that is mounted elsewhere, which is not kept."""
        self._marks.version()  # so that they are as of now
        return self._page(project, is_json=is_json, base=base)

    def _catch_up(self) -> None:
        """Drop what is no longer current."""
        if self._look() == self._seen and self._found_at_once == self._seen_at_once:
            return
        with self._lock:
            # Asked before anything else: whatever is found then is at least as new.
            at_once = self._found_at_once
            seen = self._look()
            if seen != self._seen:
                self._drop_changed(seen)
                if self._look()[0][0] != seen[0][0]:
                    self._drop(list(self._pages))  # the catalogue was replaced while we asked it
            self._seen, self._seen_at_once = seen, at_once

    def _look(self) -> _Seen:
        return self._catalogue.version(), self._marks.version()

    def _drop_changed(self, seen: _Seen) -> None:
        last, last_of_names = self._catalogue.last_changes()
        was = self._seen
        if was is None or was[0][0] != seen[0][0]:  # a new catalogue counts from the beginning
            self._drop(list(self._pages))
        elif was[0] != seen[0]:
            changed = self._catalogue.changed_since(self._number)
            if last_of_names != self._names_number:
                changed.append(INDEX)
            self._drop([(project, is_json) for project in changed for is_json in (False, True)])
        if was is not None and was[1] != seen[1]:
            of = self._marks.of
            self._drop([key for key, page in self._pages.items() if page.marks != of(key[0])])
        self._number, self._names_number = last, last_of_names

    def _make(self, key: Key) -> Page | None:
        project, is_json = key
        page = self._page(project, is_json=is_json, base=self._base)
        if page is not None:
            self._keep(key, page)
            self.rendered += 1
        return page

    def _page(self, project: str, *, is_json: bool, base: str) -> Page | None:
        if project == INDEX:
            names = self._catalogue.projects()
            return Page(simple.index_json(names) if is_json else simple.index_html(names), NO_MARKS)
        if not self._catalogue.has(project):
            return None
        render: Callable[..., bytes] = simple.project_json if is_json else simple.project_html
        marks = self._marks.of(project)
        return Page(render(project, self._catalogue.files(project), marks, base, self._public_url), marks)

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in keys:
            page = self._pages.pop(key, None)
            self._whole.pop(key, None)
            self._bytes -= page.size if page else 0

    def _keep(self, key: Key, page: Page) -> None:
        if self._spool and self._spool.size > MAX_SPOOL:
            # Most of it is of pages that have changed since; whoever is sending one keeps it until then.
            self._drop(list(self._pages))
            self._spool = None
        self._pages[key] = self._whole[key] = page
        self._bytes += page.size
        while self._bytes > self._max_bytes and self._whole:
            oldest = next(iter(self._whole))
            self._bytes -= self._spooled(self._whole.pop(oldest))
        while self._bytes > self._max_bytes and self._pages:
            self._let_one_go()

    def _let_one_go(self) -> None:
        """Drop the page that was kept first, of those that nobody has asked for lately."""
        while (page := self._pages[key := next(iter(self._pages))]).used:
            page.used = False
            # To the end; the event loop may just miss it, and then asks again in a thread.
            self._pages[key] = self._pages.pop(key)
        self._drop([key])

    def _spooled(self, page: Page) -> int:
        """Move a page to the disk; returns how much memory that saves, 0 when there is no room."""
        try:
            self._spool = self._spool or Spool(self._run)
            return page.move(self._spool)
        except OSError as e:
            if not self._complained:
                log.warning("pages are rendered more often than they need be: %s: %s", self._run, e.strerror)
            self._complained = True
            return 0


def answer(
    environ: dict[str, Any], page: Page, form: Format, *, zipped: bool, private: bool, wait: bool = True
) -> Answer:
    """Return the answer with a page: 304 when the client has it already. Raises MustWait as Page.body does.

    Clients may keep a page, but have to ask each time whether it is still current: an upload is seen in the
    next request (RFC 9111, section 5.2.2.4).
    """
    etag = page.etag(form, zipped=zipped)
    headers: list[Header] = [
        ("ETag", etag),
        ("Vary", "Accept, Accept-Encoding"),
        ("Cache-Control", "private, no-cache" if private else "no-cache"),
    ]
    if is_unchanged(environ, etag):
        return Answer("304 Not Modified", headers, [])
    content = page.body(zipped=zipped, wait=wait)
    headers += [("Content-Type", form.content_type), ("Content-Length", str(len(content)))]
    if zipped:
        headers.append(("Content-Encoding", "gzip"))
    return Answer("200 OK", headers, [content])
