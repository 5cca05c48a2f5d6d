"""ppctl.server.permissions and accounts: who may do what, and who it is."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import htpasswd, permissions
from ppctl.server.accounts import Accounts, last_use
from ppctl.server.attempts import TooMany
from ppctl.server.auth import Users
from ppctl.server.permissions import TOKEN_USER, Identity, Permissions, Rights, Token

READER = Rights(read=True)
UPLOADER = Rights(upload=("team-*", "tool"))
ADMIN = Rights(admin=True)
NOTHING = Rights()


@pytest.mark.parametrize(
    ("rights", "read", "team", "other"),
    [
        (permissions.ORDINARY, True, True, True),
        (READER, True, False, False),
        (UPLOADER, False, True, False),
        (ADMIN, True, True, True),
        (NOTHING, False, False, False),
    ],
)
def test_rights(rights: Rights, read: bool, team: bool, other: bool) -> None:
    assert rights.may_read() is read
    assert rights.may_upload("team-x") is team
    assert rights.may_upload("other") is other
    identity = Identity("ann", rights)
    assert identity.may_upload_something() is (team or other)
    assert identity.may_remove("team-x") is team


@pytest.mark.parametrize(
    ("rights", "owner", "allowed"),
    [
        (permissions.ORDINARY, None, True),
        (permissions.ORDINARY, "ann", True),
        (permissions.ORDINARY, "bob", False),
        (Rights(upload=("*",)), "bob", False),  # a general right is none to others' projects
        (UPLOADER, "bob", True),
        (ADMIN, "bob", True),
        (READER, "ann", False),
        (permissions.ORDINARY, "", False),  # an owner that cannot be told
    ],
)
def test_owners(rights: Rights, owner: str | None, allowed: bool) -> None:
    assert Identity("ann", rights).may_upload("team-x", owner) is allowed


@pytest.mark.parametrize("scope", [READER, UPLOADER, Rights(True, ("*",)), NOTHING])
@pytest.mark.parametrize("rights", [permissions.ORDINARY, READER, UPLOADER, ADMIN, NOTHING])
@pytest.mark.parametrize("project", ["team-x", "tool", "other"])
def test_a_token_can_do_what_it_and_its_user_can(scope: Rights, rights: Rights, project: str) -> None:
    token = Token("ci", "ann", "0", scope, 0.0)
    identity = Identity("ann", rights, token)
    assert identity.may_upload(project) is (scope.may_upload(project) and rights.may_upload(project))
    assert identity.may_read() is (scope.read and rights.may_read())
    assert not identity.may_remove(project)
    assert identity.may_upload_something() or not identity.may_upload(project)


@pytest.mark.parametrize(
    ("given", "normal"),
    [("Team_*", "team-*"), ("a.b", "a-b"), ("*", "*"), ("x?", "x?"), ("corp--*", "corp-*")],
)
def test_patterns_have_a_normal_form(given: str, normal: str) -> None:
    assert permissions.check_pattern(given) == normal


@pytest.mark.parametrize("wrong", ["", "a b", "[ab]", "é", "a/b", "a\n", "../x"])
def test_what_is_no_pattern(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no pattern"):
        permissions.check_pattern(wrong)


_patterns = st.lists(st.sampled_from(["*", "team-*", "x", "a-b?"]), unique=True).map(tuple)
_rights = st.builds(Rights, st.booleans(), _patterns, st.booleans())
_names = st.text(min_size=1, max_size=8)


@given(
    st.dictionaries(_names, _rights, max_size=3),
    st.dictionaries(
        st.from_regex(permissions.TOKEN_NAME, fullmatch=True),
        st.builds(
            Token,
            name=st.just(""),
            user=_names,
            digest=_names,
            rights=_rights,
            created=st.floats(0, 4e9),
            expires=st.none() | st.floats(0, 4e9),
        ),
        max_size=3,
    ),
)
def test_what_is_written_is_read(users: dict[str, Rights], tokens: dict[str, Token]) -> None:
    found = Permissions(users, {name: replace(token, name=name) for name, token in tokens.items()})
    assert permissions.parse(permissions.serialise(found)) == found


_words = st.sampled_from(["version", "users", "tokens", "ann", "read", "upload", "admin"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_words, inner),
)


@given(_json)
def test_nonsense_is_refused(data: object) -> None:
    with pytest.raises(ValueError):
        permissions.parse(json.dumps({"users": {"ann": data}, "version": 1, "tokens": {"ci": data}}).encode())
    with pytest.raises(ValueError):
        permissions.parse(json.dumps(data).encode())


# -- who it is -----------------------------------------------------------------------------------------


class Site:
    """The files that accounts are read from, and a clock."""

    def __init__(self, home: Path) -> None:
        self.now = 1_000_000.0
        self.htpasswd, self.file, self.run = home / "htpasswd", home / "permissions.json", home / "run"
        self.run.mkdir()
        self.users("ann", "bob")
        self.accounts = Accounts(Users(self.htpasswd, self.run), self.file, self.run, clock=lambda: self.now)

    def users(self, *names: str) -> None:
        _replace(self.htpasswd, "".join(f"{name}:{HASH}\n" for name in names).encode())

    def put(self, users: dict[str, Rights] | None = None, *tokens: Token) -> None:
        found = Permissions(users or {}, {token.name: token for token in tokens})
        _replace(self.file, permissions.serialise(found))


HASH = htpasswd.hash_password("secret", 4)
SECRET = permissions.new_secret()
TOKEN = Token("ci", "ann", permissions.digest(SECRET), UPLOADER, 0.0)


def _replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_user_without_an_entry_is_an_ordinary_one(site: Site) -> None:
    assert site.accounts.identify("ann", "secret") == Identity("ann", permissions.ORDINARY)
    assert site.accounts.identify("ann", "wrong") is None
    site.put({"bob": READER})
    assert site.accounts.identify("ann", "secret") == Identity("ann", permissions.ORDINARY)
    assert site.accounts.identify("bob", "secret") == Identity("bob", READER)


def test_a_change_counts_at_once(site: Site) -> None:
    for rights in (READER, UPLOADER, ADMIN, NOTHING):
        site.put({"ann": rights})
        found = site.accounts.identify("ann", "secret")
        assert found and found.rights == rights


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version": 2, "users": {}, "tokens": {}}'])
def test_a_broken_file_lets_nobody_do_anything(
    site: Site, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.put({}, TOKEN)
    assert site.accounts.identify(TOKEN_USER, SECRET)
    _replace(site.file, content)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert site.accounts.identify("ann", "secret") == Identity("ann", NOTHING)
            assert site.accounts.identify(TOKEN_USER, SECRET) is None
    assert len(caplog.records) == 1
    site.put({}, TOKEN)
    assert site.accounts.identify("ann", "secret") == Identity("ann", permissions.ORDINARY)


def test_tokens(site: Site) -> None:
    site.put({"ann": READER}, TOKEN)
    assert site.accounts.identify(TOKEN_USER, SECRET) == Identity("ann", READER, TOKEN)
    for wrong in (
        "",
        "secret",
        SECRET[:-1],
        SECRET.upper(),
        permissions.new_secret(),
        "\ud800",
        TOKEN.digest,
    ):
        assert site.accounts.identify(TOKEN_USER, wrong) is None
    assert site.accounts.identify("ann", SECRET) is None


def test_the_same_wrong_token_again_is_only_refused(site: Site) -> None:
    for _ in range(100):
        assert site.accounts.identify(TOKEN_USER, SECRET) is None
    site.put({}, TOKEN)
    assert site.accounts.identify(TOKEN_USER, SECRET)
    with pytest.raises(TooMany):
        for _ in range(100):
            site.accounts.identify(TOKEN_USER, permissions.new_secret())
    assert site.accounts.identify(TOKEN_USER, SECRET)  # a right one is never held up


def test_a_token_ends_with_its_user(site: Site) -> None:
    site.put({}, TOKEN)
    assert site.accounts.identify(TOKEN_USER, SECRET)
    site.users("bob")
    assert site.accounts.identify(TOKEN_USER, SECRET) is None
    _replace(site.htpasswd, f"ann:!{HASH}\n".encode())
    assert site.accounts.identify(TOKEN_USER, SECRET) is None
    site.users("ann")
    assert site.accounts.identify(TOKEN_USER, SECRET)
    site.put()
    assert site.accounts.identify(TOKEN_USER, SECRET) is None


def test_a_token_ends_to_the_second(site: Site) -> None:
    site.put({}, replace(TOKEN, expires=site.now + 10))
    site.now += 9.99
    assert site.accounts.identify(TOKEN_USER, SECRET)
    site.now += 0.01
    assert site.accounts.identify(TOKEN_USER, SECRET) is None


def test_the_last_use_is_noted_once_a_minute(site: Site) -> None:
    site.put({}, TOKEN)
    assert last_use(site.run, TOKEN) is None
    site.accounts.identify(TOKEN_USER, SECRET)
    assert last_use(site.run, TOKEN) == site.now
    first = site.now
    site.now += 59
    site.accounts.identify(TOKEN_USER, SECRET)
    assert last_use(site.run, TOKEN) == first
    site.now += 1
    site.accounts.identify(TOKEN_USER, SECRET)
    assert last_use(site.run, TOKEN) == site.now


def test_a_use_that_cannot_be_noted_is_one_all_the_same(site: Site) -> None:
    site.put({}, TOKEN)
    shutil.rmtree(site.run)
    os.symlink("/nowhere", site.run)
    assert site.accounts.identify(TOKEN_USER, SECRET)


def test_tokens_are_long_and_can_be_recognised() -> None:
    secrets = {permissions.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith("ppctl_") and len(secret) == 49 for secret in secrets)
