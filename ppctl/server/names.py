"""What a file's name says: which project and version it belongs to, as pypiserver understands names."""

from __future__ import annotations

from typing import NamedTuple

from packaging.version import InvalidVersion, Version
from pypiserver.pkg_helpers import guess_pkgname_and_version, normalize_pkgname, parse_version

# Below every character of a name, so that joined parts sort as the tuple does that pypiserver sorts by.
_SEPARATOR = "\x01"


class Name(NamedTuple):
    """A package file's name, taken apart.

    `version` is pypiserver's guess (a wheel's contains the build number), `release` the version of PEP 440
    that it means, in its normal form, or the guess where it means none. `sort` orders versions as pypiserver
    does.
    """

    project: str
    pkgname: str
    version: str
    release: str
    sort: bytes


def parse(path: str) -> Name | None:
    """Return what the last part of `path` says; None when pypiserver would not list such a file."""
    parts = path.split("/")
    # Also refused: names that are no text (PEP 383), which no page could contain.
    if any(part.startswith(".") or not part for part in parts) or not _is_text(path):
        return None
    name = parts[-1]
    found = guess_pkgname_and_version(name)
    if found is None:
        return None
    pkgname, version = found
    sort = _SEPARATOR.join(parse_version(version)).encode()
    return Name(normalize(pkgname), pkgname, version, _release(name, version), sort)


def normalize(name: str) -> str:
    """Return the normal form of a project's name (PEP 503)."""
    normal: str = normalize_pkgname(name)
    return normal


def release_of(version: str) -> str:
    """Return the normal form of a version (PEP 440); what is none stays as it is."""
    try:
        return str(Version(version))
    except InvalidVersion:
        return version


def _release(name: str, version: str) -> str:
    if name.endswith((".whl", ".whl.asc")):
        version = name.split("-")[1]
    return release_of(version)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
