"""Attestations that come with an upload, and the provenance that the index serves of them (PEP 740).

They are checked for their form, and that they are about this very file. Whether their signatures are good is
for those to find out who install it: only they know whom they trust.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any, NamedTuple

from ppctl.server.acceptance import NotAccepted, shown

MAX_BYTES = 1 << 20
MAX_COUNT = 16

CONTENT_TYPE = "application/vnd.pypi.integrity.v1+json"

# The index has not asked a trusted publisher who this is; so it names none that a client could believe in.
_PUBLISHER = {"kind": "unverified", "claims": {}}
_PREDICATES = ("https://slsa.dev/provenance/v1", "https://docs.pypi.org/attestations/publish/v1")
_STATEMENT = "https://in-toto.io/Statement/v1"


class Subject(NamedTuple):
    """The file that an attestation is about."""

    name: str
    sha256: str


def provenance(attestations: str, filename: str, sha256: str) -> bytes:
    """Return the provenance of a file, made of the form's field `attestations`. Raises NotAccepted."""
    if not filename.endswith((".whl", ".tar.gz", ".zip")):
        raise NotAccepted(f"attestations are for wheels and sdists, not for {filename}")
    try:
        found = json.loads(attestations)
    except (ValueError, RecursionError) as e:
        raise NotAccepted("attestations: not valid JSON") from e
    if not isinstance(found, list) or not 0 < len(found) <= MAX_COUNT:
        raise NotAccepted(f"attestations: expected a list of 1 to {MAX_COUNT} attestations")
    for number, attestation in enumerate(found):
        where = f"attestations.{number}"
        about = _subject(attestation, where)
        if about.name != filename:
            raise NotAccepted(f"{where}: it is about {shown(about.name)}, not about {filename}")
        if about.sha256 != sha256:
            raise NotAccepted(f"{where}: it is about a file with sha256 {shown(about.sha256)}, not {sha256}")
    bundle = {"publisher": _PUBLISHER, "attestations": found}
    try:
        return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()
    except (ValueError, RecursionError) as e:
        raise NotAccepted("attestations: not valid JSON") from e


def subject_hash(content: bytes) -> str | None:
    """Return the SHA-256 of the file that a provenance is about; None when it is none. Never raises."""
    try:
        bundles = json.loads(content)["attestation_bundles"]
        found = {_subject(said, "").sha256 for bundle in bundles for said in bundle["attestations"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found.pop() if len(found) == 1 else None


def _subject(attestation: Any, where: str) -> Subject:
    """Return what an attestation is about. Raises NotAccepted when it has not the form of one."""
    if _get(attestation, where, "version", int) != 1:
        raise NotAccepted(f"{where}.version: expected 1")
    material = _get(attestation, where, "verification_material", dict)
    _bytes(material, f"{where}.verification_material", "certificate")
    _get(material, f"{where}.verification_material", "transparency_entries", list)
    envelope = _get(attestation, where, "envelope", dict)
    where = f"{where}.envelope"
    _bytes(envelope, where, "signature")
    try:
        statement = json.loads(_bytes(envelope, where, "statement"))
    except (ValueError, RecursionError) as e:
        raise NotAccepted(f"{where}.statement: not valid JSON") from e
    where = f"{where}.statement"
    if _get(statement, where, "_type", str) != _STATEMENT:
        raise NotAccepted(f"{where}._type: expected {_STATEMENT}")
    if _get(statement, where, "predicateType", str) not in _PREDICATES:
        raise NotAccepted(f"{where}.predicateType: expected one of {', '.join(_PREDICATES)}")
    subjects = _get(statement, where, "subject", list)
    if len(subjects) != 1:
        raise NotAccepted(f"{where}.subject: expected one")
    digests = _get(subjects[0], f"{where}.subject.0", "digest", dict)
    name = _get(subjects[0], f"{where}.subject.0", "name", str)
    return Subject(name, _get(digests, f"{where}.subject.0.digest", "sha256", str).lower())


def _get(data: Any, where: str, key: str, kind: type) -> Any:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, kind):
        raise NotAccepted(f"{where}.{key}: missing, or of another type")
    return found


def _bytes(data: Any, where: str, key: str) -> bytes:
    try:
        found = b64decode(_get(data, where, key, str), validate=True)
    except ValueError as e:
        if isinstance(e, NotAccepted):
            raise
        raise NotAccepted(f"{where}.{key}: not valid base64") from e
    if not found:
        raise NotAccepted(f"{where}.{key}: empty")
    return found
