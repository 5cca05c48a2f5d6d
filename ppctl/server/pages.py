"""The rendered pages: made once per change, kept in bounded memory, checked in every request."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppctl.server import simple
from ppctl.server.answers import Answer, Header, MustWait, is_unchanged
from ppctl.server.catalogue import Catalogue
from ppctl.server.marks import MarksFile
from ppctl.server.moment import Once
from ppctl.server.negotiate import Format
from ppctl.server.spool import Spool

log = logging.getLogger("ppctl.server.pages")

MAX_BYTES = 12 << 20
"""How much memory the pages of one worker may take: enough for 50,000 files, most of them in the spool."""

MAX_SPOOL = 256 << 20
"""How much of the disk they may take."""

# The index page of many projects is large and changes often.
_FAST_GZIP_FROM = 1 << 18
_OVERHEAD = 700
_GZIP = 31  # zlib's name for the format

Key = tuple[str, bool]
INDEX = ""
"""Stands for the page of all projects where a project's name is asked for."""


class Page:
    """A rendered page. `change` is what it was made of, `seen` when it was last found to be current.

    `seen_at_once`: the same as the event loop counts.
    """

    __slots__ = ("_content", "_digest", "_gzipped", "_lengths", "_spooled", "change", "seen", "seen_at_once")

    def __init__(self, content: bytes, change: object, seen: object) -> None:
        self.change = change
        self.seen = seen
        self.seen_at_once: object = None
        # Most clients want it compressed.
        gzipped = gzip.compress(content, 1 if len(content) >= _FAST_GZIP_FROM else 6, mtime=0)
        self._content: bytes | None = content
        self._gzipped: bytes | None = gzipped
        self._lengths = len(content), len(gzipped)
        self._spooled: tuple[Spool, int] | None = None
        self._digest = hashlib.sha256(content).hexdigest()[:32]

    @classmethod
    def unpacked_later(cls, gzipped: bytes) -> Page:
        """Return a page that was rendered and compressed by somebody else."""
        page = cls.__new__(cls)
        page.change = page.seen = page.seen_at_once = page._content = page._spooled = None
        page._gzipped = gzipped
        page._digest = hashlib.sha256(gzipped).hexdigest()[:32]
        return page

    @property
    def size(self) -> int:
        """Return about how much memory it takes."""
        return _OVERHEAD + (0 if self._spooled else sum(self._lengths))

    def body(self, *, zipped: bool, wait: bool = True) -> bytes:
        """Return the page, perhaps compressed. Raises MustWait when it would have to wait for the disk."""
        kept = self._gzipped if zipped else self._content
        if kept is not None:
            return kept
        if self._spooled is None:
            return zlib.decompress(self._gzipped or b"", _GZIP)
        spool, place = self._spooled
        whole, packed = self._lengths
        if zipped:
            return spool.read(place + whole, packed, wait=wait)
        return spool.read(place, whole, wait=wait)

    def move(self, spool: Spool) -> int:
        """Keep it in the spool instead of in memory; returns the bytes saved. Raises OSError."""
        if self._content is None or self._gzipped is None:
            return 0
        self._spooled = spool, spool.add(self._content + self._gzipped)
        # In this order: other threads look in memory first.
        self._content = self._gzipped = None
        return sum(self._lengths)

    def etag(self, form: Format, *, zipped: bool) -> str:
        """Return what tells this representation from all others (RFC 9110, section 8.8.3)."""
        return f'"{self._digest}{"-v1" if form is Format.V1_HTML else ""}{"-gz" if zipped else ""}"'


class Pages:
    """The pages of one worker, those rendered last in memory, the others in a file in the directory `run`.

    `base` is the path under which the index is mounted. For many threads.
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
        self._pages: OrderedDict[Key, Page] = OrderedDict()
        self._whole: OrderedDict[Key, Page] = OrderedDict()
        self._round = Once(lambda: (catalogue.version(wait=False), marks.version()))
        self._at_once: object = None
        self.rendered = 0

    def get(self, project: str, *, is_json: bool, wait: bool = True) -> Page | None:
        """Return the page of a project, or of all (INDEX), as of now; None when there is no such project.

        `wait=False` is for the event loop: it raises MustWait when the page is not at hand.
        """
        key = (project, is_json)
        if not wait:
            return self._get_at_once(key)
        # Asked before anything else: whatever is found now is at least as new.
        at_once = self._at_once
        seen = (self._catalogue.version(), self._marks.version())
        page = self._pages.get(key)
        if page is None or page.seen != seen:
            with self._lock:
                page = self._refresh(key, seen)
        if page is not None:
            page.seen_at_once = at_once
            self._used(key)
        return page

    def _get_at_once(self, key: Key) -> Page:
        self._at_once = seen = self._round.get()
        page = self._pages.get(key)
        if page is None or page.seen_at_once != seen:
            raise MustWait
        self._used(key)
        return page

    def _used(self, key: Key) -> None:
        with contextlib.suppress(KeyError):  # dropped by another thread just now
            self._pages.move_to_end(key)

    def render(self, project: str, *, is_json: bool, base: str) -> Page | None:
        """Return a page for an index that is mounted elsewhere, which is not kept."""
        if self._change(project) is None:
            return None
        return Page(self._content(project, is_json=is_json, base=base), None, None)

    def _refresh(self, key: Key, seen: tuple[Any, int]) -> Page | None:
        project, is_json = key
        number = self._change(project)
        page = self._pages.get(key)
        if number is None:
            self._drop(key)
            return None
        # A new catalogue counts from the beginning, so its identity is a part of the number.
        change = (seen[0][0], number, seen[1])
        if page is None or page.change != change:
            self._drop(key)
            page = Page(self._content(project, is_json=is_json, base=self._base), change, seen)
            self._keep(key, page)
            self.rendered += 1
        page.seen = seen
        return page

    def _change(self, project: str) -> int | None:
        return self._catalogue.change_of(project) if project else self._catalogue.change_of_names()

    def _content(self, project: str, *, is_json: bool, base: str) -> bytes:
        if project == INDEX:
            names = self._catalogue.projects()
            return simple.index_json(names) if is_json else simple.index_html(names)
        render: Callable[..., bytes] = simple.project_json if is_json else simple.project_html
        return render(
            project, self._catalogue.files(project), self._marks.of(project), base, self._public_url
        )

    def _drop(self, key: Key) -> None:
        page = self._pages.pop(key, None)
        self._whole.pop(key, None)
        self._bytes -= page.size if page else 0

    def _keep(self, key: Key, page: Page) -> None:
        if self._spool and self._spool.size > MAX_SPOOL:
            # Most of it is of pages that have changed since; whoever is sending one keeps it until then.
            self._pages.clear()
            self._whole.clear()
            self._bytes, self._spool = 0, None
        self._pages[key] = self._whole[key] = page
        self._bytes += page.size
        while self._bytes > self._max_bytes and self._whole:
            _, oldest = self._whole.popitem(last=False)
            self._bytes -= self._spooled(oldest)
        while self._bytes > self._max_bytes and self._pages:
            _, oldest = self._pages.popitem(last=False)
            self._bytes -= oldest.size

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
