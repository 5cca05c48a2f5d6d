"""ppctl.server.htpasswd: every byte survives, and nobody gets in who should not."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import htpasswd

BCRYPT = "$2y$04$W/fFtKLZa69rfBgnhY6N7.P9KXyBNUyNm7IZpmFlGw/Qmg6Yc.FR6"  # "x"

# Made by passlib of "Secret1".
HASHES = {
    "apr1": "$apr1$tgtJGLqh$Z71IpX9YfigdhtUhcECSP1",
    "md5-crypt": "$1$Nxj7Xdq.$0kxiehisi3ZiKe01U34tJ/",
    "sha1": "{SHA}LZt6PPRlsNvnTZkqiuFENJbHM7c=",
    "des-crypt": "aEXgPPEcv2d5Q",
    "sha512-crypt": "$6$rounds=1000$saltsalt$PLACEHOLDER",
    "sha256-crypt": "$5$rounds=1000$saltsalt$PLACEHOLDER",
    "plaintext": "Secret1",
}


@given(st.binary(max_size=400))
def test_any_bytes_survive(content: bytes) -> None:
    lines = htpasswd.parse(htpasswd.decode(content))
    assert htpasswd.encode(htpasswd.serialise(lines)) == content


@given(
    st.lists(
        st.sampled_from(
            [
                "# comment",
                "",
                "  ",
                "broken",
                ":nameless",
                "a:b",
                "a:c:more",
                "\x0c",
                "é:x",
                "a\x85b:c",
                "u\u2028:x",
            ]
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_any_lines_survive(texts: list[str], ending: str, final: bool) -> None:
    text = ending.join(texts) + (ending if final and texts else "")
    lines = htpasswd.parse(text)
    assert htpasswd.serialise(lines) == text
    assert [line.raw.rstrip("\r\n") for line in lines][: len(texts)] == [*texts][: len(lines)]


def test_what_a_line_means() -> None:
    lines = htpasswd.parse("# a: comment\n\na:1\r\n  # b:2\nbroken\n:3\na:4\nc:!5\nd:6:more\ne:7")
    assert [(line.name, line.hash, line.disabled) for line in lines] == [
        (None, "", False),
        (None, "", False),
        ("a", "1", False),
        (None, "", False),
        (None, "", False),
        (None, "", False),
        ("a", "4", False),
        ("c", "!5", True),
        ("d", "6", False),
        ("e", "7", False),
    ]
    assert {name: line.hash for name, line in htpasswd.users(lines).items()} == {
        "a": "1",
        "c": "!5",
        "d": "6",
        "e": "7",
    }


@given(st.text(max_size=30), st.text(max_size=30))
def test_an_entry_is_read_back_or_refused(name: str, hash: str) -> None:
    try:
        line = htpasswd.entry(name, hash)
    except ValueError:
        return
    assert htpasswd.parse(line.raw) == [line]
    assert (line.name, line.hash) == (name, hash)


def test_the_same_users_get_in_as_with_stock_pypiserver() -> None:
    from passlib.apache import HtpasswdFile

    text = f"a:{BCRYPT}\na:{HASHES['apr1']}\n d:Secret1\nm:{HASHES['sha1']}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = HtpasswdFile.from_string(text)
    ours = htpasswd.users(htpasswd.parse(text))
    for user, password in [("a", "x"), ("a", "Secret1"), (" d", "Secret1"), ("m", "Secret1"), ("m", "x")]:
        assert htpasswd.verify(password, ours[user].hash) == stock.check_password(user, password)


@pytest.mark.parametrize("scheme", [*HASHES, "bcrypt"])
def test_every_scheme_of_stock_pypiserver(scheme: str) -> None:
    import passlib.hash

    hash = {**HASHES, "bcrypt": htpasswd.hash_password("Secret1", 4)}[scheme]
    if "PLACEHOLDER" in hash:
        handler = getattr(passlib.hash, scheme.replace("-", "_"))
        hash = handler.using(rounds=1000).hash("Secret1")
    assert htpasswd.scheme_of(hash) == scheme
    assert htpasswd.scheme_of("!" + hash) == scheme
    assert htpasswd.verify("Secret1", hash)
    assert not htpasswd.verify("secret1", hash)
    assert not htpasswd.verify("Secret1", "!" + hash)
    assert not htpasswd.verify("!" + hash, "!" + hash)
    assert not htpasswd.verify("Secret1\0", hash)
    assert not htpasswd.verify("", hash)


@pytest.mark.parametrize(
    "hash",
    ["", "!", "*", "{SSHA}AYITtYO8c8vhPUjZ7DpFyqNTeG4=", "$2x$" + BCRYPT[4:], "$7$x", "$argon2id$v=19$x"],
)
def test_an_unknown_hash_lets_nobody_in(hash: str) -> None:
    assert htpasswd.scheme_of(hash) == "unknown"
    assert htpasswd.is_weak(hash)
    for password in ("", "x", hash):
        assert not htpasswd.verify(password, hash)


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=100)


@given(ANY_TEXT, st.sampled_from([BCRYPT, *HASHES.values()]), st.data())
def test_verify_never_raises(password: str, hash: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(hash)))
    broken = hash[:cut] + data.draw(ANY_TEXT) + hash[cut + 1 :]
    assert htpasswd.verify(password, broken) in (True, False)


def test_bcrypt_takes_72_bytes_and_no_more() -> None:
    hash = htpasswd.hash_password("é" * 36, 4)
    assert htpasswd.verify("é" * 36, hash)
    assert not htpasswd.verify("é" * 36 + "x", hash)
    assert not htpasswd.verify("é" * 35, hash)
    with pytest.raises(ValueError, match="74 bytes"):
        htpasswd.hash_password("é" * 37, 4)


def test_the_hash_is_one_that_apache_understands() -> None:
    hash = htpasswd.hash_password("x", 10)
    assert hash.startswith("$2y$10$")
    assert not htpasswd.is_weak(hash)
    assert htpasswd.is_weak(htpasswd.hash_password("x", 9))
    assert htpasswd.is_weak("!" + htpasswd.hash_password("x", 9))


@pytest.mark.parametrize(
    ("scheme", "weak"), [("apr1", True), ("sha1", True), ("plaintext", True), ("sha512-crypt", False)]
)
def test_weak_schemes(scheme: str, weak: bool) -> None:
    assert htpasswd.is_weak(HASHES[scheme]) is weak


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("a:b", ":"),
        ("#a", "comment"),
        (" a", "blank"),
        ("a\t", "blank"),
        ("a\nb", "line breaks"),
        ("a\x00b", "control"),
        ("a\u202eb", "invisible"),
        ("a\udc80", "invisible"),
        ("é" * 128, "255 bytes"),
    ],
)
def test_names_that_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        htpasswd.check_name(name)


@pytest.mark.parametrize("name", ["ci-bot", "jörg", "a b", "a#b", "x" * 255, "a@b.example", "-"])
def test_names_that_are_taken(name: str) -> None:
    htpasswd.check_name(name)
    assert htpasswd.entry(name, BCRYPT).name == name


@pytest.mark.parametrize("password", ["", "a\nb", "a\rb", "a\0b", "x" * 73, "a\udc80"])
def test_passwords_that_are_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ValueError) as caught:
        htpasswd.check_password(password)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("password", ["x", " ", "a:b", "#", "!x", "x" * 72, "пароль"])
def test_passwords_that_are_taken(password: str) -> None:
    assert htpasswd.verify(password, htpasswd.hash_password(password, 4))
