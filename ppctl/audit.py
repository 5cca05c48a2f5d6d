"""The audit log: who changed which user, when and how. It only grows, and it holds no secret.

One JSON object on each line of `audit.log`: `time` (UTC, ISO 8601), `by`, `action`, `user`, `detail`, and
`failed` where nothing came of it. JSON escapes control characters, so a line is a line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.index import FILE_MODE, Index
from ppctl.server import refused

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written, here and in the log of refused logins; such texts sort as times do."""

UNREADABLE = "?"
"""The action of an entry that was made from a line ppctl has not written; `detail` is that line."""


@dataclass(frozen=True)
class Entry:
    """One line of the audit log. `failed`: the change was announced and then could not be made."""

    time: str
    by: str
    action: str
    user: str
    detail: str = ""
    failed: bool = False


class Note(NamedTuple):
    """What is said of one change of one user."""

    action: str
    user: str
    detail: str = ""


@contextlib.contextmanager
def announced(index: Index, host: Host, notes: Sequence[Note]) -> Iterator[None]:
    """Note changes before they are made in this block; if it fails, also that nothing came of them.

    Raises PpctlError when the log cannot be written: then nothing may be changed.
    """
    record(index, host, notes)
    try:
        yield
    except PpctlError as e:
        with contextlib.suppress(PpctlError):
            failed = [note._replace(detail=f"failed: {e.message}") for note in notes]
            record(index, host, failed, failed=True)
        raise


def record(index: Index, host: Host, notes: Sequence[Note], *, failed: bool = False) -> None:
    """Append one line for each note, all in one write. Raises PpctlError when that is impossible."""
    time = _now()
    by = actor(host, os.environ)
    lines = []
    for note in notes:
        line = {"time": time, "by": by, **note._asdict()}
        lines.append(json.dumps({**line, "failed": True} if failed else line) + "\n")
    content = "".join(lines).encode()
    # A full disk may have cut the last line short; then ours starts on a line of its own.
    before = host.read(index.layout.audit_log)
    if before and not before.endswith(b"\n"):
        content = b"\n" + content
    host.append(index.layout.audit_log, content, mode=FILE_MODE)


def read(index: Index, host: Host) -> list[Entry]:
    """Return the log, oldest first. Lines that are not ours are kept, with the action `UNREADABLE`."""
    return _entries(host.read(index.layout.audit_log) or b"")


def refused_logins(index: Index, host: Host) -> list[Entry]:
    """Return the logins that the workers have refused, oldest first; `by` is the address."""
    names = (refused.OLD_NAME, refused.FILE_NAME)
    return _entries(b"".join(host.read(index.layout.run / name, foreign=True) or b"" for name in names))


def last_changes(entries: Iterable[Entry]) -> dict[str, str]:
    """Return for each user the time of the last change that succeeded."""
    changes: dict[str, list[str]] = {}
    for entry in entries:
        times = changes.setdefault(entry.user, [])
        if not entry.failed:
            times.append(entry.time)
        elif times:
            times.pop()  # the announcement of the change that failed
    return {user: times[-1] for user, times in changes.items() if times}


def actor(host: Host, environ: Mapping[str, str]) -> str:
    """Return who is at work: `alice`, or `alice (as root)` behind sudo or doas."""
    effective = host.user()
    login = environ.get("SUDO_USER") or environ.get("DOAS_USER") or effective
    return effective if login == effective else f"{login} (as {effective})"


def _entries(content: bytes) -> list[Entry]:
    return [_parse(line) for line in content.decode("utf-8", "backslashreplace").split("\n") if line.strip()]


def _parse(line: str) -> Entry:
    try:
        data = json.loads(line)
        texts = {key: data[key] for key in ("time", "by", "action", "user", "detail")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return Entry("", "", UNREADABLE, "", line)
    if not all(isinstance(text, str) for text in texts.values()):
        return Entry("", "", UNREADABLE, "", line)
    return Entry(**texts, failed=data.get("failed") is True)


def _now() -> str:
    return datetime.now(timezone.utc).strftime(TIME)
