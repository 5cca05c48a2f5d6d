"""The parts of a form (multipart/form-data, RFC 7578), as they arrive: whatever its size, in bounded memory.

As forgiving as the parser that stock pypiserver uses: lines may end in LF alone, as those of the upload
command of old Pythons do; a text may come before the first part; headers may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ppctl.server.body import BadBody

MAX_PARTS = 5000
"""How many parts there may be: each classifier and each requirement of a project is one."""

MAX_HEADER = 16 << 10
_BLOCK = 1 << 17
# What may follow a boundary to the end of its line: blanks, and the dashes of the last one.
_MAX_LINE = 80
_REST_OF_LINE = re.compile(rb"(--)?[ \t]{0,64}(?:\r?\n|\Z)")
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')

Read = Callable[[int], bytes]


class Part:
    """One part. `filename` is None for a field. Its content can be read once, before the next part."""

    def __init__(self, form: Form, name: str, filename: str | None) -> None:
        self._form = form
        self.name = name
        self.filename = filename

    def blocks(self) -> Iterator[bytes]:
        """Yield the content, none of the blocks empty. Raises BadBody when the form ends before it."""
        return self._form._content()


class Form:
    """The parts of a form. `read` returns up to so many bytes, none at the end. Iterate once.

    Raises BadBody for a form that has no end, too many parts, or headers that are none.
    """

    def __init__(self, read: Read, boundary: bytes) -> None:
        self._read = read
        self._first = b"--" + boundary
        self._delimiter = b"\n--" + boundary
        self._buffer = b""
        self._at = 0
        self._ended = False
        self._in_content = False
        self._closed = False

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts; what has not been read of one is passed over."""
        self._begin()
        for _ in range(MAX_PARTS):
            if self._closed:
                self._pass_over_rest()
                return
            part = self._part()
            self._in_content = True
            yield part
            for _block in self._content():
                pass
        raise BadBody(f"a form of more than {MAX_PARTS} parts")

    def _fill(self) -> bool:
        """Read more. Returns False at the end. What comes before the last byte that was used is dropped."""
        more = b"" if self._ended else self._read(_BLOCK)
        self._ended = not more
        drop = max(0, self._at - 1)
        self._buffer = self._buffer[drop:] + more
        self._at -= drop
        return not self._ended

    def _begin(self) -> None:
        """Go to the end of the first boundary's line."""
        while len(self._buffer) < MAX_HEADER and self._fill():
            pass
        start = 0
        while (start := self._buffer.find(self._first, start, MAX_HEADER)) >= 0:
            rest = self._rest_of_line(start + len(self._first))
            if rest and (start == 0 or self._buffer[start - 1 : start] == b"\n"):
                self._after_boundary(rest)
                return
            start += 1
        raise BadBody("the form has no beginning" if self._buffer else "the form has no end")

    def _rest_of_line(self, at: int) -> re.Match[bytes] | None:
        """Return what follows a boundary in its line; None when it was none, but the content."""
        found = _REST_OF_LINE.match(self._buffer, at, at + _MAX_LINE)
        # The end of what has been read is the end of a line only at the end of the form.
        if found and not found[0].endswith(b"\n") and not (self._ended and found.end() == len(self._buffer)):
            return None
        return found

    def _after_boundary(self, rest: re.Match[bytes]) -> None:
        self._closed = rest[1] is not None
        if not self._closed and not rest[0].endswith(b"\n"):
            raise BadBody("the form has no end")
        self._at = rest.end()
        self._in_content = False

    def _part(self) -> Part:
        """Read the headers of a part. One without a name is nobody's."""
        said = self._headers().get("content-disposition", "")
        parameters = {key.lower(): _unquote(value) for key, value in _PARAMETER.findall(said)}
        return Part(self, parameters.get("name", ""), parameters.get("filename"))

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        left, last = MAX_HEADER, ""
        while True:
            line = self._line(left)
            left -= len(line) + 1
            text = line.removesuffix(b"\r").decode("utf-8", "replace")
            if not text:
                return headers
            name, colon, value = text.partition(":")
            if text[0] in " \t" and last:
                headers[last] += f" {text.strip()}"
            elif colon:
                last = name.strip().lower()
                headers[last] = value.strip()

    def _line(self, limit: int) -> bytes:
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            if len(self._buffer) - self._at > limit:
                break
            if not self._fill():
                raise BadBody("the form has no end")
        if not self._at <= end <= self._at + limit:
            raise BadBody("a part of the form has too large headers")
        line = self._buffer[self._at : end]
        self._at = end + 1
        return line

    def _content(self) -> Iterator[bytes]:
        """Yield what comes before the next boundary, and go to the end of its line.

        The line end before a boundary belongs to the boundary. That of an empty content is the headers'.
        """
        search = self._at - 1
        while self._in_content:
            at = self._buffer.find(self._delimiter, search)
            end = at + len(self._delimiter)
            if at >= 0 and (len(self._buffer) >= end + _MAX_LINE or self._ended):
                rest = self._rest_of_line(end)
                if rest is None:
                    search = at + 1
                    continue
                start, stop = self._at, at - int(self._buffer[at - 1 : at] == b"\r")
                self._after_boundary(rest)
                if stop > start:
                    yield self._buffer[start:stop]
                return
            # Kept: what may be the beginning of a boundary, with the line end before it.
            keep = at - 1 if at >= 0 else len(self._buffer) - len(self._delimiter) - 1
            search = max(search, keep)
            if keep > self._at:
                start, self._at = self._at, keep
                yield self._buffer[start:keep]
            if not self._ended:
                search -= max(0, self._at - 1)
                self._fill()
            elif at < 0:
                raise BadBody("the form has no end")

    def _pass_over_rest(self) -> None:
        while self._fill():
            self._at = len(self._buffer)


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' else value
