"""Users as an inventory declares them: what differs is changed, what is right is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppctl import declared_users
from ppctl.declared_users import Declaration, Declared, DeclaredRights
from ppctl.errors import UsageError
from ppctl.host import Host
from ppctl.index import Index
from ppctl.server import htpasswd, permissions
from ppctl.server.permissions import Permissions, Rights, Token
from ppctl.users import Edit, User
from tests.cli import ppctl

HASH = "$2y$10$" + "a" * 53
OTHER = "$2y$10$" + "b" * 53
SHA1 = "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs="  # 123456
SECRET = "correct-horse-9"


def user(name: str, hash: str = HASH, *, disabled: bool = False) -> User:
    mark = htpasswd.DISABLED_MARK if disabled else ""
    return User(name, htpasswd.scheme_of(hash), htpasswd.is_weak(hash), disabled, mark + hash)


def edits(
    *declared: Declared,
    there: list[User],
    right: str = "right",
    exclusive: bool = False,
    granted: Permissions | None = None,
) -> list[Edit]:
    """What is done where the password `right` matches every hash, and a new one gives the hash OTHER."""
    wanted = Declaration(users=list(declared), exclusive=exclusive)
    found = {each.name: each for each in there}
    return declared_users.edits(
        wanted, found, granted or Permissions(), lambda password, _: password == right, lambda _: OTHER
    )


def test_a_new_user_is_added() -> None:
    assert edits(Declared(name="ann", password="x"), there=[]) == [Edit("adduser", "ann", OTHER, "bcrypt")]
    made = edits(Declared(name="ann", password_hash=HASH, disabled=True), there=[])
    assert made == [Edit("adduser", "ann", "!" + HASH, "bcrypt, disabled")]


def test_what_is_right_is_left_alone() -> None:
    assert edits(Declared(name="ann", password="right"), there=[user("ann")]) == []
    assert edits(Declared(name="ann", password_hash=HASH), there=[user("ann")]) == []
    assert edits(Declared(name="ann"), there=[user("ann")]) == []
    assert edits(Declared(name="ann", state=declared_users.State.ABSENT), there=[]) == []
    assert edits(Declared(name="ann", disabled=True), there=[user("ann", disabled=True)]) == []


def test_another_password_is_hashed_anew() -> None:
    made = edits(Declared(name="ann", password="wrong"), there=[user("ann")])
    assert made == [Edit("passwd", "ann", OTHER, "bcrypt")]


def test_a_weak_hash_moves_to_bcrypt_although_the_password_is_right() -> None:
    made = edits(Declared(name="ann", password="right"), there=[user("ann", SHA1)])
    assert made == [Edit("passwd", "ann", OTHER, "sha1 -> bcrypt")]


def test_password_and_disabled_can_change_at_once() -> None:
    made = edits(Declared(name="ann", password="new", disabled=True), there=[user("ann")])
    assert made == [Edit("passwd", "ann", OTHER, "bcrypt"), Edit("disable", "ann", "!" + OTHER)]
    made = edits(Declared(name="ann", password="new"), there=[user("ann", disabled=True)])
    assert made == [Edit("passwd", "ann", "!" + OTHER, "bcrypt"), Edit("enable", "ann", OTHER)]


def test_only_an_exclusive_declaration_removes_those_it_does_not_list() -> None:
    there = [user("ann"), user("bob")]
    assert edits(Declared(name="ann"), there=there) == []
    assert edits(Declared(name="ann"), there=there, exclusive=True) == [
        Edit("deluser", "bob", detail="not declared")
    ]


def test_a_new_user_without_a_password_is_refused() -> None:
    with pytest.raises(UsageError, match="ann: a new user needs a password"):
        edits(Declared(name="ann"), there=[])


def test_what_is_allowed_is_compared_with_what_is_to_be() -> None:
    team = Declared(name="ann", permissions=DeclaredRights(upload=["Team_*"]))
    rights = Rights(upload=("team-*",))
    made = [Edit("permissions", "ann", detail="upload team-*", rights=rights)]
    assert edits(team, there=[user("ann")]) == made
    assert edits(team, there=[user("ann")], granted=Permissions({"ann": rights})) == []
    assert edits(team, there=[user("ann")], granted=Permissions({"ann": Rights(admin=True)})) == made
    # What was granted to somebody of that name before counts for nothing.
    new = Declared(name="ann", password_hash=HASH, permissions=team.permissions)
    assert edits(new, there=[], granted=Permissions({"ann": rights}))[1:] == made
    # Nothing said: it stays. What every user may: the same as nothing granted.
    assert edits(Declared(name="ann"), there=[user("ann")], granted=Permissions({"ann": rights})) == []
    ordinary = Declared(name="ann", permissions=DeclaredRights(read=True, upload=["*"]))
    assert edits(ordinary, there=[user("ann")]) == []


def test_no_secret_is_in_a_repr() -> None:
    declared = Declared(name="ann", password=SECRET, password_hash=HASH)
    assert SECRET not in repr(declared) and HASH not in repr(Edit("passwd", "ann", HASH))
    assert SECRET not in repr(Declaration(users=[declared]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b'{"users": [', "neither JSON nor YAML"),
        (b"users: [{name: a, password: [correct-horse-9}]", "neither JSON nor YAML"),
        (b"users: {}", "Expected `array`"),
        (b"users: [{name: a, pasword: correct-horse-9}]", "unknown field `pasword`"),
        (b"users: [{name: a, password: 12}]", "Expected `str | null`, got `int`"),
        (b"users: [{name: a, state: gone}]", "Invalid enum value"),
        (b"users: [{name: a}, {name: a}]", "users.1: a is listed twice"),
        (b"users: [{name: 'a:b'}]", "users.0 (a:b): a:b: a name cannot contain"),
        (b"users: [{name: a, password: ''}]", "users.0 (a): "),
        (b"users: [{name: a, password: x, password_hash: y}]", "exclude each other"),
        (b"users: [{name: a, password_hash: correct-horse-9}]", "too weak"),
        (b"users: [{name: a, permissions: upload}]", "Expected `object | null`, got `str`"),
        (b"users: [{name: a, permissions: {uplaod: [a]}}]", "unknown field `uplaod`"),
        (b"users: [{name: a, permissions: {upload: a}}]", "Expected `array`, got `str`"),
        (
            b"users: [{name: a, permissions: {upload: ['a b']}}]",
            "users.0 (a): permissions.upload: 'a b' is no pattern",
        ),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_without_showing_a_secret(
    text: bytes, message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        declared_users.load(text, "users.yml")
    assert message in refused.value.message
    assert refused.value.message.startswith("users.yml: ")
    assert SECRET not in refused.value.message + refused.value.hint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_bcrypt: None) -> Path:
    """An index that was never started, with two users."""
    monkeypatch.setenv("PPCTL_HOME", str(tmp_path))
    (tmp_path / "ppctl.yml").write_text("password: {bcrypt_cost: 10}\n")
    (tmp_path / "htpasswd").write_text(f"ann:{HASH}\nold:{SHA1}\n")
    return tmp_path


DECLARATION = json.dumps(
    {"exclusive": True, "users": [{"name": "old", "password": SECRET}, {"name": "new", "password": "n"}]}
).encode()


def test_apply_twice_changes_nothing_the_second_time(home: Path) -> None:
    ran = ppctl("users", "apply", "-", "--json", stdin=DECLARATION)
    assert [(change["action"], change["user"]) for change in ran.result["changes"]] == [
        ("passwd", "old"),
        ("adduser", "new"),
        ("deluser", "ann"),
    ]
    assert ran.result["short_passwords"] == ["new"]
    stored = (home / "htpasswd").read_bytes()
    again = ppctl("users", "apply", "-", "--json", stdin=DECLARATION)
    assert again.result == {"changed": False, "changes": [], "short_passwords": [], "dry_run": False}
    assert (home / "htpasswd").read_bytes() == stored
    assert [entry["action"] for entry in ppctl("audit", "--json").result["entries"]] == [
        "passwd",
        "adduser",
        "deluser",
    ]
    assert SECRET not in ran.out + (home / "audit.log").read_text() + stored.decode()


def test_short_passwords_are_warned_of(home: Path) -> None:
    ran = ppctl("users", "apply", "-", stdin=DECLARATION)
    warning = (
        "warning: new: the password has fewer than 15 characters: whoever gets hold of htpasswd may guess"
    )
    assert ran.code == 0 and ran.err.startswith(warning)
    assert ppctl("users", "apply", "-", stdin=DECLARATION).err == "", "it was said when it was set"


def test_a_dry_run_tells_and_changes_nothing(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.iterdir()}
    ran = ppctl("users", "apply", "-", "--dry-run", stdin=DECLARATION)
    assert ran.out == "passwd old  (sha1 -> bcrypt)\nadduser new  (bcrypt)\ndeluser ann  (not declared)\n"
    assert {path: path.read_bytes() for path in home.iterdir()} == before


def test_one_wrong_user_and_nobody_is_changed(home: Path) -> None:
    before = (home / "htpasswd").read_bytes()
    wrong = b"users: [{name: ann, state: absent}, {name: who}]"
    ran = ppctl("users", "apply", "-", stdin=wrong)
    assert ran.code == 2 and "who: a new user needs a password" in ran.err
    assert (home / "htpasswd").read_bytes() == before


@pytest.mark.parametrize("lost", ["", "port: many\n"])
def test_a_dry_run_needs_no_settings_where_the_users_are(home: Path, lost: str) -> None:
    """A playbook tells in it what it will do to the users once it has mended the settings."""
    assert ppctl("users", "apply", "-", stdin=DECLARATION).code == 0
    settings = home / "ppctl.yml"
    settings.write_text(lost) if lost else settings.unlink()
    assert ppctl("users", "apply", "-", "--dry-run", "--json", stdin=DECLARATION).result["changes"] == []
    assert ppctl("users", "apply", "-", stdin=DECLARATION).code == 2
    (home / "htpasswd").unlink()
    assert ppctl("users", "apply", "-", "--dry-run", stdin=DECLARATION).code == 2


def test_export_is_what_apply_takes(home: Path, tmp_path: Path) -> None:
    exported = ppctl("users", "export").out
    (home / "htpasswd").write_text("")
    weak = exported.replace("{", '{"allow_weak": true, ', 1).encode()
    assert ppctl("users", "apply", "-", stdin=weak).code == 0
    assert (home / "htpasswd").read_text() == f"ann:{HASH}\nold:{SHA1}\n"


def test_what_users_may_do_is_applied_and_exported_too(home: Path) -> None:
    wanted = {"users": [{"name": "ann", "permissions": {"upload": ["team-*"]}}, {"name": "old"}]}
    stdin = json.dumps(wanted).encode()
    ran = ppctl("users", "apply", "-", stdin=stdin)
    assert ran.out == "changed the permissions of ann  (upload team-*)\n"
    assert ppctl("users", "apply", "-", stdin=stdin).out == "nothing to change\n"
    assert ppctl("audit").out.endswith("permissions ann (upload team-*)\n")
    exported = {
        each["name"]: each["permissions"] for each in json.loads(ppctl("users", "export").out)["users"]
    }
    assert exported["ann"] == {"read": False, "upload": ["team-*"], "admin": False}
    # Whoever is brought in line with this can do no more, and no less.
    assert exported["old"] == {"read": True, "upload": ["*"], "admin": False}
    document = {"users": [{"name": name, "permissions": said} for name, said in exported.items()]}
    ppctl("user", "grant", "old", "admin")
    assert ppctl("users", "apply", "-", stdin=json.dumps(document).encode()).code == 0
    assert list(json.loads((home / "permissions.json").read_text())["users"]) == ["ann"]


def test_who_is_removed_takes_permissions_and_tokens_along(home: Path) -> None:
    token = Token("ci", "ann", "0", Rights(read=True), 0.0)
    granted = Permissions({"ann": Rights(admin=True), "old": Rights()}, {"ci": token})
    (home / "permissions.json").write_bytes(permissions.serialise(granted))
    assert ppctl("users", "apply", "-", stdin=b"users: [{name: ann, state: absent}]").code == 0
    assert permissions.parse((home / "permissions.json").read_bytes()) == Permissions({"old": Rights()})


def test_a_new_user_is_limited_before_there_is_a_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Index.write

    def noted(found: Index, host: Host, path: Path, content: bytes) -> None:
        written.append(path.name)
        write(found, host, path, content)

    monkeypatch.setattr(Index, "write", noted)
    new = {"name": "new", "password_hash": HASH, "permissions": {"read": True}}
    assert ppctl("users", "apply", "-", stdin=json.dumps({"users": [new]}).encode()).code == 0
    assert written == ["permissions.json", "htpasswd"]


def test_users_without_a_subcommand_still_lists(home: Path) -> None:
    assert [user["name"] for user in ppctl("users", "--json").result["users"]] == ["ann", "old"]
    assert ppctl("users", "-C", str(home), "apply", "-", stdin=b"users: []").out == "nothing to change\n"


def test_keep_and_missing_ok_make_commands_repeatable(home: Path) -> None:
    before = (home / "htpasswd").read_bytes()
    kept = ppctl("adduser", "ann", "--keep", "--password-stdin", "--json", stdin=b"x").result
    assert kept == {"changed": False, "user": "ann", "scheme": "bcrypt", "weak": False, "disabled": False}
    assert (home / "htpasswd").read_bytes() == before
    removed = ppctl("deluser", "ann", "nobody", "--missing-ok", "--json").result
    assert removed == {"changed": True, "removed": ["ann"]}
    removed = ppctl("deluser", "ann", "--missing-ok", "--json").result
    assert removed == {"changed": False, "removed": []}
