"""Uploads: received as they come, checked, and on the pages all at once.

In front of pypiserver's own route, which would copy the whole body three times before it knew whether anybody
wants it. The answers are pypiserver's; what it ignores (hashes, attestations, whether it is a package at all)
is looked at here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from ppctl.server import acceptance, attestations, spelling
from ppctl.server.acceptance import NotAccepted, shown
from ppctl.server.access import IDENTITY, Access, Refusal
from ppctl.server.answers import Answer, plain
from ppctl.server.archives import open_zip
from ppctl.server.body import UNKNOWN_LENGTH, boundary_of
from ppctl.server.drafts import Draft
from ppctl.server.form import Form, Part
from ppctl.server.guarded import GuardedBackend

log = logging.getLogger("ppctl.server.uploads")

MAX_FIELDS = 8 << 20
"""How large the fields of a form may be, all together: the description of a project is one of them."""

MAX_SIGNATURE = 64 << 10
MAX_OTHER_BODY = 100 << 10
"""How large the body of a request may be that is no form of parts: so much pypiserver keeps in memory."""

_FORM = "application/x-www-form-urlencoded"
_OTHER_DIGESTS: dict[str, Callable[[], Any]] = {
    "blake2_256_digest": lambda: hashlib.blake2b(digest_size=32),
    "md5_digest": lambda: hashlib.md5(usedforsecurity=False),
}
_DIGESTS = ("sha256_digest", *_OTHER_DIGESTS)
_SIZE_OF = {
    **dict.fromkeys((":action", "name", "version", "filetype", *_DIGESTS), 4096),
    "attestations": attestations.MAX_BYTES,
}
"""The fields that mean something here or to pypiserver, and how large they may be."""

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class TooLarge(Exception):
    """More than the index takes. The message says what. Answered with 413."""


class Uploads:
    """A WSGI application (PEP 3333) in front of pypiserver's. `max_size`: bytes of a package file."""

    def __init__(
        self, application: Application, backend: GuardedBackend, access: Access, *, max_size: int
    ) -> None:
        self._application = application
        self._backend = backend
        self._access = access
        self._max_size = max_size

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._post(environ) if environ["REQUEST_METHOD"] == "POST" else None
        if answer is None:
            return self._application(environ, start_response)
        start_response(answer.status, answer.headers)
        return answer.content

    def _post(self, environ: Environ) -> Answer | None:
        """Return the answer; None for what pypiserver answers, whose body is a small one then."""
        try:
            boundary = boundary_of(environ.get("CONTENT_TYPE", ""))
            if environ["PATH_INFO"] == "/" and boundary:
                return self._access.refuse(environ, "upload") or self._form(environ, boundary)
            _read_small_body(environ)
            return None
        except (NotAccepted, TooLarge) as e:
            return plain(413 if isinstance(e, TooLarge) else 400, str(e))
        except Refusal as e:
            return plain(e.status, str(e), *e.headers)
        except FileExistsError as e:
            # twine knows 400 as pypi.org's answer, and then looks for these words (twine#1265).
            status = 400 if "twine" in environ.get("HTTP_USER_AGENT", "") else 409
            return plain(status, f"Package {e.filename!r} already exists!\nFiles are never replaced here.")
        except FileNotFoundError as e:
            log.error("somebody has deleted an upload on its way (rsync --delete?): %s", e.filename)
            return plain(503, "Somebody has deleted on the server what had arrived: try again")

    def _form(self, environ: Environ, boundary: bytes) -> Answer | None:
        length = environ.get("CONTENT_LENGTH") or "0"
        if length != UNKNOWN_LENGTH and int(length) > self._max_size + MAX_FIELDS:
            raise TooLarge(self._says_limit("this upload"))
        stream = environ["wsgi.input"]
        with contextlib.ExitStack() as stack:
            upload = _Upload(lambda: stack.enter_context(self._backend.draft()), self._says_limit)
            upload.max_size = self._max_size
            for part in Form(getattr(stream, "read1", stream.read), boundary):
                if upload.is_package(part):
                    upload.is_again = self._check_early(
                        part.filename or "", environ, upload.said("sha256_digest")
                    )
                upload.take(part)
            action = upload.fields.get(":action")
            if upload.draft is None or action not in ("file_upload", "doc_upload"):
                _hand_on(environ, upload.fields)
                return None
            if action == "file_upload":
                # Once more: it may have taken hours, and a token is revoked at once.
                if refused := self._access.refuse(environ, "upload"):
                    return refused
                self._store(upload, upload.draft, environ)
            else:
                _check_documentation(upload.draft)
        return Answer("200 OK", [("Content-Type", "text/html; charset=UTF-8"), ("Content-Length", "0")], [])

    def _check_early(self, filename: str, environ: Environ, sha256: str) -> bool:
        """Raise what `_store` would raise, before the file has arrived.

        Returns whether there is one of this name already, which may be the one with this hash.
        """
        acceptance.check_name(filename)
        return self._backend.check_upload(filename, environ.get(IDENTITY), sha256)

    def _store(self, upload: _Upload, draft: Draft, environ: Environ) -> None:
        filename, fields = upload.filename, upload.fields
        # What came meanwhile is a conflict, whatever is in it: of two at once, one wins.
        self._check_early(filename, environ, upload.said("sha256_digest") if upload.is_again else "")
        upload.check_digests(draft)
        with draft.open() as file:
            about = acceptance.check(file, filename, fields.get("filetype", ""))
        if upload.signature:
            if upload.signature[0] != f"{filename}{spelling.SIGNATURE}":
                raise NotAccepted(f"Unrelated signature {shown(upload.signature[0])} for package {filename}")
            draft.sidecars[spelling.SIGNATURE] = upload.signature[1]
        if fields.get("attestations"):
            made = attestations.provenance(fields["attestations"], filename, draft.sha256)
            draft.sidecars[spelling.PROVENANCE] = made
        if any(len(filename + ending) > acceptance.MAX_NAME for ending in draft.sidecars):
            raise NotAccepted(f"{shown(filename)}: too long a name for what belongs to the file")
        self._backend.store(draft, filename, about, environ.get(IDENTITY), is_again=upload.is_again)

    def _says_limit(self, what: str) -> str:
        return f"{what} is larger than the {self._max_size} bytes that this index takes (max_upload_size)"


class _Upload:
    """What has arrived of a form."""

    def __init__(self, make_draft: Callable[[], Draft], says_limit: Callable[[str], str]) -> None:
        self._make_draft = make_draft
        self._says_limit = says_limit
        self._left = MAX_FIELDS
        self._end = b""
        self.max_size = 0
        self.is_again = False
        self.fields: dict[str, str] = {}
        self.draft: Draft | None = None
        self.filename = ""
        self.signature: tuple[str, bytes] | None = None

    def said(self, digest: str) -> str:
        """Return the hash that the client says the file has; "" as long as it has said none."""
        return self.fields.get(digest, "").strip().lower()

    def is_package(self, part: Part) -> bool:
        """Return whether the part is known to be a package file."""
        return bool(part.name == "content" and part.filename and self.fields.get(":action") == "file_upload")

    def take(self, part: Part) -> None:
        """Receive a part. Raises NotAccepted, TooLarge, BadBody, OSError."""
        if part.name == "content" and part.filename:
            self._take_file(part, part.filename)
        elif part.name == "gpg_signature" and part.filename:
            self.signature = (part.filename, self._take_field(part, MAX_SIGNATURE))
        else:
            value = self._take_field(part, _SIZE_OF.get(part.name))
            if part.name in _SIZE_OF:
                self.fields[part.name] = value.decode("utf-8", "replace")

    def check_digests(self, draft: Draft) -> None:
        """Compare what has arrived with the hashes that the client has sent. Raises NotAccepted, OSError."""
        wrong = self._wrong_digest(draft)
        if wrong and self._end == b"\r\n":
            # Old upload commands add a line end to a file that ends in half of one.
            draft.cut_last_byte()
            wrong = self._wrong_digest(draft)
        if wrong:
            raise NotAccepted(wrong)

    def _take_file(self, part: Part, filename: str) -> None:
        if self.draft is not None:
            raise NotAccepted("several files in one upload")
        self.filename = filename
        self.draft = draft = self._make_draft()
        for block in part.blocks():
            if draft.size + len(block) > self.max_size:
                raise TooLarge(self._says_limit(shown(filename)))
            draft.write(block)
            self._end = (self._end + block[-2:])[-2:]

    def _take_field(self, part: Part, limit: int | None) -> bytes:
        """Return the content of a field; what nobody asks for (no `limit`) is thrown away as it comes."""
        kept = b""
        for block in part.blocks():
            self._left -= len(block)
            if self._left < 0:
                raise TooLarge(f"the form's fields are larger than {MAX_FIELDS} bytes")
            if limit is not None:
                kept += block
                if len(kept) > limit:
                    raise TooLarge(f"the form's field {part.name} is larger than {limit} bytes")
        return kept

    def _wrong_digest(self, draft: Draft) -> str | None:
        said = {field: value for field in _DIGESTS if (value := self.said(field))}
        others = {field: _OTHER_DIGESTS[field]() for field in said if field in _OTHER_DIGESTS}
        if others:
            draft.feed(others.values())
        found = {"sha256_digest": draft.sha256, **{field: made.hexdigest() for field, made in others.items()}}
        for field, value in said.items():
            if found[field] != value:
                return f"{field}: the file that has arrived has {found[field]}, the form says {shown(value)}"
        return None


def _hand_on(environ: Environ, fields: dict[str, str]) -> None:
    """Make a small form for pypiserver of what it may want to know."""
    body = urlencode(fields).encode()
    environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"] = _FORM, str(len(body))
    environ["wsgi.input"] = io.BytesIO(body)


def _read_small_body(environ: Environ) -> None:
    """Read the whole body: pypiserver's parsers keep all of it in memory. Raises TooLarge, BadBody."""
    if (environ.get("CONTENT_LENGTH") or "0") == "0":
        return
    body = environ["wsgi.input"].read(MAX_OTHER_BODY + 1)
    if len(body) > MAX_OTHER_BODY:
        raise TooLarge(f"the request is larger than {MAX_OTHER_BODY} bytes")
    environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(len(body)), io.BytesIO(body)


def _check_documentation(draft: Draft) -> None:
    """Raise NotAccepted when pypiserver would. It keeps no documentation, so nothing else happens."""
    try:
        with draft.open() as file, open_zip(file) as archive:
            archive.getinfo("index.html")
    except Exception as e:  # zipfile tells broken archives by a dozen kinds of errors
        raise NotAccepted("not a zip file") from e
