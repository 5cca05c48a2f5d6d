"""Bad input: what is said, the exit code, and that nothing was changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ppctl.clients import CLIENTS, next_steps
from ppctl.clients.base import from_url, is_loopback
from tests.clients.conftest import Ppctl

URL = ["--url", "https://pypi.example.com", "--name", "corp"]
LOGIN = ["--user", "ann", "--password-stdin"]
WRITE = [*URL, "--write"]


def nothing(user_home: Path) -> None:
    """Leave the home directory empty."""


def put(name: str, content: str | bytes) -> Callable[[Path], None]:
    def make(user_home: Path) -> None:
        path = user_home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def directory(name: str) -> Callable[[Path], None]:
    return lambda user_home: (user_home / name).mkdir(parents=True)


def loop(user_home: Path) -> None:
    (user_home / ".pypirc").symlink_to("other")
    (user_home / "other").symlink_to(".pypirc")


UV = ".config/uv/uv.toml"
PIP = ".config/pip/pip.conf"
PDM = ".config/pdm/config.toml"
HATCH = ".config/hatch/config.toml"

# (what is there, arguments, standard input, exit code, what is said)
CASES = [
    (nothing, ["client", "uvv"], "", 2, "did you mean uv?"),
    (nothing, ["client", "conda"], "", 2, "known: pypirc, pip"),
    (nothing, ["pypirc"], "", 2, "--url https://pypi.example.com --name NAME"),
    (nothing, ["pypirc", "--url", "https://x.example"], "", 2, "--name NAME"),
    (nothing, ["pypirc", "--url", "ftp://x", "--name", "a"], "", 2, "is not the URL of an index"),
    (nothing, ["pypirc", "--url", "https://x:port/", "--name", "a"], "", 2, "is not the URL of an index"),
    (nothing, ["pypirc", "--url", "https://x/?q=1", "--name", "a"], "", 2, "is not the URL of an index"),
    (nothing, ["pypirc", "--url", "https://x/\nevil = 1", "--name", "a"], "", 2, "is not the URL"),
    (nothing, ["pypirc", "--url", "https://u:secret@x/", "--name", "a"], "", 2, "a login does not belong"),
    (nothing, ["pypirc", "--url", "https://x", "--name", "a]\nb"], "", 2, "is no name for an index"),
    (nothing, ["pypirc", "--url", "https://x", "--name", "pypi"], "", 2, "--name private-pypi"),
    (nothing, ["pypirc", *URL, "--write", "--link"], "", 2, "--write and --link exclude each other"),
    (nothing, ["pypirc", *URL, "--write", "--remove"], "", 2, "--write and --remove exclude each other"),
    (nothing, ["pypirc", *URL, "--link"], "", 2, "--url there is none"),
    (nothing, ["pypirc", *URL, "--remove", *LOGIN], "", 2, "--remove takes no password"),
    (nothing, ["pypirc", *WRITE, "--yes"], "", 2, "--yes is for --link"),
    (nothing, ["pypirc", *URL, "--with-password"], "", 2, "--user NAME"),
    (nothing, ["pypirc", *URL, "--user", "a", "--with-password"], "", 2, "no terminal"),
    (nothing, ["pypirc", *URL, *LOGIN], "", 2, "there is nothing on stdin"),
    (nothing, ["pypirc", *URL, *LOGIN], "a\x07b\n", 2, "control characters"),
    (nothing, ["pypirc", *URL, *LOGIN], " a\n", 1, "begins or ends with a blank"),
    (nothing, ["pypirc", *URL, "--user", "a:b"], "", 2, "cannot hold a colon"),
    (nothing, ["pypirc", *URL, "--user", " a"], "", 2, "begin or end with a blank"),
    (directory(".pypirc"), ["pypirc", *WRITE], "", 1, "a directory, not a file"),
    (nothing, ["pypirc", *WRITE, "--file", "/dev/null"], "", 1, "not a file"),
    (nothing, ["pypirc", *WRITE, "--file", "/proc/nobody/pypirc"], "", 1, "cannot"),
    (put("f", ""), ["pypirc", *WRITE, "--file", "f/pypirc"], "", 1, "cannot"),
    (loop, ["pypirc", *WRITE], "", 1, "leads in a circle"),
    (put(".pypirc", b"[pypi]\nusername = \xfc\n"), ["pypirc", *WRITE], "", 1, "not UTF-8 text (line 2)"),
    (put(".pypirc", b"\xff\xfe[\x00"), ["pypirc", "--remove", "--name", "corp"], "", 1, "not UTF-8"),
    (
        put(".pypirc", "[a]\npassword = hunter2\n[a]\n"),
        ["pypirc", *WRITE],
        "",
        1,
        "DuplicateSectionError (line 3)",
    ),
    (put(".pypirc", "password hunter2\n"), ["pypirc", *WRITE], "", 1, "not valid"),
    (put(".pypirc", "[corp]\nrepository = x\n"), ["pypirc", *WRITE], "", 1, "--replace"),
    (put(".pypirc", "# >>> ppctl: corp >>>\n[a]\n"), ["pypirc", *WRITE], "", 1, "half of a pair"),
    (put(PIP, "[global]\nindex-url = https://o\n"), ["client", "pip", *WRITE], "", 1, "takes only one"),
    (put(PIP, "[install]\nindex_url = https://o\n"), ["client", "pip", *WRITE], "", 1, "in [install]"),
    (put(UV, "x = \n"), ["client", "uv", *WRITE], "", 1, "not valid TOML"),
    (put(UV, "index = []\n"), ["client", "uv", *WRITE], "", 1, "add it by hand"),
    (put(UV, '[[index]]\nname = "corp"\nurl = "u"\n'), ["client", "uv", *WRITE], "", 1, "already"),
    (put(UV, '[[index]]\nurl = "u"\ndefault = true\n'), ["client", "uv", *WRITE], "", 1, "--explicit"),
    (nothing, ["client", "uv", *WRITE, "--file", "pyproject.toml"], "", 1, "there is no such file"),
    (
        put("pyproject.toml", ""),
        ["client", "uv", *WRITE, *LOGIN, "--file", "pyproject.toml"],
        "s\n",
        1,
        "uv auth login",
    ),
    (nothing, ["client", "poetry", *WRITE], "", 1, "there is no such file"),
    (
        put("pyproject.toml", ""),
        ["client", "poetry", *WRITE, *LOGIN],
        "s\n",
        1,
        "poetry config http-basic.corp ann",
    ),
    (nothing, ["client", "poetry", *URL, "--file", "auth.toml"], "", 1, "holds nothing but logins"),
    (nothing, ["client", "poetry", *URL, "--priority", "default"], "", 2, "'default' is not one of"),
    (put(PDM, "[pypi]\nverify_ssl = false\n"), ["client", "pdm", *WRITE], "", 1, "about pypi already"),
    (
        put(HATCH, '[publish.index.repos]\ncorp = "u"\n'),
        ["client", "hatch", *WRITE],
        "",
        1,
        "there is a repository corp already",
    ),
    (nothing, ["client", "netrc", *WRITE], "", 2, "nothing but a login"),
    (nothing, ["client", "netrc", *WRITE, "--user", "ann"], "", 2, "the password is missing"),
    (nothing, ["client", "netrc", *WRITE, *LOGIN], "two words\n", 2, "takes no blanks"),
    (nothing, ["client", "netrc", *WRITE, *LOGIN], "pässword\n", 2, "only ASCII"),
    (nothing, ["client", "netrc", *WRITE, *LOGIN], '#a"b\n', 2, 'no " and \\'),
    (
        put(".netrc", "machine pypi.example.com login a password b\n"),
        ["client", "netrc", *WRITE, *LOGIN],
        "s\n",
        1,
        "one for each host",
    ),
    (put(".config/ppctl/env.sh", "a \\"), ["client", "env", *WRITE], "", 1, "ends with a backslash"),
    (nothing, ["client", "check", "--url", "nonsense"], "", 2, "is not the URL"),
    (
        nothing,
        ["client", "check", "--url", "http://127.0.0.1:9", "--password-stdin"],
        "x\n",
        2,
        "--user NAME",
    ),
    (nothing, ["client", "check", "--url", "http://127.0.0.1:9", "--timeout", "0"], "", 2, "timeout"),
]


def tree(user_home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(user_home)): path.read_bytes()
        for path in user_home.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


@pytest.mark.parametrize(("before", "argv", "stdin", "code", "said"), CASES)
def test_bad_input(
    before: Callable[[Path], None],
    argv: list[str],
    stdin: str,
    code: int,
    said: str,
    ppctl: Ppctl,
    user_home: Path,
) -> None:
    before(user_home)
    there = tree(user_home)
    assert (ppctl(*argv, stdin=stdin), ppctl.out) == (code, "")
    assert said in ppctl.err
    assert "hunter2" not in ppctl.err and "secret" not in ppctl.err
    assert tree(user_home) == there


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("localhost.evil", False)],
)
def test_loopback_is_what_pip_thinks_it_is(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


@pytest.mark.parametrize("url", ["https://x.example", "https://x.example/", "https://x.example/simple/"])
def test_url_with_or_without_simple(url: str) -> None:
    entry = from_url(url, "corp")
    assert (entry.simple_url, entry.upload_url) == ("https://x.example/simple/", "https://x.example/")


def test_next_steps_never_hold_a_password_and_trust_http_only_when_asked() -> None:
    from dataclasses import replace

    entry = replace(
        from_url("http://index.lan:8080/p", "corp"), user="a b", password="s3cret", read_login=True
    )
    steps = next_steps(entry)
    assert "s3cret" not in "".join(steps)
    assert "--trusted-host index.lan" in steps[0]
    assert "--username 'a b'" in steps[2]
    assert "--trusted-host" not in next_steps(from_url("https://x", "corp"))[0]
    assert set(CLIENTS) >= {"pypirc", "pip", "uv", "twine"}
