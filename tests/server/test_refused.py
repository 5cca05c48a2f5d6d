"""The log of refused logins: bounded, whole lines, nobody's secrets."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppctl import audit, index
from ppctl.layout import Layout
from ppctl.server import refused
from ppctl.server.refused import FILE_NAME, MAX_BYTES, OLD_NAME, RefusedLogins
from ppctl.settings import Settings
from tests.fake_host import FakeHost


def lines(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / FILE_NAME).read_text().splitlines()]


def test_what_is_noted(tmp_path: Path) -> None:
    log = RefusedLogins(tmp_path)
    log.note("ann", "192.0.2.1", "wrong password")
    log.note(None, "", "no such user")
    first, second = lines(tmp_path)
    assert {**first, "time": ""} == {
        "time": "",
        "by": "192.0.2.1",
        "action": "login",
        "user": "ann",
        "detail": "wrong password",
        "failed": True,
    }
    assert (second["by"], second["user"]) == ("this machine", "?")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(), st.text())
def test_nobody_forges_a_line(tmp_path: Path, user: str, address: str) -> None:
    (tmp_path / FILE_NAME).unlink(missing_ok=True)
    RefusedLogins(tmp_path).note(user, address, "wrong password")
    content = (tmp_path / FILE_NAME).read_bytes()
    assert content.count(b"\n") == 1 and content.isascii() and content[:-1].decode().isprintable()
    assert lines(tmp_path)[0]["user"] == (user or "?")


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "MAX_BYTES", 2000)

    def note(number: int) -> None:
        RefusedLogins(tmp_path).note(f"user{number}", "192.0.2.1", "wrong password")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(note, range(400)))
    for number in range(400, 402):  # if the first of these fills the log, the other begins a new one
        note(number)
        if (tmp_path / FILE_NAME).exists():
            break
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, OLD_NAME, "refused-logins.lock"}
    assert 2000 < (tmp_path / OLD_NAME).stat().st_size < 2000 + 16 * 200
    assert (tmp_path / FILE_NAME).stat().st_size < 2000 + 16 * 200
    assert MAX_BYTES <= 1 << 20


@pytest.mark.parametrize("what", ["link", "directory", "gone"])
def test_a_log_that_cannot_be_written_refuses_logins_all_the_same(tmp_path: Path, what: str) -> None:
    run = tmp_path / "run"
    if what != "gone":
        run.mkdir()
    if what == "link":
        os.symlink(tmp_path / "elsewhere", run / FILE_NAME)
    elif what == "directory":
        (run / FILE_NAME).mkdir()
    RefusedLogins(run).note("ann", "192.0.2.1", "wrong password")
    assert not (tmp_path / "elsewhere").exists()


def test_ppctl_reads_both_files_the_oldest_first(tmp_path: Path) -> None:
    log = RefusedLogins(tmp_path)
    log.note("ann", "192.0.2.1", "wrong password")
    (tmp_path / FILE_NAME).rename(tmp_path / OLD_NAME)
    log.note("bob", "192.0.2.2", "disabled")
    host = FakeHost()
    found = index.Index(Layout(Path("/srv/pypi")), Settings())
    host.make_directory(found.layout.run, mode=0o755)
    for name in (OLD_NAME, FILE_NAME):
        host.write(found.layout.run / name, (tmp_path / name).read_bytes() + b"garbage\n", mode=0o640)
    entries = audit.refused_logins(found, host)
    assert [(entry.by, entry.user, entry.detail) for entry in entries] == [
        ("192.0.2.1", "ann", "wrong password"),
        ("", "", "garbage"),
        ("192.0.2.2", "bob", "disabled"),
        ("", "", "garbage"),
    ]
