"""ppctl user grant, revoke and reset; ppctl token: what is said, what is stored, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl import permissions, tokens
from ppctl.errors import UsageError
from ppctl.server.accounts import Accounts
from ppctl.server.auth import Users
from ppctl.server.permissions import TOKEN_USER
from ppctl.server.refused import RefusedLogins
from tests.cli import ppctl

HASH = "$2y$10$" + "a" * 53


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_bcrypt: None) -> Path:
    """An index that was never started, with two users."""
    monkeypatch.setenv("PPCTL_HOME", str(tmp_path))
    (tmp_path / "ppctl.yml").write_text("password: {bcrypt_cost: 10}\n")
    (tmp_path / "htpasswd").write_text(f"ann:{HASH}\nci-bot:{HASH}\n")
    return tmp_path


def stored(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "permissions.json").read_text())
    return found


def may(*argv: str) -> Any:
    ran = ppctl("user", *argv, "--json")
    assert ran.code == 0, ran.err
    return ran.result["permissions"]


def audited() -> list[tuple[str, str, str]]:
    entries = ppctl("audit", "--json").result["entries"]
    return [(entry["action"], entry["user"], entry["detail"]) for entry in entries]


# -- permissions ---------------------------------------------------------------------------------------


def test_grants_add_up_and_revokes_take_away(home: Path) -> None:
    assert may("grant", "ann", "upload", "--project", "Team_*") == _may(upload=["team-*"])
    assert may("grant", "ann", "upload", "--project", "tool") == _may(upload=["team-*", "tool"])
    assert may("grant", "ann", "read") == _may(read=True, upload=["team-*", "tool"])
    assert may("revoke", "ann", "upload", "--project", "team-*") == _may(read=True, upload=["tool"])
    assert may("revoke", "ann", "upload") == _may(read=True)
    assert may("grant", "ann", "admin") == _may(read=True, admin=True)
    assert may("revoke", "ann", "read", "admin") == _may()
    assert may("reset", "ann") is None
    assert stored(home) == {"version": 1, "users": {}, "tokens": {}}
    assert audited()[0] == ("grant", "ann", "upload team-*")
    assert audited()[-2:] == [("revoke", "ann", "admin, read"), ("reset", "ann", "as any user")]


def _may(*, read: bool = False, upload: list[str] | None = None, admin: bool = False) -> dict[str, Any]:
    return {"read": read, "upload": upload or [], "admin": admin}


def test_all_projects_make_patterns_needless(home: Path) -> None:
    may("grant", "ann", "upload", "--project", "team-*")
    assert may("grant", "ann", "upload") == _may(upload=["*"])
    assert may("grant", "ann", "upload", "--project", "tool") == _may(upload=["*"])


def test_a_revoke_limits_who_was_not_limited(home: Path) -> None:
    assert may("revoke", "ann", "upload") == _may(read=True)


def test_what_is_said_of_somebody_who_is_no_user_any_more_can_be_forgotten(home: Path) -> None:
    may("grant", "ann", "read")
    users = (home / "htpasswd").read_text().splitlines(keepends=True)
    (home / "htpasswd").write_text("".join(line for line in users if not line.startswith("ann:")))
    assert may("reset", "ann") is None
    assert stored(home) == {"version": 1, "users": {}, "tokens": {}}
    assert ppctl("user", "reset", "ann").code == 1


def test_what_changes_nothing_says_so_and_writes_nothing(home: Path) -> None:
    may("grant", "ann", "read")
    before = (home / "permissions.json").stat().st_mtime_ns, (home / "audit.log").read_bytes()
    ran = ppctl("user", "grant", "ann", "read")
    assert "already: nothing was changed" in ran.out
    assert "was not limited anyway" in ppctl("user", "reset", "ci-bot").out
    assert ppctl("user", "grant", "ann", "read", "--json").result["changed"] is False
    assert ((home / "permissions.json").stat().st_mtime_ns, (home / "audit.log").read_bytes()) == before


def test_users_shows_what_they_may(home: Path) -> None:
    may("grant", "ci-bot", "upload", "--project", "team-*")
    ran = ppctl("users")
    assert [line.split("  ")[0] for line in ran.out.splitlines()] == ["NAME", "ann", "ci-bot"]
    assert "upload team-*" in ran.out and "read, upload" in ran.out
    users = {user["name"]: user["permissions"] for user in ppctl("users", "--json").result["users"]}
    assert users == {"ann": None, "ci-bot": _may(upload=["team-*"])}


def test_permissions_that_count_for_nothing_are_told(home: Path) -> None:
    (home / "ppctl.yml").write_text("login: [list]\n")
    assert "uploads need no login" in ppctl("user", "grant", "ann", "read").err


def test_the_file_is_for_the_owner_and_the_workers(home: Path) -> None:
    may("grant", "ann", "read")
    assert (home / "permissions.json").stat().st_mode & 0o777 == 0o640


# -- tokens --------------------------------------------------------------------------------------------


def create(*argv: str, stdin: bytes = b"") -> tuple[str, str]:
    """Return the token, and what else was said."""
    ran = ppctl("token", "create", *argv, stdin=stdin)
    assert ran.code == 0, ran.err
    return ran.out.removesuffix("\n"), ran.err


def test_a_token_is_alone_on_stdout_and_only_its_hash_is_stored(home: Path) -> None:
    secret, said = create("ci", "--user", "ci-bot", "--upload", "Team_*", "--expires", "90d")
    assert len(secret) == 49 and secret.startswith("ppctl_")
    assert "ci-bot: upload team-*; until 20" in said and "__token__" in said
    for path in home.iterdir():
        assert secret not in path.read_text()
    token = stored(home)["tokens"]["ci"]
    assert (token["user"], token["upload"], token["read"]) == ("ci-bot", ["team-*"], False)
    assert audited() == [("token create", "ci-bot", "ci: upload team-*")]
    assert (
        secret not in ppctl("token", "list").out + ppctl("token", "list", "--json").out + ppctl("audit").out
    )


def test_a_token_works_until_it_is_revoked(home: Path) -> None:
    secret, _ = create("ci", "--user", "ann", "--read")
    (home / "run").mkdir()
    accounts = Accounts(Users(home / "htpasswd", home / "run"), home / "permissions.json", home / "run")
    assert accounts.identify(TOKEN_USER, secret)
    assert ppctl("token", "list", "--json").result["tokens"][0]["last_use"].startswith("20")
    assert ppctl("token", "revoke", "ci").out == "revoked the token ci of ann: it is refused from now on\n"
    assert accounts.identify(TOKEN_USER, secret) is None
    assert audited()[-1] == ("token revoke", "ann", "ci")


def test_the_list_tells_everything_but_the_token(home: Path) -> None:
    assert "no tokens; make one" in ppctl("token", "list").out
    create("ci", "--user", "ann", "--upload", "x", "--expires", "never")
    create("old", "--user", "ann", "--read", "--expires", "1h")
    found = permissions.permissions.parse((home / "permissions.json").read_bytes())
    over = {**stored(home), "tokens": {**stored(home)["tokens"]}}
    over["tokens"]["old"]["expires"] = found.tokens["old"].created - 1
    (home / "permissions.json").write_text(json.dumps(over))
    rows = [line.split() for line in ppctl("token", "list").out.splitlines()]
    assert rows[0][:3] == ["TOKEN", "USER", "MAY"]
    assert rows[1][:4] == ["ci", "ann", "upload", "x"] and "never" in rows[1] and rows[1][-1] == "-"
    assert "(over)" in rows[2]
    listed = {token["name"]: token for token in ppctl("token", "list", "--json").result["tokens"]}
    assert (listed["ci"]["expires"], listed["ci"]["expired"], listed["old"]["expired"]) == (None, False, True)
    assert set(listed["ci"]) == {
        "name",
        "user",
        "read",
        "upload",
        "created",
        "expires",
        "last_use",
        "expired",
    }


def test_a_token_that_its_user_makes_useless_is_warned_of(home: Path) -> None:
    may("grant", "ann", "upload", "--project", "team-*")
    assert "ann may not read, so the token may not, either" in create("a", "--user", "ann", "--read")[1]
    assert "may not" not in create("b", "--user", "ann", "--upload", "team-x")[1]


def test_a_token_that_was_made_before_is_taken_from_stdin(home: Path) -> None:
    secret, _ = create("a", "--user", "ann", "--read")
    digest = stored(home)["tokens"]["a"]["digest"]
    ppctl("token", "revoke", "a")
    again, _ = create("b", "--user", "ann", "--read", "--token-stdin", stdin=secret.encode() + b"\n")
    assert (again, stored(home)["tokens"]["b"]["digest"]) == (secret, digest)
    ran = ppctl(
        "token", "create", "b", "--user", "ann", "--read", "--token-stdin", "--json", stdin=secret.encode()
    )
    assert ran.result["changed"] is False
    ran = ppctl(
        "token", "create", "c", "--user", "ann", "--read", "--digest-stdin", "--json", stdin=digest.encode()
    )
    assert "token" not in ran.result and stored(home)["tokens"]["c"]["digest"] == digest


@pytest.mark.parametrize("gone", [["deluser", "ann"], ["users", "apply", "-"]])
def test_a_new_user_inherits_nothing_from_a_namesake(home: Path, gone: list[str]) -> None:
    """Not by ppctl, and not where somebody has removed the line by hand."""
    may("grant", "ann", "admin")
    create("ci", "--user", "ann", "--read")
    create("other", "--user", "ci-bot", "--read")
    ppctl(*gone, stdin=b"users: [{name: ann, state: absent}]")
    assert (stored(home)["users"], list(stored(home)["tokens"])) == ({}, ["other"])
    may("grant", "ci-bot", "admin")
    (home / "htpasswd").write_text("")
    assert ppctl("adduser", "ci-bot", "--generate").code == 0
    assert stored(home) == {"version": 1, "users": {}, "tokens": {}}


def test_disabling_keeps_what_was_granted(home: Path) -> None:
    may("grant", "ann", "read")
    create("ci", "--user", "ann", "--read")
    before = stored(home)
    ppctl("disable", "ann")
    ppctl("enable", "ann")
    ppctl("passwd", "ann", "--generate")
    assert stored(home) == before


# -- what is refused -----------------------------------------------------------------------------------

WRONG: list[tuple[list[str], int, str]] = [
    (["user", "grant", "nobody", "read"], 1, "there is no user nobody"),
    (["user", "grant", "an", "read"], 1, "did you mean ann"),
    (["user", "grant", "ann"], 2, "PERMISSION"),
    (["user", "grant", "ann", "write"], 2, "'write' is not one of"),
    (["user", "grant", "ann", "read", "--project", "x"], 2, "--project goes with the permission to upload"),
    (["user", "grant", "ann", "upload", "--project", "a b"], 2, "'a b' is no pattern of project names"),
    (["user", "grant", "ann", "upload", "--project", ""], 2, "'' is no pattern"),
    (["user", "grant", "ann", "upload", "--project", "../x"], 2, "is no pattern"),
    (["user", "revoke", "ann", "upload", "--project", "x"], 2, "has no permission to upload x"),
    (["user", "revoke", "nobody", "read"], 1, "there is no user nobody"),
    (["user", "reset", "nobody"], 1, "there is no user nobody"),
    (["token", "create", "ci", "--user", "nobody", "--read"], 1, "there is no user nobody"),
    (["token", "create", "ci", "--user", "ann"], 2, "may do nothing"),
    (["token", "create", "ci", "--read"], 2, "--user"),
    (["token", "create", "CI", "--user", "ann", "--read"], 2, "small letters"),
    (["token", "create", "a b", "--user", "ann", "--read"], 2, "small letters"),
    (["token", "create", "x" * 65, "--user", "ann", "--read"], 2, "small letters"),
    (["token", "create", "a\n", "--user", "ann", "--read"], 2, "small letters"),
    (["token", "create", "ci", "--user", "ann", "--upload", "[a]"], 2, "--upload: '[a]' is no pattern"),
    *(
        (["token", "create", "ci", "--user", "ann", "--read", "--expires", when], 2, "no time to come")
        for when in (
            "soon",
            "0d",
            "-1d",
            "90",
            "1m",
            "999999999y",
            "2001-01-01",
            "2030-02-30",
            "9999-12-31",
            "",
        )
    ),
    (["token", "create", "ci", "--user", "ann", "--read", "--token-stdin"], 2, "that is no token of ppctl"),
    (
        ["token", "create", "ci", "--user", "ann", "--read", "--digest-stdin"],
        2,
        "not what is kept of a token",
    ),
    (["token", "revoke", "ci"], 1, "there is no token ci"),
    (["token", "revoke", "a\x1b[31m"], 1, "there is no token a\\x1b"),
]


@pytest.mark.parametrize(("argv", "code", "message"), WRONG, ids=lambda value: None)
def test_what_makes_no_sense_is_refused(home: Path, argv: list[str], code: int, message: str) -> None:
    ran = ppctl(*argv, stdin=b"nonsense")
    assert (ran.code, ran.out) == (code, "") and message in ran.err, ran
    assert "Traceback" not in ran.err
    assert not (home / "permissions.json").exists() and not (home / "audit.log").exists()
    document = json.loads(ppctl(*argv, "--json", stdin=b"nonsense").out)
    assert document["exit_code"] == code and message in " ".join(document["error"].values())


def test_a_name_is_given_once(home: Path) -> None:
    create("ci", "--user", "ann", "--read")
    ran = ppctl("token", "create", "ci", "--user", "ann", "--read")
    assert ran.code == 1 and "there is a token ci already" in ran.err
    assert f"ppctl token revoke -C {home} ci" in ran.err
    assert ppctl("token", "revoke", "x", "--missing-ok", "--json").result["changed"] is False


@pytest.mark.parametrize(
    "argv",
    [
        ["user", "grant", "ann", "read"],
        ["token", "create", "ci", "--user", "ann", "--read"],
        ["token", "list"],
        ["users"],
        ["adduser", "new", "--generate"],
        ["users", "export"],
    ],
)
@pytest.mark.parametrize("content", ["", "{}", '{"version": 2, "users": {}, "tokens": {}}', "\x00"])
def test_a_damaged_file_is_told_and_left_alone(home: Path, argv: list[str], content: str) -> None:
    (home / "permissions.json").write_text(content)
    ran = ppctl(*argv)
    assert ran.code == 1 and "permissions.json: damaged" in ran.err and "backup" in ran.err
    assert (home / "permissions.json").read_text() == content
    assert "new:" not in (home / "htpasswd").read_text()


def test_refused_logins_are_shown_apart(home: Path) -> None:
    (home / "run").mkdir()
    log = RefusedLogins(home / "run")
    log.note("ann", "192.0.2.7", "wrong password")
    log.note(None, "192.0.2.8", "no such user")
    may("grant", "ann", "read")
    shown = [line.split("  ", 1)[1] for line in ppctl("audit", "--logins").out.splitlines()]
    assert shown == ["192.0.2.7  login ann (wrong password)", "192.0.2.8  login ? (no such user)"]
    assert len(ppctl("audit", "--logins", "--user", "ann", "--json").result["entries"]) == 1
    assert len(ppctl("audit", "--logins", "-n", "1", "--json").result["entries"]) == 1
    assert audited() == [("grant", "ann", "read")]


# -- at once -------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_many_at_once_lose_nothing(home: Path) -> None:
    def run(argv: list[str]) -> int:
        command = [sys.executable, "-m", "ppctl", *argv, "-C", str(home)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    made = [["token", "create", f"t{n}", "--user", "ann", "--read"] for n in range(12)]
    granted = [["user", "grant", "ci-bot", "upload", "--project", f"p{n}"] for n in range(12)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, made + granted)) == {0}
    assert set(stored(home)["tokens"]) == {f"t{n}" for n in range(12)}
    assert set(stored(home)["users"]["ci-bot"]["upload"]) == {f"p{n}" for n in range(12)}
    assert len({token["digest"] for token in stored(home)["tokens"].values()}) == 12
    assert len(audited()) == 24


# -- times ---------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("90d", "2027-02-23T12:00:00Z"),
        ("12h", "2026-11-26T00:00:00Z"),
        ("2w", "2026-12-09T12:00:00Z"),
        ("1y", "2027-11-25T12:00:00Z"),
        ("2026-11-25", "2026-11-26T00:00:00Z"),
        ("2028-02-29", "2028-03-01T00:00:00Z"),
        ("2026-11-25T12:00:01Z", "2026-11-25T12:00:01Z"),
        ("never", "never"),
    ],
)
def test_when_a_token_ends(expires: str, moment: str) -> None:
    assert tokens.moment(tokens.end(expires, NOW)) == moment


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9]{1,9}[hdwy]\Z") | st.from_regex(r"\A\d{4}-\d\d-\d\d\Z"))
def test_an_end_is_a_time_to_come_or_refused(expires: str) -> None:
    try:
        until = tokens.end(expires, NOW)
    except UsageError:
        return
    assert until is None or NOW < until <= NOW + 100 * 366 * tokens.DAY
    assert until is None or tokens.end(tokens.moment(until), NOW) == int(until)
