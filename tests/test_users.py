"""The users' file: every change is whole, in the audit log, and leaves the other lines alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl import audit, index, passwords, permissions, users
from ppctl.errors import PpctlError, UsageError
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.server import htpasswd
from ppctl.settings import Mode, Password, Settings
from tests.fake_host import FakeHost, Killed

HOME = Path("/srv/pypi")
INDEX = Index(Layout(HOME), Settings(password=Password(bcrypt_cost=10)))
FILE = INDEX.layout.htpasswd
HASH = "$2y$10$" + "a" * 53
OTHER = "$2y$10$" + "b" * 53
SHA1 = "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs="


def machine(content: bytes | None = None, *, root: bool = False) -> FakeHost:
    """A machine with a home, and these users."""
    host = FakeHost(root=root, accounts={"pypi": "pypi-group"})
    host.make_directory(HOME, mode=0o755)
    if content is not None:
        host.put(FILE, content, mode=0o640)
    host.operations.clear()
    return host


def content(host: FakeHost) -> str:
    """The users' file."""
    return (host.read(FILE) or b"").decode()


def test_add_makes_the_file_then_appends() -> None:
    host = machine()
    made = users.add(INDEX, host, "ann", HASH)
    users.add(INDEX, host, "bob", OTHER)
    assert content(host) == f"ann:{HASH}\nbob:{OTHER}\n"
    assert (made.name, made.scheme, made.weak, made.disabled) == ("ann", "bcrypt", False, False)
    assert HASH not in repr(made)
    found = host.stat(FILE)
    assert found and found.mode == 0o640
    assert host.locks == [(INDEX.layout.users_lock, f"ppctl adduser {name}") for name in ("ann", "bob")]


def test_a_last_line_without_newline_stays_a_line_of_its_own() -> None:
    host = machine(b"# end")
    users.add(INDEX, host, "ann", HASH)
    assert content(host) == f"# end\nann:{HASH}\n"


def test_passwd_stays_on_its_line() -> None:
    host = machine(f"# team\nann:{SHA1}\n\nbob:{OTHER}\nbroken line\n".encode())
    before, after = users.set_hash(INDEX, host, "ann", HASH)
    assert content(host) == f"# team\nann:{HASH}\n\nbob:{OTHER}\nbroken line\n"
    assert (before.scheme, before.weak, after.scheme, after.weak) == ("sha1", True, "bcrypt", False)
    assert audit.read(INDEX, host)[-1].detail == "sha1 -> bcrypt"


def test_an_old_password_does_not_survive_on_a_second_line() -> None:
    host = machine(f"ann:{SHA1}\nbob:{OTHER}\nann:{OTHER}\n".encode())
    users.set_hash(INDEX, host, "ann", HASH)
    assert content(host) == f"ann:{HASH}\nbob:{OTHER}\n"


def test_removing_takes_every_line_of_the_user() -> None:
    host = machine(f"ann:{SHA1}\nbob:{OTHER}\nann:{OTHER}\n".encode())
    assert users.remove(INDEX, host, ["ann", "ann"]) == ["ann"]
    assert content(host) == f"bob:{OTHER}\n"


def test_removing_is_all_or_nothing() -> None:
    host = machine(f"ann:{HASH}\n".encode())
    with pytest.raises(PpctlError, match="no user bob"):
        users.remove(INDEX, host, ["ann", "bob"])
    assert content(host) == f"ann:{HASH}\n"
    assert host.operations == []


def test_disable_and_enable_bring_the_same_file_back() -> None:
    before = f"ann:{SHA1}\nbob:{OTHER}\n"
    host = machine(before.encode())
    assert users.disable(INDEX, host, "ann") is True
    assert users.disable(INDEX, host, "ann") is False
    assert content(host) == f"ann:!{SHA1}\nbob:{OTHER}\n"
    assert not htpasswd.verify("foo", f"!{SHA1}")
    assert [user.disabled for user in users.users(INDEX, host)] == [True, False]
    assert users.enable(INDEX, host, "ann") is True
    assert users.enable(INDEX, host, "ann") is False
    assert content(host) == before
    assert [entry.action for entry in audit.read(INDEX, host)] == ["disable", "enable"]


def test_a_new_password_does_not_enable_a_disabled_user() -> None:
    host = machine(f"ann:!{SHA1}\n".encode())
    _, after = users.set_hash(INDEX, host, "ann", HASH)
    assert after.disabled
    assert content(host) == f"ann:!{HASH}\n"


def test_the_same_hash_again_changes_nothing() -> None:
    host = machine(f"ann:{HASH}\nbob:!{HASH}\n".encode())
    for name in ("ann", "bob"):
        users.set_hash(INDEX, host, name, HASH)
    assert host.operations == []


def test_system_mode_keeps_owner_and_group_right() -> None:
    system = Index(Layout(HOME), Settings(mode=Mode.SYSTEM, account="pypi"))
    host = machine(root=True)
    users.add(system, host, "ann", HASH)
    found = host.stat(FILE)
    assert found and (found.owner, found.group, found.mode) == ("root", "pypi-group", 0o640)


def test_root_does_not_lock_the_owner_out_of_an_embedded_index() -> None:
    host = FakeHost(root=True, accounts={"alice": "alice"})
    host.make_directory(HOME, mode=0o755, owner="alice", group="alice")
    with pytest.raises(PpctlError, match="belongs to alice") as raised:
        index.require_access(INDEX, host)
    assert "sudo -u alice" in raised.value.hint


ERRORS: list[tuple[str, bytes, Callable[[FakeHost], object], str, str]] = [
    ("add", b"ann:x\n", lambda h: users.add(INDEX, h, "ann", HASH), "there is a user ann already", "passwd"),
    ("unknown", b"ci-bot:x\n", lambda h: users.disable(INDEX, h, "cibot"), "no user cibot", "mean ci-bot?"),
    ("nobody", b"", lambda h: users.enable(INDEX, h, "bob"), "no user bob", f"`ppctl users -C {HOME}`"),
    ("comment", b"#bob:x\n", lambda h: users.remove(INDEX, h, ["bob"]), "no user bob", ""),
    ("nul", b"ann:x\n\0\0\0", lambda h: users.users(INDEX, h), "damaged", "backup"),
    ("nul, add", b"\0" * 64, lambda h: users.add(INDEX, h, "ann", HASH), "damaged", "backup"),
    ("no hash", b"ann:!\n", lambda h: users.enable(INDEX, h, "ann"), "no password to go back", "passwd -C"),
    ("blank", b"ann:x :y\n", lambda h: users.disable(INDEX, h, "ann"), "does not fit", f"passwd -C {HOME}"),
    ("bad first user", b"", lambda h: users.ensure_first_user(INDEX, h, "a:b"), "cannot contain `:`", ""),
]


@pytest.mark.parametrize(
    ("old", "attempt", "message", "hint"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_errors_say_what_to_do_and_change_nothing(
    old: bytes, attempt: Callable[[FakeHost], object], message: str, hint: str
) -> None:
    host = machine(old)
    with pytest.raises(PpctlError) as raised:
        attempt(host)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert host.operations == []
    assert host.read(FILE) == old


def test_a_link_is_not_replaced_behind_its_owners_back() -> None:
    host = machine()
    host.put("/etc/shared", f"ann:{HASH}\n")
    host.link(FILE, "/etc/shared")
    with pytest.raises(PpctlError, match="is a link to /etc/shared"):
        users.add(INDEX, host, "bob", HASH)
    assert host.read(Path("/etc/shared")) == f"ann:{HASH}\n".encode()


def test_no_wait_fails_when_another_is_at_work() -> None:
    host = machine()
    host.hold(INDEX.layout.users_lock)
    with pytest.raises(PpctlError, match="pid 4711"):
        users.add(INDEX, host, "ann", HASH, wait=False)
    users.add(INDEX, host, "ann", HASH)


# -- the first user ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("cheap_bcrypt")
@pytest.mark.parametrize("old", [None, b"", b"# only a comment\n"])
def test_the_first_user_can_log_in(old: bytes | None) -> None:
    host = machine(old)
    password = users.ensure_first_user(INDEX, host, "admin")
    assert password and len(password) == 24 and password.isalnum()
    assert htpasswd.verify(password, users.find(INDEX, host, "admin").hash)
    assert password not in repr(host.read(INDEX.layout.audit_log))
    assert users.ensure_first_user(INDEX, host, "admin") is None


def test_no_first_user_where_there_is_one_or_all_were_removed() -> None:
    host = machine(f"ann:{HASH}\n".encode())
    assert users.ensure_first_user(INDEX, host, "admin") is None
    users.remove(INDEX, host, ["ann"])
    assert users.ensure_first_user(INDEX, host, "admin") is None
    assert content(host) == ""


@pytest.mark.usefixtures("cheap_bcrypt")
def test_a_killed_first_user_comes_with_the_next_run() -> None:
    host = machine()
    host.kill_at(2)
    with pytest.raises(Killed):
        users.ensure_first_user(INDEX, host, "admin")
    host.before = None
    assert users.ensure_first_user(INDEX, host, "admin")


# -- interruption and failure ------------------------------------------------------------------------

CHANGES: dict[str, Callable[[FakeHost], object]] = {
    "add": lambda host: users.add(INDEX, host, "new", HASH),
    "set_hash": lambda host: users.set_hash(INDEX, host, "ann", HASH),
    "remove": lambda host: users.remove(INDEX, host, ["ann", "bob"]),
    "disable": lambda host: users.disable(INDEX, host, "ann"),
    "enable": lambda host: users.enable(INDEX, host, "bob"),
}
BEFORE = f"# kept\nann:{SHA1}\nbob:!{OTHER}\n"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_killed_anywhere_the_file_is_the_old_or_the_new_one(change: Callable[[FakeHost], object]) -> None:
    undisturbed = machine(BEFORE.encode())
    change(undisturbed)
    steps = len(undisturbed.operations)
    assert [name for name, _ in undisturbed.operations] == ["append", "write"]
    for step in range(1, steps + 1):
        host = machine(BEFORE.encode())
        host.kill_at(step)
        with pytest.raises(Killed):
            change(host)
        assert content(host) == BEFORE
        host.before = None
        change(host)
        assert content(host) == content(undisturbed)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_change_without_a_line_in_the_audit_log(change: Callable[[FakeHost], object]) -> None:
    host = machine(BEFORE.encode())

    def disk_full(operation: str, arguments: tuple[object, ...]) -> None:
        if operation == "append":
            raise PpctlError("No space left on device")

    host.before = disk_full
    with pytest.raises(PpctlError, match="No space"):
        change(host)
    assert content(host) == BEFORE


def test_a_change_that_fails_says_so_in_the_audit_log() -> None:
    host = machine(BEFORE.encode())

    def disk_full(operation: str, arguments: tuple[object, ...]) -> None:
        if operation == "write":
            raise PpctlError("No space left on device")

    host.before = disk_full
    with pytest.raises(PpctlError, match="No space"):
        users.add(INDEX, host, "new", HASH)
    entries = audit.read(INDEX, host)
    assert [(entry.user, entry.failed) for entry in entries] == [("new", False), ("new", True)]
    assert entries[-1].detail == "failed: No space left on device"
    assert audit.last_changes(entries) == {}


# -- whatever is in the file -------------------------------------------------------------------------

NAMES = ["bob", "bobby", "ci-bot", "jürgen", "-x"]
lines = st.one_of(
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
    st.builds(
        lambda name, hash, end: f"{name}:{hash}{end}".encode(),
        st.sampled_from([*NAMES, "#bob", " bob", ""]),
        st.sampled_from([HASH, SHA1, f"!{OTHER}", "", "!", "plain", "a:b", "x "]),
        st.sampled_from(["", "\r", " ", "\x0c", "\u2028"]),
    ),
)
files = st.builds(lambda parts, end: b"\n".join(parts) + end, st.lists(lines), st.sampled_from([b"", b"\n"]))
operations: dict[str, Callable[[FakeHost, str], object]] = {
    "add": lambda host, name: users.add(INDEX, host, name, HASH),
    "set_hash": lambda host, name: users.set_hash(INDEX, host, name, HASH),
    "remove": lambda host, name: users.remove(INDEX, host, [name]),
    "disable": lambda host, name: users.disable(INDEX, host, name),
    "enable": lambda host, name: users.enable(INDEX, host, name),
}


def others(raw: bytes, name: str) -> list[bytes]:
    """The lines that are not about `name`, told apart without the parser."""
    found = raw.split(b"\n")
    if not found[-1]:
        found.pop()
    return [line for line in found if not line.startswith(name.encode() + b":")]


@given(st.one_of(files, st.binary()), st.sampled_from(NAMES), st.sampled_from(sorted(operations)))
def test_the_lines_of_others_survive_byte_for_byte(old: bytes, name: str, operation: str) -> None:
    host = machine(old)
    try:
        operations[operation](host, name)
    except PpctlError:
        assert host.read(FILE) == old
        return
    new = host.read(FILE)
    assert new is not None
    assert others(new, name) == others(old, name)
    mine = [line for line in new.split(b"\n") if line.startswith(name.encode() + b":")]
    if operation == "remove":
        assert mine == []
    elif operation in ("add", "set_hash"):
        assert mine in ([f"{name}:{HASH}".encode()], [f"{name}:!{HASH}".encode()]) or new == old


@given(files)
def test_disable_then_enable_is_as_before_for_a_whole_line(old: bytes) -> None:
    host = machine(old)
    with contextlib.suppress(PpctlError):
        before = users.find(INDEX, host, "bob")
        if users.disable(INDEX, host, "bob"):
            assert users.find(INDEX, host, "bob").disabled
            users.enable(INDEX, host, "bob")
            assert users.find(INDEX, host, "bob") == before


# -- ready hashes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hash", "allow_weak", "message"),
    [
        (HASH, False, ""),
        ("$2b$12$" + "a" * 53, False, ""),
        ("$6$saltsalt$" + "a" * 86, False, ""),
        ("$5$rounds=535000$saltsalt$" + "a" * 43, False, ""),
        (SHA1, True, ""),
        ("$apr1$saltsalt$" + "a" * 22, True, ""),
        ("plain", True, ""),
        (SHA1, False, "a hash of the scheme sha1 is too weak"),
        ("$apr1$saltsalt$" + "a" * 22, False, "a hash of the scheme apr1 is too weak"),
        ("plain", False, "plaintext is too weak"),
        ("$2y$05$" + "a" * 53, False, "a bcrypt hash of low cost is too weak"),
        ("$2y$31$" + "a" * 53, True, "too costly"),
        ("$6$rounds=999999999$saltsalt$" + "a" * 86, True, "too costly"),
        ("$2y$10$short", True, "not a hash of a known scheme"),
        ("$6$saltsalt$short", False, "damaged"),
        ("{SHA}short", True, "damaged"),
        (f"bob:{HASH}", True, "there is a `:` in it"),
        (f"!{HASH}", True, "not a hash"),
        ("$argon2id$v=19$m=1$x$y", True, "not a hash of a known scheme"),
        ("", True, "not a hash"),
    ],
)
def test_ready_hashes_are_checked(hash: str, allow_weak: bool, message: str) -> None:
    if not message:
        passwords.check_hash(hash, allow_weak=allow_weak)
        return
    with pytest.raises(UsageError) as raised:
        passwords.check_hash(hash, allow_weak=allow_weak)
    assert message in raised.value.message
    if len(hash) > 6:
        assert hash not in raised.value.message + raised.value.hint


def test_before_its_first_up_the_index_of_the_machine_takes_no_users_and_says_what_makes_it() -> None:
    of_the_machine = Index(Layout(HOME), Settings(mode=Mode.SYSTEM))
    host = FakeHost(root=True, accounts={})
    host.make_directory(HOME, mode=0o750)
    host.operations.clear()
    attempts: list[Callable[[], object]] = [
        lambda: users.require_free(of_the_machine, host, "ann"),  # before anybody types a password
        lambda: users.add(of_the_machine, host, "ann", HASH),
        lambda: permissions.grant(of_the_machine, host, "ann", kinds=["read"], projects=[], wait=True),
    ]
    for attempt in attempts:
        with pytest.raises(PpctlError, match="there is no account pypi yet") as raised:
            attempt()
        assert raised.value.hint == f"make both: ppctl up -C {HOME}"
    assert host.operations == []  # nothing of it is in the audit log, either
