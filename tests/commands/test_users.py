"""The user commands as people type them: prompts, pipes, messages, exit codes, --json."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import pytest
from passlib.apache import HtpasswdFile

from ppctl import users
from ppctl.__main__ import main
from ppctl.local_host import LocalHost
from ppctl.server import htpasswd
from tests.cli import on_terminal, ppctl
from tests.turns import behind_another

HASH = "$2y$10$" + "a" * 53
SHA1 = "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs="  # 123456
SECRET = "correct-horse-9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_bcrypt: None) -> Path:
    """An index that was never started, with two users."""
    for name in ("SUDO_USER", "DOAS_USER", "PPCTL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PPCTL_HOME", str(tmp_path))
    (tmp_path / "ppctl.yml").write_text("password: {bcrypt_cost: 10}\n")
    (tmp_path / "htpasswd").write_text(f"ann:{HASH}\nold:{SHA1}\n")
    return tmp_path


def hash_of(home: Path, name: str) -> str:
    """What the file says about a user."""
    return htpasswd.users(htpasswd.parse((home / "htpasswd").read_text()))[name].hash


def test_adduser_from_stdin_can_log_in_everywhere(home: Path) -> None:
    ran = ppctl("adduser", "ci-bot", "--password-stdin", stdin=SECRET.encode() + b"\n")
    assert (ran.code, ran.out, ran.err) == (0, "added ci-bot: works at once, no restart needed\n", "")
    assert hash_of(home, "ci-bot").startswith("$2y$10$")
    assert htpasswd.verify(SECRET, hash_of(home, "ci-bot"))
    assert HtpasswdFile(str(home / "htpasswd")).check_password("ci-bot", SECRET)  # stock pypiserver's reader
    assert ((home / "htpasswd").stat().st_mode & 0o777, (home / "audit.log").stat().st_mode & 0o777) == (
        0o640,
        0o640,
    )


def test_keep_leaves_a_user_who_is_there_alone_and_tells_programs_as_much_as_of_a_new_one(home: Path) -> None:
    before = (home / "htpasswd").read_bytes()
    ran = ppctl("adduser", "old", "--generate", "--keep")
    assert (ran.code, ran.out) == (0, "old is there already and stays as before\n")
    kept = ppctl("adduser", "old", "--generate", "--keep", "--json").result
    assert kept == {"changed": False, "user": "old", "scheme": "sha1", "weak": True, "disabled": False}
    assert (home / "htpasswd").read_bytes() == before
    assert set(ppctl("adduser", "new", "--generate", "--keep", "--json").result) == {*kept, "password"}


def test_two_at_once_both_leave_what_is_there_and_what_is_gone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two controllers, or two jobs of CI: the second one finds what it wants when its turn comes."""
    for command, other in (
        (("adduser", "new", "--generate", "--keep"), ("adduser", "new", "--generate")),
        (("deluser", "new", "old", "--missing-ok"), ("deluser", "new")),
    ):
        behind_another(monkeypatch, LocalHost, partial(ppctl, *other))
        ran = ppctl(*command)
        assert ran.code == 0, ran.err
    assert ran.out == "removed old: works at once, no restart needed\n"


def test_a_short_password_is_taken_with_a_warning(home: Path) -> None:
    for command, password, warns in (
        ("adduser", b"x" * 14, True),
        ("passwd", b"x" * 15, False),
        ("passwd", "ü".encode() * 14, True),
        ("passwd", SECRET.encode(), False),
    ):
        ran = ppctl(command, "bob", "--password-stdin", stdin=password)
        assert (ran.code, ran.err.count("the password has fewer than 15 characters")) == (0, warns)
        assert (f"hint: ppctl passwd -C {home} bob --generate makes one up" in ran.err) is warns
        assert "14" not in ran.out + ran.err


@pytest.mark.parametrize("content", [b"pass wort\n", b"pass wort\r\n", b"pass wort"])
def test_only_the_final_newline_is_taken_off(home: Path, content: bytes) -> None:
    assert ppctl("passwd", "ann", "--password-stdin", stdin=content).code == 0
    assert htpasswd.verify("pass wort", hash_of(home, "ann"))


def test_blanks_and_umlauts_are_part_of_a_password(home: Path) -> None:
    assert ppctl("passwd", "ann", "--password-stdin", stdin=" pä:ß \n".encode()).code == 0
    assert htpasswd.verify(" pä:ß ", hash_of(home, "ann"))


def test_the_file_is_made_when_it_is_missing(home: Path) -> None:
    (home / "htpasswd").unlink()
    assert ppctl("adduser", "bob", "--hash-stdin", stdin=HASH.encode()).code == 0
    assert (home / "htpasswd").read_text() == f"bob:{HASH}\n"


def test_a_generated_password_stands_alone_on_stdout(home: Path) -> None:
    ran = ppctl("adduser", "bob", "--generate")
    password = ran.out.removesuffix("\n")
    assert ran.code == 0
    assert password.isalnum() and len(password) == 24
    assert ran.err == "added bob: works at once, no restart needed\n"
    assert htpasswd.verify(password, hash_of(home, "bob"))
    assert ppctl("passwd", "bob", "--generate", "--quiet").out != ran.out
    assert not htpasswd.verify(password, hash_of(home, "bob"))


def test_json_holds_a_password_only_when_it_was_generated(home: Path) -> None:
    ran = ppctl("adduser", "bob", "--generate", "--json")
    assert ran.err == ""
    assert htpasswd.verify(ran.result.pop("password"), hash_of(home, "bob"))
    assert set(ran.result) == {"changed", "user", "scheme", "weak", "disabled", "password"}
    ran = ppctl("passwd", "bob", "--password-stdin", "--json", stdin=SECRET.encode())
    assert ran.result == {
        "changed": True,
        "user": "bob",
        "scheme": "bcrypt",
        "weak": False,
        "disabled": False,
    }


def test_a_ready_hash_twice_changes_nothing_the_second_time(home: Path) -> None:
    other = HASH.replace("a", "b")
    first = ppctl("passwd", "ann", "--hash-stdin", "--json", stdin=other.encode())
    second = ppctl("passwd", "ann", "--hash-stdin", "--json", stdin=other.encode())
    assert (first.result["changed"], second.result["changed"]) == (True, False)
    assert len((home / "audit.log").read_text().splitlines()) == 1


def test_passwd_moves_a_weak_scheme_to_bcrypt_and_says_so(home: Path) -> None:
    ran = ppctl("passwd", "old", "--password-stdin", stdin=SECRET.encode())
    assert "the password was stored as sha1, now as bcrypt" in ran.out
    assert htpasswd.verify(SECRET, hash_of(home, "old"))
    assert not htpasswd.verify("123456", hash_of(home, "old"))


def test_a_day_in_the_life(home: Path) -> None:
    assert ppctl("disable", "ann").out == "disabled ann: works at once, no restart needed\n"
    assert ppctl("disable", "ann").out == "ann is disabled already: nothing was changed\n"
    assert ppctl("disable", "ann", "--json").result == {"changed": False, "user": "ann", "disabled": True}
    warned = ppctl("passwd", "ann", "--hash-stdin", stdin=HASH.replace("a", "b").encode())
    assert f"ann is still disabled: ppctl enable -C {home} ann" in warned.err
    listed = ppctl("users").out.splitlines()
    assert listed[0].split() == ["NAME", "MAY", "SCHEME", "WEAK", "DISABLED", "LAST", "CHANGE"]
    assert listed[1].split()[:6] == ["ann", "read,", "upload", "bcrypt", "-", "yes"] and listed[1].endswith(
        "Z"
    )
    assert listed[2].split() == ["old", "read,", "upload", "sha1", "yes", "-", "-"]
    assert ppctl("enable", "ann").out == "enabled ann: works at once, no restart needed\n"
    assert ppctl("enable", "ann").out == "ann is enabled already: nothing was changed\n"
    assert ppctl("deluser", "ann", "old").out == "removed ann, old: works at once, no restart needed\n"
    assert (home / "htpasswd").read_text() == ""
    assert ppctl("users").out == f"no users yet; the first one: ppctl adduser -C {home} NAME\n"
    assert ppctl("users", "--json").result == {"users": []}
    actions = [entry["action"] for entry in ppctl("audit", "--json").result["entries"]]
    assert "no login was refused" in ppctl("audit", "--logins").err
    assert actions == ["disable", "passwd", "enable", "deluser", "deluser"]
    assert len(ppctl("audit", "-n", "2").out.splitlines()) == 2
    assert [e["user"] for e in ppctl("audit", "--user", "old", "--json").result["entries"]] == ["old"]


def test_a_disabled_user_has_the_same_password(home: Path) -> None:
    before = ppctl("users", "--json").result["users"][0]["hash_id"]
    assert ppctl("disable", "ann").code == 0
    (ann, _) = ppctl("users", "--json").result["users"]
    assert ann["disabled"] and ann["hash_id"] == before


def test_users_warns_of_weak_hashes_and_tells_programs_the_same(home: Path) -> None:
    ran = ppctl("users")
    moves = f"`ppctl passwd -C {home} NAME` moves to bcrypt"
    assert ran.err == f"warning: too easily guessed from the file: old; {moves}\n"
    ann, old = ppctl("users", "--json").result["users"]
    assert re.fullmatch("[0-9a-f]{12}", ann.pop("hash_id")) and len(old.pop("hash_id")) == 12
    assert ann == {
        "name": "ann",
        "scheme": "bcrypt",
        "weak": False,
        "disabled": False,
        "permissions": None,
        "last_change": None,
    }
    assert (old["scheme"], old["weak"]) == ("sha1", True)


def test_what_a_terminal_would_obey_is_escaped(home: Path) -> None:
    (home / "htpasswd").write_bytes(b"a\x1b[2Jb:x\n\xff:y\n")
    (home / "audit.log").write_bytes(b"\x1b]0;title\x07\n")
    shown = ppctl("users").out + ppctl("users").err + ppctl("audit").out
    assert "\x1b" not in shown and "\x07" not in shown
    assert "a\\x1b[2Jb" in shown and "not written by ppctl: " in shown


NO_ARGV = "can be read by every user of this machine"
BAD: list[tuple[list[str], bytes, int, str, str]] = [
    (["adduser"], b"", 2, "Missing argument 'NAME'", "adduser --help"),
    (["adduser", "ann", "--generate"], b"", 1, "there is a user ann already", "ppctl passwd -C "),
    (["adduser", "a:b", "--generate"], b"", 2, "a:b: a name cannot contain `:`", ""),
    (["adduser", "", "--generate"], b"", 2, "the name is empty", ""),
    (["adduser", "#x", "--generate"], b"", 2, "cannot begin with `#`", ""),
    (["adduser", " x", "--generate"], b"", 2, "cannot begin or end with a blank", ""),
    (["adduser", "a\nb", "--generate"], b"", 2, "a\\nb: a name cannot contain line breaks", ""),
    (["adduser", "a\x1bb", "--generate"], b"", 2, "a\\x1bb: a name cannot contain line breaks", ""),
    (["adduser", "x" * 256, "--generate"], b"", 2, "a name has at most 255 bytes", ""),
    (["adduser", "bob"], b"secret\n", 2, "no terminal to ask", "--password-stdin"),
    (["adduser", "bob", "secret"], b"", 2, NO_ARGV, "--password-stdin or --generate"),
    (["adduser", "bob", "--password", "secret"], b"", 2, NO_ARGV, "--password-stdin or --generate"),
    (["adduser", "bob", "--password=secret"], b"", 2, NO_ARGV, "--password-stdin or --generate"),
    (["passwd", "ann", "-p", "secret"], b"", 2, NO_ARGV, "--password-stdin or --generate"),
    (["adduser", "bob", "--password-stdin"], b"", 2, "nothing on stdin", ""),
    (["adduser", "bob", "--password-stdin"], b"\n", 2, "nothing on stdin", ""),
    (["adduser", "bob", "--password-stdin"], b"secret\nsecond\n", 2, "expected one line", ""),
    (["adduser", "bob", "--password-stdin"], b"secret" * 1000, 2, "expected one line", ""),
    (["adduser", "bob", "--password-stdin"], b"secret\xff", 2, "not UTF-8", ""),
    (["adduser", "bob", "--password-stdin"], b"secret\0", 2, "line breaks or NUL", ""),
    (["adduser", "bob", "--password-stdin"], b"s" * 73, 2, "73 bytes in UTF-8; bcrypt takes at most 72", ""),
    (["adduser", "bob", "--password-stdin"], "ä".encode() * 37, 2, "74 bytes in UTF-8", ""),
    (["adduser", "bob", "--generate", "--password-stdin"], b"secret", 2, "exclude each other", ""),
    (["adduser", "bob", "--generate", "--hash-stdin"], b"", 2, "--generate and --hash-stdin exclude", ""),
    (["adduser", "bob", "--generate", "--allow-weak"], b"", 2, "--allow-weak goes with --hash-stdin", ""),
    (["adduser", "bob", "--hash-stdin"], SHA1.encode(), 2, "sha1 is too weak", "--allow-weak"),
    (["adduser", "bob", "--hash-stdin"], b"secret", 2, "plaintext is too weak", "--allow-weak"),
    (["adduser", "bob", "--hash-stdin"], b"bob:" + HASH.encode(), 2, "there is a `:`", "behind the colon"),
    (["adduser", "bob", "--hash-stdin"], b"!" + HASH.encode(), 2, "not a hash", ""),
    (["adduser", "bob", "--hash-stdin", "--allow-weak"], b"$2y$10$x", 2, "not a hash of a known", ""),
    (["passwd", "amn", "--generate"], b"", 1, "there is no user amn", "did you mean ann?"),
    (["passwd", "zzz", "--generate"], b"", 1, "there is no user zzz", "`ppctl users -C "),
    (["deluser", "ann", "zzz"], b"", 1, "there is no user zzz", ""),
    (["deluser"], b"", 2, "Missing argument 'NAME...'", ""),
    (["disable", "zzz"], b"", 1, "there is no user zzz", ""),
    (["enable", "zzz"], b"", 1, "there is no user zzz", ""),
    (["audit", "-n", "0"], b"", 2, "Invalid value for '-n'", ""),
]


@pytest.mark.parametrize("row", BAD, ids=[f"{' '.join(row[0])[:40]!r} {row[1][:8]!r}" for row in BAD])
def test_bad_input_is_refused_with_a_reason(home: Path, row: tuple[list[str], bytes, int, str, str]) -> None:
    argv, stdin, code, message, hint = row
    before = (home / "htpasswd").read_bytes()
    people = ppctl(*argv, stdin=stdin)
    programs = ppctl(*argv, "--json", stdin=stdin)
    assert (people.code, programs.code) == (code, code), people.err
    assert message in people.err and hint in people.err
    assert people.out == ""
    envelope = json.loads(programs.out)
    assert (envelope["ok"], envelope["exit_code"], programs.err) == (False, code, "")
    assert message in envelope["error"]["message"] and hint in envelope["error"]["hint"]
    assert "secret" not in people.err + programs.out
    assert (home / "htpasswd").read_bytes() == before
    assert not (home / "audit.log").exists()


@pytest.mark.parametrize("argv", [["adduser", "bob", "--generate"], ["deluser", "ann"], ["disable", "ann"]])
def test_system_mode_needs_root(home: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    (home / "ppctl.yml").write_text("mode: system\n")
    monkeypatch.setattr(LocalHost, "is_root", lambda self: False)
    ran = ppctl(*argv)
    assert ran.code == 1
    assert "belongs to the machine" in ran.err and "sudo" in ran.err


def test_there_is_no_index_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPCTL_HOME", str(tmp_path))
    ran = ppctl("adduser", "bob", "--generate")
    assert ran.code == 2
    assert "there is no index here" in ran.err and "ppctl init" in ran.err


# -- secrets -----------------------------------------------------------------------------------------


def test_a_password_is_nowhere_but_in_its_hash(home: Path) -> None:
    shown = ""
    for argv in (["adduser", "bob"], ["passwd", "bob"], ["adduser", "bob", "--json"], ["passwd", "nobody"]):
        ran = ppctl(*argv, "--password-stdin", stdin=SECRET.encode())
        shown += ran.out + ran.err
    for path in home.iterdir():
        shown += path.read_text()
    assert SECRET not in shown


def test_a_bug_does_not_print_the_password(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*args: object, **kwargs: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(users, "add", boom)
    ran = ppctl("adduser", "bob", "--password-stdin", stdin=SECRET.encode())
    assert ran.code == 3
    assert SECRET not in ran.out + ran.err
    monkeypatch.setenv("PPCTL_DEBUG", "1")
    with pytest.raises(RuntimeError) as raised:
        ppctl("adduser", "bob", "--password-stdin", stdin=SECRET.encode())
    assert SECRET not in "".join(traceback.format_exception(raised.value))


# -- the prompt --------------------------------------------------------------------------------------

NEW, AGAIN = "New password: ", "The same again: "


@pytest.mark.e2e
def test_the_prompt_asks_twice_and_shows_nothing(home: Path) -> None:
    ran = on_terminal(["adduser", "bob"], [(NEW, SECRET + "\n"), (AGAIN, SECRET + "\n")])
    assert ran.code == 0, ran.out
    assert SECRET not in ran.out
    assert "added bob: works at once" in ran.out
    assert htpasswd.verify(SECRET, hash_of(home, "bob"))


@pytest.mark.e2e
def test_a_typing_mistake_is_asked_again(home: Path) -> None:
    dialogue = [(NEW, "one\n"), (AGAIN, "two\n"), ("The two differ", ""), (NEW, SECRET + "\n")]
    ran = on_terminal(["passwd", "ann"], [*dialogue, (AGAIN, SECRET + "\n")])
    assert ran.code == 0, ran.out
    assert htpasswd.verify(SECRET, hash_of(home, "ann"))


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("dialogue", "code", "message"),
    [
        ([(NEW, "one\n"), (AGAIN, "two\n")] * 3, 1, "the two passwords differ; nothing was changed"),
        ([(NEW, "\n")], 2, "the password is empty"),
        ([(NEW, "x" * 73 + "\n")], 2, "bcrypt takes at most 72"),
        ([(NEW, "\x04")], 1, "no password was given"),
        ([(NEW, "one\n"), (AGAIN, "\x04")], 1, "no password was given"),
        ([(NEW, "\x03")], 130, "interrupted"),
    ],
)
def test_the_prompt_given_up(home: Path, dialogue: list[tuple[str, str]], code: int, message: str) -> None:
    before = (home / "htpasswd").read_bytes()
    ran = on_terminal(["passwd", "ann"], dialogue)
    assert (ran.code, message in ran.out) == (code, True), ran.out
    assert (home / "htpasswd").read_bytes() == before


@pytest.mark.e2e
def test_a_taken_name_is_refused_before_anybody_types(home: Path) -> None:
    ran = on_terminal(["adduser", "ann"], [])
    assert (ran.code, NEW in ran.out) == (1, False)


@pytest.mark.e2e
def test_stdin_options_do_not_read_visibly_from_a_terminal(home: Path) -> None:
    ran = on_terminal(["adduser", "bob", "--password-stdin"], [])
    assert ran.code == 2
    assert "stdin is a terminal" in ran.out


# -- many at once ------------------------------------------------------------------------------------

HUNDRED = """
import io, os, sys
from ppctl.__main__ import main
import ppctl.commands.users

gate, opener = os.pipe()
children = []
for number in range(100):
    child = os.fork()
    if child == 0:
        os.close(opener)
        os.read(gate, 1)  # all start together, when the other end is closed
        sys.stdin = io.TextIOWrapper(io.BytesIO(sys.argv[1].encode()))
        os._exit(main(["adduser", f"user-{number}", "--hash-stdin", "--quiet"]))
    children.append(child)
os.close(opener)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.e2e
def test_a_hundred_at_once_are_a_hundred_users(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNDRED, HASH], timeout=300, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = {user["name"] for user in ppctl("users", "--json").result["users"]}
    assert names == {"ann", "old", *(f"user-{number}" for number in range(100))}
    logged = [json.loads(line)["user"] for line in (home / "audit.log").read_text().splitlines()]
    assert sorted(logged) == sorted(names - {"ann", "old"})
    assert sorted(os.listdir(home)) == [".users.lock", "audit.log", "htpasswd", "ppctl.yml"]


def test_main_returns_the_exit_code(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["users"]) == 0
    assert "ann" in capsys.readouterr().out
