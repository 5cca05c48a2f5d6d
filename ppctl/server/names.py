"""What a file's name says: which project and version it belongs to, as pypiserver understands names."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from packaging.version import InvalidVersion, Version
from pypiserver.pkg_helpers import guess_pkgname_and_version, normalize_pkgname, parse_version

from ppctl.server import scan
from ppctl.server.spelling import SIDECARS

# Below every character of a name, so that joined parts sort as the tuple does that pypiserver sorts by.
_SEPARATOR = "\x01"


class Name(NamedTuple):
    """A package file's name, taken apart.

    `version` is pypiserver's guess (a wheel's contains the build number), `release` the version of PEP 440
    that it means, in its normal form, or the guess where it means none. `sort` orders versions as pypiserver
    does. `sidecar` is one of SIDECARS for a file that belongs to another one, else empty.
    """

    project: str
    pkgname: str
    version: str
    release: str
    sort: bytes
    sidecar: str = ""


@lru_cache(maxsize=128)  # an upload asks several times
def parse(path: str) -> Name | None:
    """Return what the last part of `path` says; None when pypiserver would not list such a file."""
    parts = path.split("/")
    if not all(part and scan.is_listed(part) for part in parts):
        return None
    name, sidecar = split_sidecar(parts[-1])
    found = guess_pkgname_and_version(name)
    if found is None:
        return None
    pkgname, version = found
    sort = _SEPARATOR.join(parse_version(version)).encode()
    return Name(normalize(pkgname), pkgname, version, _release(name, version), sort, sidecar)


def split_sidecar(path: str) -> tuple[str, str]:
    """Return the file that `path` belongs to, and by which ending; `path` itself and "" for other files."""
    ending = next((ending for ending in SIDECARS if path.endswith(ending)), "")
    return path.removesuffix(ending), ending


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
    return release_of(name.split("-")[1] if name.endswith(".whl") else version)
