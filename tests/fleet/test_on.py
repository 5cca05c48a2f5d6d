"""`--on`: what is handed to Ansible, and what people and programs are told. Ansible itself is a stand-in."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ppctl import fleet, live, tokens
from ppctl.cli import on
from ppctl.fleet import HostResult
from ppctl.output import Output
from ppctl.server import htpasswd, permissions
from tests.cli import Ran, ppctl
from tests.test_docs import reference

Popen = subprocess.Popen


def text_of(found: dict[str, Any]) -> Any:
    """Return the text that Ansible must not take for a template; anything else as it is."""
    return found["__ansible_unsafe"] if set(found) == {"__ansible_unsafe"} else found


class Ansible:
    """A stand-in for ansible-playbook that says what it was told to. `calls`: how it was called."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "ansible-playbook"
        self.calls: list[dict[str, Any]] = []
        self.answer()

    def answer(
        self, *events: object, hosts: tuple[str, ...] = ("web1", "web2"), errors: str = "", code: int = 0
    ) -> None:
        lines = [{"event": "hosts", "hosts": list(hosts)}, *events] if hosts else list(events)
        said = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        # Not Python: that takes ten times as long to start.
        script = f"printf '%s\\n' {shlex.join(said)}; printf %s {shlex.quote(errors)} >&2; exit {code}"
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    def begin(self, argv: list[str], **options: Any) -> subprocess.Popen[str]:
        path = Path(argv[-1].removeprefix("@"))
        call = {
            "argv": argv[1:],
            "variables": json.loads(path.read_bytes(), object_hook=text_of),
            "mode": oct(path.stat().st_mode & 0o777),
            "folder_mode": oct(path.parent.stat().st_mode & 0o777),
            "path": str(path),
            "environment": {k: v for k, v in options["env"].items() if k.startswith("ANSIBLE_")},
        }
        self.calls.append(call)
        return Popen(argv, **options)


@pytest.fixture
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ansible:
    made = Ansible(tmp_path)
    monkeypatch.setattr(fleet, "_ansible_playbook", lambda: str(made.program))
    monkeypatch.setattr(subprocess, "Popen", made.begin)
    monkeypatch.setattr(on, "_BCRYPT_COST", 5)
    return made


def event(
    host: str,
    state: str = "ok",
    message: str = "",
    *,
    changed: bool = False,
    action: str = "ppctl.fleet.ppctl_command",
    **part: object,
) -> dict[str, object]:
    """What the callback writes for one host; `part` is what the module returned."""
    return {
        "event": "result",
        "host": host,
        "state": state,
        "action": action,
        "changed": changed,
        "message": message,
        "parts": [{"changed": changed, **part}],
    }


def index(result: object, name: str = "pypi", exit_code: int = 0) -> dict[str, object]:
    return {"index": name, "home": f"/srv/{name}", "exit_code": exit_code, "result": result}


def table(ran: Ran) -> list[list[str]]:
    return [line.split(maxsplit=3) for line in ran.out.splitlines()[1:]]


LIMITED = {"permissions": {"read": False, "upload": ["x-*"], "admin": False}}
DONE = {"results": [index({"changed": True})]}


def test_one_task_is_asked_of_the_hosts(ansible: Ansible) -> None:
    ansible.answer(event("web1", changed=True, **DONE), event("web2", changed=True, **DONE))
    options = ("-i", "hosts.yml", "-i", "more.yml", "--index", "team")
    ran = ppctl("restart", "--worker", "2", "--on", "prod", *options)
    assert ran.code == 0, ran.err
    assert table(ran) == [["web1", "pypi", "changed", "done"], ["web2", "pypi", "changed", "done"]]
    (call,) = ansible.calls
    assert call["argv"][1:5] == ["--inventory", "hosts.yml", "--inventory", "more.yml"]
    assert call["argv"][0].endswith("playbooks/command.yml")
    assert call["variables"] == {
        "ppctl_on": "prod",
        "ppctl_command": ["restart", "--worker", "2"],
        "ppctl_read_only": False,
        "ppctl_index": "team",
        "ppctl_home": "",
        "ppctl_serial": [1, "100%"],
    }


def test_the_variables_are_for_nobody_else_and_gone_afterwards(ansible: Ansible) -> None:
    ansible.answer(event("web1", **DONE), hosts=("web1",))
    assert ppctl("adduser", "bob", "--password-stdin", "--on", "all", stdin=b"hunter2").code == 0
    (call,) = ansible.calls
    assert (call["mode"], call["folder_mode"]) == ("0o600", "0o700")
    assert not Path(call["path"]).parent.exists()


def test_a_password_is_hashed_once_and_only_the_hash_travels(ansible: Ansible) -> None:
    ansible.answer(event("web1", **DONE), event("web2", **DONE))
    ran = ppctl("adduser", "bob", "--password-stdin", "--on", "all", "--json", stdin=b"hunter2\n")
    call = ansible.calls[0]
    assert call["variables"]["ppctl_command"] == ["adduser", "bob", "--hash-stdin", "--keep"]
    assert htpasswd.verify("hunter2", call["variables"]["ppctl_stdin"])
    assert "hunter2" not in json.dumps(call) + ran.out + ran.err
    ran = ppctl("adduser", "bob", "--password-stdin", "--on", "all", stdin=b"hunter2\n")
    assert "the password has fewer than 15 characters" in ran.err and "hunter2" not in ran.err
    assert "hint: ppctl passwd bob --generate --on all makes one up" in ran.err
    assert call["variables"]["ppctl_stdin"] not in json.dumps(call["argv"]) + ran.out


def test_a_generated_password_is_the_same_for_all_and_shown_once(ansible: Ansible) -> None:
    ansible.answer(event("web1", **DONE), event("web2", **DONE))
    ran = ppctl("passwd", "bob", "--generate", "--on", "all")
    password = ran.out.splitlines()[0]
    assert htpasswd.verify(password, ansible.calls[0]["variables"]["ppctl_stdin"])
    told = ppctl("passwd", "bob", "--generate", "--on", "all", "--json").result["password"]
    assert htpasswd.verify(told, ansible.calls[1]["variables"]["ppctl_stdin"])


def test_a_user_who_was_there_is_told(ansible: Ansible) -> None:
    ansible.answer(event("web1", changed=True, **DONE), event("web2", results=[index({"changed": False})]))
    ran = ppctl("adduser", "bob", "--generate", "--on", "all")
    assert "with the password as before: on web2" in ran.err


@pytest.mark.parametrize(
    ("argv", "result", "words"),
    [
        (["adduser", "ann", "--generate"], {"changed": True, "user": "ann"}, "ann added"),
        (["passwd", "ann", "--generate"], {"changed": True, "user": "ann"}, "new password of ann"),
        (["deluser", "ann"], {"changed": True, "removed": ["ann"]}, "ann removed"),
        (["deluser", "ann"], {"changed": False, "removed": []}, "nothing to do"),
        (["disable", "ann"], {"changed": True, "user": "ann"}, "ann disabled"),
        (["enable", "ann"], {"changed": True, "user": "ann"}, "ann enabled"),
        (["restart"], {"changed": True, "workers": [1, 2]}, "workers 1, 2 restarted"),
        (["start"], {"changed": True, "workers": [2]}, "worker 2 started"),
        (["stop"], {"changed": False, "workers": []}, "nothing to do"),
        (
            ["user", "grant", "ann", "upload"],
            {"changed": True, "user": "ann", **LIMITED},
            "ann may: upload x-*",
        ),
        (["user", "reset", "ann"], {"changed": True, "user": "ann", "permissions": None}, "ann may read and"),
        (
            ["user", "revoke", "ann", "read"],
            {"changed": False, "user": "ann", **LIMITED},
            "upload x-* already",
        ),
        (
            ["token", "revoke", "ci"],
            {"changed": True, "name": "ci", "user": "ann"},
            "token ci of ann revoked",
        ),
        (["token", "revoke", "ci"], {"changed": False, "name": "ci", "user": None}, "nothing to do"),
    ],
)
def test_the_table_says_what_has_changed(
    ansible: Ansible, argv: list[str], result: dict[str, Any], words: str
) -> None:
    ansible.answer(event("web1", changed=result["changed"], results=[index(result)]), hosts=("web1",))
    ran = ppctl(*argv, "--on", "all")
    assert words in table(Ran(ran.code, ran.out[ran.out.index("HOST") :], ran.err))[0][3]


def test_the_rest_is_finished_with_the_same_password(ansible: Ansible) -> None:
    ansible.answer(event("web1", changed=True, **DONE), event("web2", "unreachable", "no route to host"))
    ran = ppctl("adduser", "bob", "--generate", "--on", "all", "-i", "more.yml", "--index", "team")
    again = "type it in: ppctl adduser bob --on web2 -i more.yml --index team\n"
    assert ran.code == 1 and again in ran.err
    # One that went silent may have taken it, too.
    ansible.answer(event("web1", "unreachable", "timed out"), hosts=("web1",))
    assert "type it in" in ppctl("passwd", "bob", "--generate", "--on", "all").err


def test_one_index_of_a_host_may_have_taken_the_password(ansible: Ansible) -> None:
    one, other = (
        index({"changed": True, "user": "bob"}),
        {**index(None), "error": {"message": "x", "hint": ""}},
    )
    ansible.answer(event("web1", "failed", "x", results=[one, other]), hosts=("web1",))
    assert "type it in" in ppctl("adduser", "bob", "--generate", "--on", "all", "--index", "all").err


def test_a_password_that_no_host_has_taken_is_not_handed_on(ansible: Ansible) -> None:
    several = "several indexes are on this host: a, b; say which, or all (in a playbook: ppctl_index)"
    ansible.answer(event("web1", "failed", several, msg=several), hosts=("web1",))
    ran = ppctl("adduser", "bob", "--generate", "--on", "all")
    assert ran.code == 1 and "type it in" not in ran.err
    assert "warning: the password above was set nowhere: the next run makes up another one\n" in ran.err
    assert "\nhint: --index NAME means one of them" in ran.err


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Task failed: Missing sudo password", "-K asks for sudo's password"),
        ("Task failed: Incorrect sudo password", "-K asks for sudo's password"),
        ("The module interpreter '/usr/bin/python3' was not found.", "install Python 3.10"),
        ("ppctl is not installed on this host (/x). The role", "ppctl up --on PATTERN"),
        ("several indexes are on this host: a, b; say which, or all", "--index NAME means one of them"),
        ("Make sure this host can be reached over ssh: ssh: connect", "try it: ansible HOST -m ping"),
    ],
)
def test_a_failure_comes_with_what_to_do(ansible: Ansible, message: str, hint: str) -> None:
    ansible.answer(event("web1", "failed", message, msg=message), hosts=("web1",))
    ran = ppctl("restart", "--on", "all")
    assert f"hint: {hint}" in ran.err and "Task failed" not in ran.out
    assert ppctl("restart", "--on", "all", "--json").result["hosts"][0]["indexes"] == []


def test_what_is_wrong_comes_without_ansibles_own_words(ansible: Ansible) -> None:
    words = (
        "Task failed: The filter plugin 'ppctl.fleet.wanted_indexes' failed: /x/hosts.yml:9:7: unknown usres"
    )
    ansible.answer(event("web1", "failed", words, msg=words), hosts=("web1",))
    assert table(ppctl("up", "--on", "all"))[0] == ["web1", "-", "failed", "/x/hosts.yml:9:7: unknown usres"]


def test_a_hosts_own_hint_is_told_once(ansible: Ansible) -> None:
    error = {"error": {"message": "another ppctl is at work", "hint": "wait, or see ps"}}
    ansible.answer(
        *(event(host, "failed", "x", results=[{**index(None), **error}]) for host in ("web1", "web2"))
    )
    assert ppctl("start", "--on", "all").err.count("hint: wait, or see ps") == 1


def test_after_ctrl_c_it_says_who_had_answered(ansible: Ansible, monkeypatch: pytest.MonkeyPatch) -> None:
    ansible.answer(event("web1", changed=True, **DONE))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ppctl.commands.fleet.progress", lambda out: contextlib.nullcontext(interrupt))
    ran = ppctl("restart", "--on", "all", "--json")
    assert ran.code == 130
    assert (ran.result["done"], ran.result["interrupted"]) == (["web1"], ["web2"])
    ran = ppctl("restart", "--on", "all")
    assert ran.code == 130 and "done: web1; not done: web2" in ran.err
    assert "interrupted: web2 had not answered; run the same command again to finish" in ran.err
    assert "mend" not in ran.err
    ran = ppctl("passwd", "bob", "--generate", "--on", "all")
    assert "to finish with the same password, type it in: ppctl passwd bob --on web2" in ran.err
    assert ran.err.endswith("interrupted: web2 had not answered\n"), "the same again would make another one"
    ansible.answer(event("web1", results=[index({"entries": []})]))
    ran = ppctl("audit", "--on", "all")
    assert ran.code == 130 and ran.err.endswith("web2 had not answered; run the same command again\n")


def test_before_anybody_had_answered_ctrl_c_is_ctrl_c(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch
) -> None:
    ansible.answer()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet, "_take", interrupt)
    assert ppctl("restart", "--on", "all").code == 130


def test_who_failed_and_who_was_not_begun_is_named(ansible: Ansible) -> None:
    failed = {"results": [{**index(None), "error": {"message": "worker 1 does not serve", "hint": ""}}]}
    ansible.answer(
        event("web1", "failed", "pypi: worker 1 does not serve", **failed),
        event("web2", "unreachable", "no route to host"),
        hosts=("web1", "web2", "web3"),
        code=2,
    )
    ran = ppctl("restart", "--on", "all")
    assert ran.code == 1
    assert table(ran)[0] == ["web1", "pypi", "failed", "worker 1 does not serve"]
    assert table(ran)[1] == ["web2", "-", "unreachable", "no route to host"]
    assert ran.out.splitlines()[3].split(maxsplit=2) == ["web3", "-", "not begun"]
    assert "done: none; not done: web1, web2, web3" in ran.err
    result = ppctl("restart", "--on", "all", "--json").result
    assert (result["done"], result["failed"], result["not_begun"]) == ([], ["web1", "web2"], ["web3"])


def test_status_tells_who_is_not_well(ansible: Ansible) -> None:
    workers = [{"answers": True}, {"answers": False}]
    well = {"health": "healthy", "workers": workers[:1], "packages": 3, "users": 1}
    ansible.answer(
        event("web1", results=[index(well), index({"health": "degraded", "workers": workers}, "lib", 1)]),
        hosts=("web1",),
    )
    ran = ppctl("status", "--on", "all")
    assert ran.code == 1
    assert table(ran) == [
        ["web1", "pypi", "ok", "healthy, 1 of 1 worker, 3 packages, 1 user"],
        ["web1", "lib", "not", "well  degraded, 1 of 2 workers"],
    ]
    assert "well: none; not well: web1" in ran.err
    assert "hint: ppctl doctor --on web1 says what is wrong" in ran.err
    ran = ppctl("status", "--on", "all", "-i", "my hosts", "-K", "--index", "lib")
    assert "hint: ppctl doctor --on web1 -i 'my hosts' --index lib -K says" in ran.err
    assert ansible.calls[0]["variables"]["ppctl_index"] == "all"


def test_doctor_tells_what_to_mend_once_for_all_hosts(ansible: Ansible) -> None:
    def finding(severity: str, check: str, mend: str) -> dict[str, str]:
        return {"severity": severity, "check": check, "where": "here", "message": "a\nb", "mend": mend}

    boot, disk = finding("warning", "boot", "daemon-reload"), finding("problem", "disk", "")
    well = finding("ok", "port", "never shown")
    ansible.answer(
        event("web1", results=[index({"findings": [disk, boot, well]}, exit_code=1)]),
        event("web2", results=[index({"findings": [boot]}), index({"findings": [well]}, "lib")]),
    )
    ran = ppctl("doctor", "--on", "all")
    assert ran.code == 1
    assert ran.out.splitlines()[:5] == [
        "web1 pypi: problem: disk: here: a",
        "    b",
        "web1 pypi, web2 pypi: warning: boot: here: a",
        "    b",
        "    mend, on the host: daemon-reload",
    ]
    assert [line.split() for line in ran.out.splitlines()[6:]] == [
        ["web1", "pypi", "not", "well", "1", "problem,", "1", "warning"],
        ["web2", "pypi", "ok", "1", "warning"],
        ["web2", "lib", "ok", "nothing", "wrong"],
    ]
    assert "well: web2; not well: web1" in ran.err


def test_twenty_hosts_fit_one_screen(ansible: Ansible) -> None:
    found = {"health": "healthy", "workers": [{"answers": True}] * 2, "packages": 12345, "users": 67}
    names = tuple(f"pypi{number}.example.com" for number in range(1, 21))
    ansible.answer(*(event(name, results=[index(found)]) for name in names), hosts=names)
    lines = ppctl("status", "--on", "all").out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100


@pytest.mark.parametrize(("rows", "is_terminal"), [(24, True), (60, True), (24, False)])
def test_several_indexes_on_twenty_hosts_fit_one_screen_too(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch, rows: int, is_terminal: bool
) -> None:
    well = {"health": "healthy", "workers": [{"answers": True}] * 2, "packages": 1, "users": 1}
    down = {"health": "down", "workers": []}
    names = tuple(f"web{number}" for number in range(1, 21))
    ansible.answer(
        *(event(name, results=[index(well), index(well, "lib")]) for name in names[:-1]),
        event(names[-1], results=[index(well), index(down, "lib", 1)]),
        hosts=names,
    )
    monkeypatch.setenv("LINES", str(rows))
    if is_terminal:
        monkeypatch.setattr(io, "StringIO", Terminal)
        monkeypatch.setenv("TERM", "dumb")
    lines = ppctl("status", "--on", "all").out.splitlines()
    assert len(lines) == (22 if (rows, is_terminal) == (24, True) else 41)
    assert lines[-1].split(maxsplit=3)[:3] == ["web20", "lib", "not"]
    if len(lines) == 22:
        assert lines[1].split() == ["web1", "all", "2", "ok", "healthy:", "pypi,", "lib"]


def test_the_audit_log_and_the_log_of_the_cache_are_shown_in_full(ansible: Ansible) -> None:
    entry = {"time": "T", "by": "root", "action": "grant", "user": "ann", "detail": "upload team-*"}
    ansible.answer(event("web1", results=[index({"entries": [entry]})]), hosts=("web1",))
    assert "web1 pypi: T  root  grant ann (upload team-*)" in ppctl("audit", "--on", "all").out
    logs = {"logs": [{"worker": 1, "lines": ["a"]}], "cache": ["b"]}
    ansible.answer(event("web1", results=[index(logs)]), hosts=("web1",))
    ran = ppctl("logs", "--on", "all")
    assert ran.out.splitlines()[:2] == ["web1 pypi worker 1: a", "web1 pypi cache: b"]
    assert ran.out.splitlines()[-1].split() == ["web1", "pypi", "ok", "2", "lines"]


def test_users_diff_shows_only_what_differs(ansible: Ansible) -> None:
    ann = {"name": "ann", "scheme": "bcrypt", "disabled": False}
    bob = {"name": "bob", "scheme": "bcrypt", "disabled": True}
    ansible.answer(
        event("web1", results=[index({"users": [ann, bob]})]),
        event("web2", results=[index({"users": [ann]})]),
    )
    ran = ppctl("users", "--on", "all", "--diff")
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["bob", "web1", "pypi", "bcrypt,", "disabled"],
        ["bob", "web2", "pypi", "missing"],
    ]


def test_users_diff_takes_no_answer_for_no_difference(ansible: Ansible) -> None:
    away = event("web2", "unreachable", "Make sure this host can be reached over ssh: no route to host")
    ansible.answer(event("web1", results=[index({"users": []})]), away)
    ran = ppctl("users", "--on", "all", "--diff")
    assert ran.code == 1
    assert ran.out == "the users are the same on those that have answered: 0 on 1 indexes\n"
    assert "web2: unreachable" in ran.err and "hint: try it: ansible HOST -m ping" in ran.err
    ansible.answer(away, hosts=("web2",))
    assert ppctl("users", "--on", "all", "--diff").out == ""


def test_users_diff_says_whose_password_may_be_another(ansible: Ansible) -> None:
    ann = {"name": "ann", "scheme": "bcrypt", "disabled": False}
    same = {"name": "bob", "scheme": "bcrypt", "disabled": False, "hash_id": "0"}
    ansible.answer(
        event("web1", results=[index({"users": [{**ann, "hash_id": "1"}, same]})]),
        event("web2", results=[index({"users": [{**ann, "hash_id": "2"}, same]})]),
    )
    ran = ppctl("users", "--on", "all", "--diff")
    assert "may be another one: ann" in ran.out and "bob" not in ran.out
    assert ppctl("users", "--on", "all", "--diff", "--json").result["hashed_apart"] == ["ann"]


@pytest.mark.parametrize(
    ("argv", "made"),
    [
        ("restart", set()),
        ("passwd bob --generate", {"password"}),
        ("token create ci --user bob --read", {"token"}),
    ],
)
def test_the_json_fields_are_the_documented_ones(ansible: Ansible, argv: str, made: set[str]) -> None:
    ansible.answer(event("web1", **DONE), event("web2", **DONE))
    fields = set(ppctl(*argv.split(), "--on", "all", "--json").result)
    assert fields == {field for field, _ in reference.ON} | made
    assert made <= {field.rstrip("?") for field, _ in reference.MADE_ON}


def test_the_json_fields_of_users_diff_are_the_documented_ones(ansible: Ansible) -> None:
    ansible.answer(event("web1", results=[index({"users": []})]))
    fields = set(ppctl("users", "--diff", "--on", "all", "--json").result)
    assert fields == {field for field, _ in reference.DIFFERENCES}


def test_users_diff_also_shows_what_they_may_do(ansible: Ansible) -> None:
    ann = {"name": "ann", "scheme": "bcrypt", "disabled": False, "permissions": None}
    limited = {**ann, "permissions": {"read": False, "upload": ["team-*"], "admin": False}}
    ansible.answer(
        event("web1", results=[index({"users": [ann]})]),
        event("web2", results=[index({"users": [limited]})]),
    )
    ran = ppctl("users", "--on", "all", "--diff")
    assert [line.split(maxsplit=3) for line in ran.out.splitlines()[1:]] == [
        ["ann", "web1", "pypi", "bcrypt"],
        ["ann", "web2", "pypi", "bcrypt; may upload team-*"],
    ]
    ran = ppctl("users", "--on", "all")
    assert [line[3] for line in table(ran)] == ["ann", "ann (may: upload team-*)"]


@pytest.mark.parametrize(
    "argv",
    [
        ["user", "grant", "ann", "read", "upload", "--project", "team-*", "--project", "x"],
        ["user", "revoke", "ann", "upload"],
        ["user", "reset", "ann"],
    ],
)
def test_permissions_are_granted_on_many_hosts(ansible: Ansible, argv: list[str]) -> None:
    ansible.answer(event("web1", changed=True, **DONE), event("web2", **DONE))
    ran = ppctl(*argv, "--on", "all")
    assert ran.code == 0, ran.err
    (call,) = ansible.calls
    assert call["variables"]["ppctl_command"] == argv
    assert call["variables"]["ppctl_read_only"] is False
    assert [line[:3] for line in table(ran)] == [["web1", "pypi", "changed"], ["web2", "pypi", "ok"]]


def test_a_token_is_made_once_and_hosts_get_what_they_keep_of_it(ansible: Ansible) -> None:
    ansible.answer(event("web1", changed=True, **DONE), event("web2", "unreachable", "no route to host"))
    argv = ["token", "create", "ci", "--user", "bot", "--upload", "Team_*", "--read", "--on", "all"]
    ran = ppctl(*argv, "--expires", "90d")
    assert ran.code == 1
    secret = ran.out.splitlines()[0]
    (call,) = ansible.calls
    command, stdin = call["variables"]["ppctl_command"], call["variables"]["ppctl_stdin"]
    assert (stdin, len(secret)) == (permissions.digest(secret), 49)
    assert secret not in json.dumps(call) and "--token-stdin" in ran.err
    assert command[:-1] == [
        *("token", "create", "ci", "--user", "bot", "--digest-stdin"),
        *("--upload", "team-*", "--read", "--expires"),
    ]
    assert tokens.end(command[-1], time.time())  # the same moment everywhere
    again = ppctl(*argv, "--token-stdin", "--json", stdin=secret.encode()).result
    assert again["token"] == secret
    assert ansible.calls[1]["variables"]["ppctl_stdin"] == stdin


def test_tokens_are_listed_and_revoked_on_many_hosts(ansible: Ansible) -> None:
    token = {"name": "ci", "user": "bot", "expired": False, "expires": None}
    ansible.answer(
        event("web1", results=[index({"tokens": [token, {**token, "name": "old", "expired": True}]})]),
        event("web2", results=[index({"tokens": []})]),
    )
    assert table(ppctl("token", "list", "--on", "all")) == [
        ["web1", "pypi", "ok", "ci (bot, never ends), old (bot, over)"],
        ["web2", "pypi", "ok", "no tokens"],
    ]
    assert ansible.calls[0]["variables"]["ppctl_read_only"] is True
    ansible.answer(event("web1", changed=True, **DONE), event("web2", results=[index({"changed": False})]))
    assert ppctl("token", "revoke", "ci", "--on", "all").code == 0
    assert ansible.calls[1]["variables"]["ppctl_command"] == ["token", "revoke", "ci", "--missing-ok"]
    assert ansible.calls[1]["variables"]["ppctl_read_only"] is False


def test_users_are_copied_with_their_hashes_on_stdin(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "4")
    exported = {"users": [{"name": "ann", "password_hash": "$2y$10$" + "a" * 53, "disabled": False}]}
    ansible.answer(event("web1", results=[index(exported)]), hosts=("web1",))
    ran = ppctl("users", "copy", "--from", "web1", "--on", "web2", "--exclusive", "--json")
    export, apply = ansible.calls
    assert export["variables"]["ppctl_command"] == ["users", "export"]
    assert apply["variables"]["ppctl_command"] == ["users", "apply", "-"]
    stdin = apply["variables"]["ppctl_stdin"]
    assert json.loads(stdin) == {**exported, "exclusive": True, "allow_weak": True}
    assert not stdin.startswith("{"), "Ansible 2.17 and 2.18 would make Python's data of it"
    # With -vvv the log would have what the first host answers: the hashes.
    assert [call["environment"]["ANSIBLE_VERBOSITY"] for call in ansible.calls] == ["0", "4"]
    assert ran.code == 0


def test_up_is_the_playbook_limited_to_the_hosts(ansible: Ansible) -> None:
    changes = [{"action": "update", "target": path} for path in ("/a", "/b")]
    ansible.answer(event("web1", ppctl_index_name="pypi", changes=changes, changed=True), hosts=("web1",))
    ran = ppctl("up", "--on", "web1", "--dry-run")
    assert ran.out.splitlines()[-1].split(maxsplit=3) == ["web1", "pypi", "changed", "2 changes"]
    (call,) = ansible.calls
    assert call["argv"][0].endswith("/site.yml")
    assert call["argv"][1:5] == ["--limit", "web1", "--check", "--diff"]


def test_a_dry_run_of_up_shows_the_plan_once_for_all_hosts_where_it_is_the_same(ansible: Ansible) -> None:
    write = {
        "action": "update",
        "target": "/srv/pypi/ppctl.yml",
        "summary": "",
        "diff": "-port: 1\n+port: 2\n",
    }
    restart = {"action": "restart", "target": "worker 1", "summary": "new settings", "interrupts": "a moment"}
    part = {"ppctl_index_name": "pypi", "changes": [write, restart]}
    user = {"ppctl_users_index": "pypi", "changes": [{"action": "passwd", "user": "ann"}]}
    later = {"ppctl_index_name": "pypi", "changes": [], "msg": "would bring the index up: x"}
    ansible.answer(
        *(event(host, changed=True, **part) for host in ("web1", "web2")),
        event("web2", changed=True, **user),
        event("web3", changed=True, pending=["package nginx", "ppctl"]),
        event("web3", changed=True, **later),
        hosts=("web1", "web2", "web3"),
    )
    ran = ppctl("up", "--on", "all", "--dry-run")
    plan, _, rows = ran.out.partition("HOST")
    assert plan.splitlines() == [
        "web1, web2: pypi",
        "  update   /srv/pypi/ppctl.yml",
        "      -port: 1",
        "      +port: 2",
        "  restart  worker 1  (new settings)",
        "      warning: a moment",
        "web2: pypi",
        "  passwd   ann",
        "web3: the host",
        "  install  package nginx",
        "  install  ppctl",
        "web3: pypi",
        "  would bring the index up: x",
    ]
    assert [line.split(maxsplit=3) for line in rows.splitlines()[1:]] == [
        ["web1", "pypi", "changed", "2 changes"],
        ["web2", "pypi", "changed", "3 changes"],
        ["web3", "-", "changed", "the host: package nginx, ppctl"],
        ["web3", "pypi", "changed", "would bring the index up: x"],
    ]
    assert "update" not in ppctl("up", "--on", "all").out


class Terminal(io.StringIO):
    """A terminal that is written to, and what stands on it in the end."""

    def isatty(self) -> bool:
        return True

    def screen(self, text: str) -> list[str]:
        lines, at = [""], 0
        for piece in re.split(r"(\x1b\[\d*[A-Z]|\n|\r)", text):
            if piece == "\n":
                at += 1
                lines += [""] * (at + 1 - len(lines))
            elif piece.endswith("A") and piece.startswith("\x1b"):
                at -= int(piece[2:-1])
            elif piece == "\x1b[2K":
                lines[at] = ""
            elif piece == "\x1b[J":
                lines[at:] = [""]
            elif not piece.startswith("\x1b") and piece != "\r":
                lines[at] += piece
        return lines

    def frames(self) -> list[list[str]]:
        """Return what stood there after each thing that was written."""
        ends = [match.end() for match in re.finditer(r"\x1b\[J", self.getvalue())]
        return [self.screen(self.getvalue()[:end]) for end in ends]


def on_a_terminal(names: Sequence[str], rows: int, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Show hosts that begin, and of which the last one is done."""
    terminal = Terminal()
    with monkeypatch.context() as patch, live.progress(Output(stderr=terminal)) as tell:
        # Only meanwhile: pytest asks for the terminal's size, too.
        patch.setattr(live.shutil, "get_terminal_size", lambda _: os.terminal_size((40, rows)))
        patch.delenv("TERM", raising=False)
        for name in names:
            tell(HostResult(name, doing="Install ppctl"))
        tell(HostResult(names[-1], state="ok", step_changed=True, step="Install ppctl " + "x" * 40))
    return terminal


def test_on_a_terminal_each_host_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = on_a_terminal(["web1", "web2"], 24, monkeypatch).frames()
    assert frames[0] == ["web1: Install ppctl …", ""]
    assert frames[1] == ["web1: Install ppctl …", "web2: Install ppctl …", ""]
    assert frames[2] == ["web1: Install ppctl …", "web2: changed  (Install ppctl xxxxxxxxx", ""]
    assert frames[3] == [""], "the table takes their place"


def test_where_the_lines_do_not_fit_those_at_work_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = on_a_terminal([f"web{number}" for number in range(1, 8)], 5, monkeypatch).frames()
    assert frames[-2] == ["web1: Install ppctl …", "web2: Install ppctl …", "and 5 more", ""]
    assert max(map(len, frames)) == 4


def test_elsewhere_each_step_that_is_done_is_a_line(ansible: Ansible) -> None:
    begun = {"event": "start", "host": "web1", "step": "Run ppctl"}
    skipped = {"event": "skipped", "host": "web1"}
    ansible.answer(begun, skipped, begun, event("web1", changed=True, **DONE), hosts=("web1",))
    assert ppctl("restart", "--on", "all").err.splitlines() == ["web1: changed"]


def test_a_step_that_changes_nothing_says_so_also_after_one_that_did(ansible: Ansible) -> None:
    steps = [
        {**event("web1", changed=True), "step": "Install ppctl"},
        {**event("web1", ppctl_index_name="pypi"), "step": "Bring indexes to their settings"},
    ]
    ansible.answer(*steps, hosts=("web1",))
    lines = ppctl("up", "--on", "all").err.splitlines()
    assert lines == ["web1: changed  (Install ppctl)", "web1: ok  (Bring indexes to their settings)"]


def test_up_tells_which_index_failed_and_why(ansible: Ansible) -> None:
    reason = {
        "failed": True,
        "msg": "/srv/lib/ppctl.yml: prot: no such key\nhint: `ppctl schema` shows every key",
    }
    ansible.answer(
        event("web1", ppctl_index_name="pypi", changed=True, changes=[{"action": "update", "target": "/a"}]),
        event("web1", "failed", "One or more items failed", ppctl_index_name="lib", **reason),
        hosts=("web1",),
    )
    ran = ppctl("up", "--on", "all")
    assert ran.code == 1
    assert table(ran) == [
        ["web1", "pypi", "changed", "1 change"],
        ["web1", "lib", "failed", "/srv/lib/ppctl.yml: prot: no such key"],
    ]
    assert "hint: `ppctl schema` shows every key" in ran.err
    result = ppctl("up", "--on", "all", "--json").result
    assert (result["failed"], result["hosts"][0]["indexes"][1]["failed"]) == (["web1"], True)


def test_up_tells_of_hosts_where_a_look_was_enough(ansible: Ansible) -> None:
    look = {"indexes": ["pypi", "team"], "pending": [], "action": "ppctl.fleet.ppctl_pending"}
    ansible.answer(event("web1", **look), hosts=("web1",))
    assert table(ppctl("up", "--on", "all")) == [
        ["web1", "pypi", "ok", "nothing to change"],
        ["web1", "team", "ok", "nothing to change"],
    ]
    (host,) = ppctl("up", "--on", "all", "--json").result["hosts"]
    assert [each["ppctl_index_name"] for each in host["indexes"]] == ["pypi", "team"]


def test_a_host_that_was_looked_at_is_not_begun_before_its_turn(ansible: Ansible) -> None:
    look = {"indexes": ["pypi"], "pending": ["index pypi"], "action": "ppctl.fleet.ppctl_pending"}
    group = {"action": "ansible.builtin.add_host"}
    ansible.answer(
        event("web1", **look),
        event("web2", **look),
        event("web1", **group),
        event("web2", **group),
        event("web1", "failed", "the port is taken", ppctl_index_name="pypi", failed=True, msg="port taken"),
        code=2,
    )
    ran = ppctl("up", "--on", "all")
    assert table(ran)[0][:3] == ["web1", "pypi", "failed"]
    assert ran.out.splitlines()[2].split(maxsplit=2) == ["web2", "-", "not begun"]
    assert ppctl("up", "--on", "all", "--json").result["not_begun"] == ["web2"]


@pytest.mark.parametrize(
    ("code", "errors", "message"),
    [
        (4, "ERROR! the inventory is broken", "the inventory is broken"),
        (0, "", "no host of the inventory matches 'prod'"),
        (1, "[ERROR]: --limit leaves us with no hosts to target.", "no host of the inventory matches 'prod'"),
        (
            1,
            "[ERROR]: Could not match supplied host pattern, ignoring: web9",
            "group of the inventory matches 'web9'",
        ),
        (0, "[WARNING]: No inventory was parsed, only implicit", "there is no inventory"),
        (0, "[WARNING]: Unable to parse /x as an inventory source", "Unable to parse /x"),
        (3, "", "ended with exit code 3"),
    ],
)
def test_where_ansible_cannot_begin_it_says_why(
    ansible: Ansible, code: int, errors: str, message: str
) -> None:
    ansible.answer(hosts=(), errors=errors, code=code)
    ran = ppctl("status", "--on", "prod")
    assert ran.code == 1 and message in ran.err and "ansible-inventory" in ran.err


def test_the_operators_own_ansible_settings_count(
    ansible: Ansible, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ansible.answer(event("web1", **DONE), hosts=("web1",))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/x")
    ppctl("start", "--on", "all")
    (tmp_path / "ansible.cfg").write_text("[defaults]\nforks = 3\n[ssh_connection]\nssh_args = -C\n")
    ppctl("start", "--on", "all")
    monkeypatch.setenv("ANSIBLE_FORKS", "7")
    ppctl("start", "--on", "all")
    environments = [call["environment"] for call in ansible.calls]
    assert [each.get("ANSIBLE_FORKS") for each in environments] == ["20", None, "7"]
    assert ["ServerAlive" in each.get("ANSIBLE_SSH_ARGS", "") for each in environments] == [
        True,
        False,
        False,
    ]
    assert {each["ANSIBLE_VAULT_PASSWORD_FILE"] for each in environments} == {"/x"}


def test_lines_of_somebody_elses_plugin_are_no_obstacle(ansible: Ansible) -> None:
    ansible.answer("not json", [1], {"event": "other"}, event("web1", **DONE), hosts=("web1",))
    assert ppctl("start", "--on", "all").code == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["logs", "--follow", "--on", "all"], "--follow and --on exclude each other"),
        (["up", "--first-user", "a", "--on", "all"], "--first-user and --on"),
        (["up", "--index", "team", "--on", "all"], "what the inventory says, without --index"),
        (["up", "-C", "/srv/team", "--on", "all"], "what the inventory says, without --home"),
        (["up", "--no-wait", "--on", "all"], "what the inventory says, without --no-wait"),
        (["status", "--index", "a"], "go with --on PATTERN"),
        (["status", "-i", "a"], "go with --on PATTERN"),
        (["status", "--on", "all", "--index", "a", "-C", "/srv/a"], "exclude each other"),
        (["users", "--diff"], "--diff goes with --on"),
        (["token", "create", "CI", "--user", "a", "--read", "--on", "all"], "small letters"),
        (["token", "create", "ci", "--user", "a", "--on", "all"], "may do nothing"),
        (["token", "create", "ci", "--user", "a", "--read", "--token-stdin", "--on", "all"], "no token of"),
        (["adduser", "a:b", "--generate", "--on", "all"], "a name cannot contain"),
        (["adduser", "a", "secret", "--on", "all"], "can be read by every user"),
    ],
)
def test_what_makes_no_sense_with_on_is_refused(ansible: Ansible, argv: list[str], message: str) -> None:
    ran = ppctl(*argv)
    assert ran.code == 2 and message in ran.err
    assert not ansible.calls


def test_without_ansible_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = ppctl("status", "--on", "all")
    assert ran.code == 1 and "pip install 'ppctl[fleet]'" in ran.err


def test_the_temporary_folder_is_only_ours() -> None:
    with fleet._variables_file({"a": 1}) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not path.exists()
