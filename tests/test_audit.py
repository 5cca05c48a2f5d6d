"""The audit log: whole lines, no secrets, nothing lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ppctl import audit
from ppctl.audit import Note
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.settings import Settings
from tests.fake_host import FakeHost

HOME = Path("/srv/pypi")
INDEX = Index(Layout(HOME), Settings())
LOG = INDEX.layout.audit_log


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    for name in ("SUDO_USER", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    host = FakeHost()
    host.make_directory(HOME, mode=0o755)
    return host


def test_a_line_for_each_user_in_one_write(host: FakeHost) -> None:
    audit.record(INDEX, host, [Note("deluser", "ann"), Note("deluser", "bob")])
    audit.record(INDEX, host, [Note("passwd", "eve", "sha1 -> bcrypt")])
    assert [name for name, _ in host.operations].count("append") == 2
    entries = audit.read(INDEX, host)
    assert [(e.action, e.user, e.detail) for e in entries] == [
        ("deluser", "ann", ""),
        ("deluser", "bob", ""),
        ("passwd", "eve", "sha1 -> bcrypt"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", e.time) for e in entries)
    assert {e.by for e in entries} == {"operator"}
    found = host.stat(LOG)
    assert found and found.mode == 0o640


def test_control_characters_cannot_forge_a_line(host: FakeHost) -> None:
    nasty = 'x\n{"time": "forged"}\r\x1b[2J\u2028\u202e\udcff'
    audit.record(INDEX, host, [Note("passwd", nasty, nasty)])
    content = host.read(LOG) or b""
    assert content.count(b"\n") == 1
    assert content.isascii() and not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", content)
    entry = audit.read(INDEX, host)[0]
    assert (entry.user, entry.detail) == (nasty, nasty)


@pytest.mark.parametrize(
    ("environ", "user", "expected"),
    [
        ({}, "alice", "alice"),
        ({"SUDO_USER": "alice"}, "root", "alice (as root)"),
        ({"DOAS_USER": "alice"}, "root", "alice (as root)"),
        ({"SUDO_USER": "root"}, "root", "root"),
        ({"SUDO_USER": "alice"}, "pypi", "alice (as pypi)"),
        ({"SUDO_USER": ""}, "root", "root"),
    ],
)
def test_the_login_user_is_kept(environ: dict[str, str], user: str, expected: str) -> None:
    assert audit.actor(FakeHost(user=user), environ) == expected


def test_lines_that_are_not_ours_are_shown_and_do_no_harm(host: FakeHost) -> None:
    for line in (b"torn {", b"[1, 2]", b"null", b'{"time": 1}', b"\xff\xfe", b"[" * 100_000, b""):
        host.append(LOG, line + b"\n", mode=0o640)
    missing = {"time": "t", "by": "b", "action": 3, "user": "u", "detail": ""}
    host.append(LOG, json.dumps(missing).encode() + b"\n", mode=0o640)
    audit.record(INDEX, host, [Note("adduser", "bob")])
    entries = audit.read(INDEX, host)
    assert [e.action for e in entries] == [audit.UNREADABLE] * 7 + ["adduser"]
    assert entries[0].detail == "torn {"


def test_a_torn_last_line_does_not_swallow_the_next(host: FakeHost) -> None:
    host.append(LOG, b'{"time": "2026', mode=0o640)
    audit.record(INDEX, host, [Note("adduser", "bob")])
    assert [e.action for e in audit.read(INDEX, host)] == [audit.UNREADABLE, "adduser"]


def test_last_changes_leaves_out_what_failed() -> None:
    def entry(time: str, user: str, *, failed: bool = False) -> audit.Entry:
        return audit.Entry(time, "me", "passwd", user, failed=failed)

    entries = [
        entry("1", "ann"),
        entry("2", "bob"),
        entry("3", "ann"),
        entry("3", "ann", failed=True),
        entry("4", "eve"),
        entry("4", "eve", failed=True),
    ]
    assert audit.last_changes(entries) == {"ann": "1", "bob": "2"}


def test_no_log_is_an_empty_log(host: FakeHost) -> None:
    assert audit.read(INDEX, host) == []
