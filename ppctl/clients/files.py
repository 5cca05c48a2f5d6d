"""Writing client files: the one way in which ppctl changes a file that belongs to a developer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ppctl import xdg
from ppctl.clients.base import Refused
from ppctl.errors import PpctlError
from ppctl.host import FileInfo, Host

_BOM = b"\xef\xbb\xbf"
_PRIVATE = 0o600
_MAX_LINKS = 40  # as many as Linux follows (path_resolution(7))


@dataclass(frozen=True)
class Outcome:
    """What became of a file. `path` is where it really is; `backup` the copy that was made, if any."""

    path: Path
    changed: bool
    mode: int = 0
    removed: bool = False
    backup: Path | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A file as it is: None as content where there is none."""

    path: Path
    info: FileInfo | None
    content: bytes | None

    @property
    def text(self) -> str:
        return _text(self.path, self.content or b"")


def real_path(host: Host, path: Path) -> Path:
    """Return where `path` leads to if it is a link (dotfile managers keep files elsewhere)."""
    for _ in range(_MAX_LINKS):
        info = host.stat(path)
        if info is None or info.kind != "link":
            return path
        path = Path(os.path.normpath(path.parent / info.target))
    raise PpctlError(f"{path}: the link leads in a circle", "remove it, then run the command again")


def read(host: Host, path: Path) -> str:
    """Return the text of the file, empty where there is none. Raises PpctlError (UTF-8 only)."""
    return _find(host, path).text


def update(
    host: Host, path: Path, edit: Callable[[str], str], *, secret: bool, private: bool, keep_copy: bool = True
) -> Outcome:
    """Write what `edit` makes of the text of `path`, atomically, and say what was done.

    `secret`: a password goes into it; `private`: such files are never for others. Both make the mode
    0600 or stricter. With `keep_copy` a file that is changed for the first time is kept as `.bak`.
    Raises PpctlError, with nothing changed.
    """
    found = _find(host, path)
    old = found.text
    new = edit(old)
    mode = _mode(found.info, private=secret or private)
    if new == old and found.info and mode == found.info.mode:
        return Outcome(found.path, changed=False, mode=mode)
    backup = _back_up(host, found, private=secret or private) if keep_copy and new != old else None
    bom = _BOM if (found.content or b"").startswith(_BOM) else b""
    _write(host, found.path, bom + new.encode(), mode, found.info)
    warnings = []
    if found.info and found.info.mode & 0o077 and not mode & 0o077:
        warnings.append(f"others could read {found.path} (mode {found.info.mode:04o}): now {mode:04o}")
    return Outcome(found.path, changed=True, mode=mode, backup=backup, warnings=warnings)


def undo(host: Host, path: Path, edit: Callable[[str], str]) -> Outcome:
    """Write what `edit` leaves of the text of `path`; a file that is then empty and was ours is removed."""
    found = _find(host, path)
    if found.info is None:
        return Outcome(found.path, changed=False)
    old = found.text
    new = edit(old)
    if new == old:
        return Outcome(found.path, changed=False, mode=found.info.mode)
    if not new and host.read(backup_of(found.path)) not in (b"", _BOM):  # an empty file has an empty copy
        host.remove(found.path)
        return Outcome(found.path, changed=True, removed=True)
    bom = _BOM if (found.content or b"").startswith(_BOM) else b""
    _write(host, found.path, bom + new.encode(), found.info.mode, found.info)
    return Outcome(found.path, changed=True, mode=found.info.mode)


def put_link(host: Host, path: Path, target: Path) -> Outcome:
    """Make `path` a link to `target`; a file that is there is kept as `.bak`, or as `.bak.1`, ….

    The caller has asked. Raises PpctlError for what is neither a file nor a link.
    """
    info = host.stat(path)
    if info and info.kind == "link" and Path(info.target) == target:
        return Outcome(path, changed=False, mode=_PRIVATE)
    if info and info.kind not in ("file", "link"):
        raise PpctlError(f"{path}: not a file ({info.kind})", "choose another path with --file")
    backup = None
    if info:
        backup = backup_of(path)
        number = 0
        while host.stat(backup):
            number += 1
            backup = Path(f"{backup_of(path)}.{number}")
        if info.kind == "link":
            host.link(backup, info.target)
        else:
            _write(host, backup, host.read(path) or b"", info.mode & _PRIVATE, info)
    _make_parent(host, path)
    host.link(path, str(target))
    return Outcome(path, changed=True, mode=_PRIVATE, backup=backup)


def take_link(host: Host, path: Path) -> Outcome:
    """Remove the link `path` and put the newest `.bak` of `put_link` back in its place."""
    backup, number = None, 0
    candidate = backup_of(path)
    while host.stat(candidate):
        backup, number = candidate, number + 1
        candidate = Path(f"{backup_of(path)}.{number}")
    info = host.stat(backup) if backup else None
    if backup is None or info is None:
        host.remove(path)
        return Outcome(path, changed=True, removed=True)
    if info.kind == "link":
        host.link(path, info.target)
    else:
        _write(host, path, host.read(backup) or b"", info.mode, info)
    host.remove(backup)
    return Outcome(path, changed=True, mode=info.mode)


def backup_of(path: Path) -> Path:
    """Return where the copy of `path` is kept."""
    return path.with_name(path.name + ".bak")


def lock(
    host: Host, env: Mapping[str, str], home: Path, purpose: str
) -> contextlib.AbstractContextManager[None]:
    """Hold the one lock for this user's client files (in the XDG cache directory: it may be lost)."""
    directory = xdg.cache(env, home) / "ppctl"
    if host.stat(directory) is None:
        host.make_directory(directory, mode=0o700)
    return host.lock(directory / "client-files.lock", purpose=purpose)


def _find(host: Host, path: Path) -> _Found:
    path = real_path(host, path)
    info = host.stat(path)
    if info and info.kind != "file":
        what = "something else" if info.kind == "other" else f"a {info.kind}"
        raise PpctlError(f"{path}: this is {what}, not a file", "choose another path with --file")
    return _Found(path, info, host.read(path) if info else None)


def _text(path: Path, content: bytes) -> str:
    try:
        return content.removeprefix(_BOM).decode()
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise Refused(
            f"{path}: not UTF-8 text (line {line}), and rewriting it could destroy something",
            "convert the file first, for example: iconv -f latin1 -t utf-8",
        ) from None


def _mode(info: FileInfo | None, *, private: bool) -> int:
    if info is None:
        return _PRIVATE if private else 0o644
    return info.mode & _PRIVATE if private else info.mode


def _back_up(host: Host, found: _Found, *, private: bool) -> Path | None:
    """Keep the file as it was before ppctl first touched it; a copy that is there is never replaced."""
    backup = backup_of(found.path)
    if found.info is None or found.content is None or host.stat(backup):
        return None
    mode = found.info.mode & _PRIVATE if private else found.info.mode
    _write(host, backup, found.content, mode, found.info)
    return backup


def _write(host: Host, path: Path, content: bytes, mode: int, like: FileInfo | None) -> None:
    """Write atomically; root keeps the owner of the file that it changes."""
    _make_parent(host, path)
    keep = like is not None and host.is_root() and host.account_exists(like.owner)
    owner, group = (like.owner, like.group) if like and keep else (None, None)
    host.write(path, content, mode=mode, owner=owner, group=group)


def _make_parent(host: Host, path: Path) -> None:
    if host.stat(path.parent) is None:
        host.make_directory(path.parent, mode=0o755)
