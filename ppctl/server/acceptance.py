"""What is accepted as a package file: one that can be opened and that is what its name says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

from ppctl.server import metadata, names
from ppctl.server.archives import BadArchive, TooLarge
from ppctl.server.metadata import Found, Metadata
from ppctl.server.names import Name

MAX_NAME = 255
_MAX_SHOWN = 100
_VALID_NAME = re.compile(rf"[A-Za-z0-9_.!+-]{{1,{MAX_NAME}}}")
_SDIST = re.compile(r"\.(tar\.gz|tgz|tar\.bz2|tar\.xz|zip)$", re.IGNORECASE)
# What installers for Windows begin with: a program (PE), a compound document.
_INSTALLERS = {".exe": b"MZ", ".msi": bytes.fromhex("d0cf11e0a1b11ae1")}
_FOR_ONE_PLATFORM = "bdist_dumb"


class NotAccepted(ValueError):
    """The upload is no package file of its name. The message says why. Answered with 400."""


def check_name(filename: str) -> Name:
    """Return what the name of an uploaded file says. Raises NotAccepted.

    Accepted is what pypiserver accepts, of the kinds that are packages: its patterns for installers match any
    ending, also one that browsers would show as a page.
    """
    found = names.parse(filename) if _VALID_NAME.fullmatch(filename) else None
    if found is None or found.sidecar:
        raise NotAccepted(f"Bad filename: {shown(filename)}")
    lower = filename.lower()
    if not (lower.endswith((".whl", ".egg", *_INSTALLERS)) or _SDIST.search(lower)):
        raise NotAccepted(f"Bad filename: {shown(filename)} is no wheel, sdist, egg or installer")
    return found


def check(file: BinaryIO, filename: str, filetype: str) -> Metadata | None:
    """Return the metadata of the uploaded `file`, None if it has none. Raises NotAccepted.

    `filetype` is what the client calls it: an archive for one platform (`bdist_dumb`) has no metadata.
    """
    said, lower = check_name(filename), filename.lower()
    if lower.endswith(tuple(_INSTALLERS)):
        begins = _INSTALLERS[lower[-4:]]
        file.seek(0)
        if file.read(len(begins)) != begins:
            raise NotAccepted(f"{filename} is not an installer for Windows")
        return None
    if metadata.is_wheel(filename):
        found, expected = _look(metadata.wheel_metadata, file, filename), "one .dist-info/METADATA"
    elif lower.endswith(".egg"):
        found, expected = _look(metadata.egg_metadata, file, filename), "EGG-INFO/PKG-INFO"
    else:
        found = _look(lambda opened: metadata.sdist_metadata(opened, filename, whole=True), file, filename)
        expected = "PKG-INFO, pyproject.toml or setup.py in its only directory"
    if found.body is None:
        if found.is_buildable or (filetype == _FOR_ONE_PLATFORM and _SDIST.search(lower)):
            return None
        raise NotAccepted(f"{filename} has no {expected}")
    about = metadata.parse(found.body, filename)
    if about is None:
        raise NotAccepted(f"the metadata in {filename} says no name and version")
    _compare(about, said, filename)
    return None if lower.endswith(".egg") else about


def shown(text: str) -> str:
    """Return what a client has sent, as it can be shown in an answer or a log."""
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return short if short.isprintable() else repr(short)


def _look(read: Callable[[BinaryIO], Found], file: BinaryIO, filename: str) -> Found:
    try:
        return read(file)
    except TooLarge as e:
        if e.is_bomb:
            raise NotAccepted(f"{filename} cannot be accepted: {e}, packed into next to nothing") from e
        return Found(None, is_buildable=True)
    except Exception as e:  # zipfile and zlib tell broken archives by a dozen kinds of errors
        why = f": {e}" if isinstance(e, BadArchive) else ""
        raise NotAccepted(f"{filename} is not an archive of its kind, or a broken one{why}") from e


def _compare(about: Metadata, said: Name, filename: str) -> None:
    same_name = _plain(about.name) == _plain(said.project)
    same_version = names.release_of(about.version) == said.release
    same_text = _plain(about.version) in (_plain(said.release), _plain(said.version))
    if same_name and (same_version or same_text):
        return
    in_it = f"{shown(about.name)} {shown(about.version)}"
    wrong = f"{filename} says {said.project} {said.release}, the metadata in it {in_it}"
    stem = re.sub(r"[^a-z0-9]+", "_", about.name.lower()).strip("_")
    # Old tools write names with dashes, of which some look like the beginning of a version.
    if _plain(filename).startswith(_plain(f"{about.name}-{about.version}")):
        wrong += f": call it {stem}-{about.version}…, as today's build tools do"
    raise NotAccepted(wrong)


def _plain(text: str) -> str:
    """Return a name or a version as it is the same in metadata and in the file names of all tools."""
    return re.sub(r"[^a-z0-9!+]+", "-", text.lower()).strip("-")
