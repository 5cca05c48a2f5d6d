"""The JSON envelope is a contract with other programs: the version, and the keys of each command's result.

A key may be added: then add it here. Removing one, or giving it another meaning, needs a new version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppctl.commands import operate, remove, status, up
from ppctl.index import load
from ppctl.output import ENVELOPE_VERSION
from tests.conftest import NewHome, Ppctl
from tests.engine import HOME, changed, started
from tests.fakes import World

OPERATE = {"changed", "workers"}
CHANGES = {"changed", "changes"}
URLS = {"home", "url", "simple_url"}


def test_the_version() -> None:
    assert ENVELOPE_VERSION == 1


def assert_envelope(text: str, command: str, code: int, *, ok: bool | None = None) -> Any:
    """Assert what is the same in every envelope, and return the rest."""
    envelope = json.loads(text)
    ok = code == 0 if ok is None else ok
    assert list(envelope)[:4] == ["version", "command", "ok", "exit_code"]
    assert (envelope["version"], envelope["command"]) == (1, command)
    assert (envelope["ok"], envelope["exit_code"]) == (ok, code)
    assert len(envelope) == 5
    return envelope.get("result") or envelope["error"]


# -- commands on an index that is up -------------------------------------------------------------------


@pytest.fixture
def world(impatient: None) -> World:
    return started()


def test_up(world: World) -> None:
    code = up.up(HOME, world.machine(json=True), dry_run=False, exit_code=False, wait=True)
    result = assert_envelope(world.stdout.getvalue(), "up", code)
    assert set(result) == CHANGES | URLS | {"verified"}
    assert result["changed"] is False and result["changes"] == []
    assert world.stderr.getvalue() == ""


def test_up_with_a_first_user(world: World, cheap_bcrypt: None) -> None:
    code = up.up(HOME, world.machine(json=True), dry_run=False, exit_code=False, wait=True, first_user="ann")
    result = assert_envelope(world.stdout.getvalue(), "up", code)
    assert set(result) == CHANGES | URLS | {"verified", "first_user"}
    assert set(result["first_user"]) == {"name", "password"}


def test_a_plan_with_changes(impatient: None) -> None:
    world = changed({}, {"port": 4000})
    code = up.up(HOME, world.machine(json=True), dry_run=True, exit_code=True, wait=True)
    result = assert_envelope(world.stdout.getvalue(), "up", 2, ok=True)
    assert code == 2
    assert set(result) == {*CHANGES, "dry_run", "settled", "verified"}
    assert result["changed"] is True and result["settled"] is False and result["dry_run"] is True
    for change in result["changes"]:
        assert set(change) == {"action", "target", "summary", "diff", "interrupts"}
        assert all(isinstance(value, str) for value in change.values())
    assert [change["action"] for change in result["changes"] if change["interrupts"]] == ["reload"]


def test_status(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(status, "_contents", lambda *_: {"packages": 0, "users": 0, "disk_free": 1})
    code = status.status(load(world.host, HOME), world.machine(json=True))
    result = assert_envelope(world.stdout.getvalue(), "up", code)
    assert code == 0
    assert set(result) == {
        *("health", "name", "home", "url", "manager", "mode", "answers", "problem", "workers"),
        *("packages", "users", "disk_free", "cache"),
    }
    assert (result["health"], result["answers"], result["problem"]) == ("healthy", True, "")
    assert set(result["workers"][0]) == {
        *("number", "state", "answers", "pid", "uptime", "memory", "release", "current", "detail"),
    }


def test_operating(world: World) -> None:
    found = load(world.host, HOME)
    for call, workers, change in (
        (operate.start, [], False),
        (operate.stop, [1, 2], True),
        (operate.stop, [], False),
        (operate.start, [1, 2], True),
    ):
        code = call(found, world.machine(json=True), wait=True)
        result = assert_envelope(world.stdout.getvalue(), "up", code)
        assert result == {"changed": change, "workers": workers}
    code = operate.restart(found, world.machine(json=True), numbers=(2,), wait=True)
    assert assert_envelope(world.stdout.getvalue(), "up", code) == {"changed": True, "workers": [2]}
    code = operate.logs(found, world.machine(json=True), numbers=(), lines=5, follow=False)
    result = assert_envelope(world.stdout.getvalue(), "up", code)
    assert set(result) == {"logs"} and set(result["logs"][0]) == {"worker", "lines"}


def test_down_and_destroy(world: World) -> None:
    found = load(world.host, HOME)
    for change in (True, False):
        code = remove.down(found, world.machine(json=True), wait=True)
        assert assert_envelope(world.stdout.getvalue(), "up", code) == {"changed": change}
    world.host.put(HOME / "packages" / "kept")
    code = remove.destroy(found, world.machine(json=True), confirmed=True, purge=False, wait=True)
    assert assert_envelope(world.stdout.getvalue(), "up", code) == {"changed": True, "left": ["packages"]}


# -- the command line -----------------------------------------------------------------------------------


def test_init(home: Path, ppctl: Ppctl) -> None:
    result = assert_envelope(ppctl("init", "-C", home, "--json").out, "init", 0)
    assert result == {"path": str(home / "ppctl.yml"), "changed": True}
    result = assert_envelope(ppctl("init", "-C", home, "--json", "--keep").out, "init", 0)
    assert result == {"path": str(home / "ppctl.yml"), "changed": False}


def test_status_of_an_index_that_was_never_up(new_home: NewHome, ppctl: Ppctl) -> None:
    ran = ppctl("status", "-C", new_home(), "--json")
    result = assert_envelope(ran.out, "status", 1)
    assert set(result) == {"health", "home", "workers", "problem"}
    assert (ran.code, result["health"]) == (1, "down")


@pytest.mark.parametrize(
    ("arguments", "command", "code", "message"),
    [
        ("status -C /no/where --json", "status", 2, "/no/where: there is no index here (no ppctl.yml)"),
        ("up --json --nonsense", "", 2, "No such option '--nonsense'"),
        ("--json", "", 2, "No such option '--json'"),
        ("nonsense --json", "", 2, "No such command 'nonsense'"),
        ("destroy -C /no/where --json", "destroy", 2, "/no/where: there is no index here"),
    ],
)
def test_errors(arguments: str, command: str, code: int, message: str, ppctl: Ppctl) -> None:
    ran = ppctl(*arguments.split())
    error = assert_envelope(ran.out, command, code)
    assert ran.code == code and ran.err == ""
    assert set(error) == {"message", "hint"}
    assert error["message"].startswith(message)


def test_a_bug_is_an_envelope_too(new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise ValueError("hunter2")

    monkeypatch.setattr(status, "status", broken)
    ran = ppctl("status", "-C", new_home(), "--json")
    error = assert_envelope(ran.out, "status", 3)
    assert ran.code == 3
    assert error["message"] == "a bug in ppctl: unexpected ValueError"
    assert "hunter2" not in ran.out + ran.err
