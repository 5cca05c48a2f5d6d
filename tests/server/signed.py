"""An upload with all that may come with it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from tests.server.archives import wheel
from tests.server.in_process import Index

WHEEL, CONTENT = wheel("foo", "1.0")
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
ALL = [WHEEL, f"{WHEEL}.asc", f"{WHEEL}.provenance"]


def form(*parts: bytes, line: bytes = b"\r\n", boundary: bytes = b"b0undary") -> tuple[str, bytes]:
    """Return content type and body of a form of these parts, written as they are."""
    body = b"".join(b"--" + boundary + line + part + line for part in parts) + b"--" + boundary + b"--" + line
    return f"multipart/form-data; boundary={boundary.decode()}", body


def field(name: str, value: bytes, line: bytes = b"\r\n", filename: str | None = None) -> bytes:
    """Return a part of a form; with a `filename` it is a file."""
    file = f'; filename="{filename}"' if filename else ""
    return f'Content-Disposition: form-data; name="{name}"{file}'.encode() + line + line + value


ACTION, DOCS, REMOVE = (field(":action", name) for name in (b"file_upload", b"doc_upload", b"remove_pkg"))
FILE = field("content", CONTENT, filename=WHEEL)


def statement(name: str = WHEEL, content: bytes = CONTENT, **more: Any) -> dict[str, Any]:
    """Return what an attestation says about a file."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}],
        "predicateType": "https://docs.pypi.org/attestations/publish/v1",
        "predicate": None,
        **more,
    }


def attestation(said: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return an attestation that nobody has signed."""
    encoded = base64.b64encode(json.dumps(said or statement()).encode()).decode()
    return {
        "version": 1,
        "verification_material": {"certificate": "AAAA", "transparency_entries": [{"logIndex": "1"}]},
        "envelope": {"statement": encoded, "signature": "AAAA"},
        **more,
    }


def signed_form(
    name: str = WHEEL,
    content: bytes = CONTENT,
    signature: bytes = SIGNATURE,
    *,
    attested: bool = True,
    hashed: bool = False,
) -> tuple[str, bytes]:
    """Return an upload with a signature and, if `attested`, an attestation.

    `hashed`: with the file's hash before it, as twine, uv and poetry send it.
    """
    said = [field("sha256_digest", hashlib.sha256(content).hexdigest().encode())] if hashed else []
    parts = [ACTION, *said, field("content", content, filename=name)]
    parts.append(field("gpg_signature", signature, filename=f"{name}.asc"))
    if attested:
        parts.append(field("attestations", json.dumps([attestation(statement(name, content))]).encode()))
    return form(*parts)


def listed(index: Index) -> list[dict[str, Any]]:
    """Return what the page of `foo` says about its files."""
    said = index.get("/simple/foo/", HTTP_ACCEPT="application/vnd.pypi.simple.v1+json")
    return list(json.loads(said.body)["files"]) if said.status == 200 else []
