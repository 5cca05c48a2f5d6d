"""Attempts to get around a login: odd paths, odd headers, odd forms. Everything needs a login here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppctl.server import permissions
from ppctl.server.config import ACTIONS
from ppctl.server.front import Front
from ppctl.server.permissions import TOKEN_USER
from tests.effort import examples
from tests.server.archives import wheel
from tests.server.test_access_table import CONTENT, HASH, NAME, SECRETS, ask, basic, serving
from tests.server.worker_process import upload_form

OTHER_NAME, OTHER = wheel("corp_secret", "1.0")
# What no answer may have in it. (Error messages repeat the path that was asked for, and so names of files.)
SECRET_BYTES = [
    *(CONTENT[:200], hashlib.sha256(CONTENT).hexdigest().encode(), b"corp", b"Metadata-Version"),
    *(b'"releases"', HASH.encode(), permissions.digest(SECRETS["read"]).encode()),
]
REFUSED = {
    "nobody": None,
    "wrong password": basic("ordinary", "guess"),
    "disabled user": basic("disabled", "secret"),
    "nothing granted": basic("nothing", "secret"),
    "uploader, who may not read": basic("uploader", "secret"),
    "token to upload": basic(TOKEN_USER, SECRETS["upload"]),
    "token that is over": f"Bearer {SECRETS['over']}",
}


@pytest.fixture(scope="module", params=["", "/pypi"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    home = tmp_path_factory.mktemp("home")
    with serving(home, login=ACTIONS, url_prefix=request.param) as made:
        for name, content in ((NAME, CONTENT), (OTHER_NAME, OTHER)):
            form = upload_form(name, content)
            assert ask(made, "POST", "/", basic("admin", "secret"), form[1], form[0])[0] == 200
        yield made


PATHS = [
    *("//simple/", "/simple//", "//simple//foo//", "/simple/./foo/", "/./simple/foo/"),
    *(
        "/simple/../simple/foo/",
        "/SIMPLE/foo/",
        "/simple/FOO/",
        "/simple/Foo",
        "/simple/foo/.",
        "/simple/foo/..",
    ),
    *("/simple;x/foo/", "/simple/foo;x/", "/simple/foo/index.html", "/simple/?format=json"),
    *("/simple/foo/?format=html", "/simple%2ffoo/", "/simple/%66oo/", "/simple\\foo\\", "/simple/foo\x00/"),
    *("/simple/foo%00/", "/ simple/foo/", "/simple /foo/", "/simple/foo /"),
    *(f"/packages//{NAME}", f"//packages/{NAME}", f"/packages/./{NAME}", f"/packages/x/../{NAME}"),
    *(f"/PACKAGES/{NAME}", f"/packages/{NAME}/", f"/packages/{NAME};x", f"/packages/{NAME}?x"),
    *(f"/packages/{NAME}#sha256=x", f"/packages/{NAME.upper()}", f"/packages/%2e/{NAME}"),
    *(f"/packages\\{NAME}", f"/packages/{NAME}.metadata", f"/packages/../packages/{NAME}"),
    *(f"/packages/{NAME}\x00", "/packages", "/packages/", "/packages/.", "/packages/.."),
    *("/packages/../htpasswd", "/packages/../permissions.json", "/packages/.ppctl-owners.json", "/htpasswd"),
    *("/foo/json", "/foo/json/", "//foo/json", "/foo//json", "/FOO/json", "/foo/./json", "/./foo/json"),
    *("/favicon.ico/../simple/foo/", f"/health/../packages/{NAME}", "/health//simple/foo/"),
]


@pytest.mark.parametrize("who", REFUSED)
@pytest.mark.parametrize("prefix", ["", "/pypi", "/pypi/", "//pypi", "/PYPI", "/pypi/../pypi", "/pypi/pypi"])
def test_no_odd_path_gets_around_a_login(front: Front, who: str, prefix: str) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD"):
            assert_nothing_comes_out(ask(front, method, prefix + path, REFUSED[who]), path)


def assert_nothing_comes_out(answer: tuple[int, dict[str, str], bytes], what: object) -> None:
    status, headers, content = answer
    assert status < 500, what
    assert not [secret for secret in SECRET_BYTES if secret in content], what
    assert "etag" not in headers and "accept-ranges" not in headers, what


_segments = st.sampled_from(
    [
        "",
        ".",
        "..",
        "simple",
        "packages",
        "foo",
        "json",
        NAME,
        "%2e%2e",
        "SIMPLE",
        "pypi",
        "foo.",
        " ",
        "\\",
        ";a",
        "\0",
    ]
)


@settings(max_examples=examples(300))
@given(
    st.lists(_segments, max_size=6),
    st.sampled_from(sorted(REFUSED)),
    st.sampled_from(["GET", "HEAD", "POST"]),
)
def test_no_path_at_all_gets_around_a_login(front: Front, parts: list[str], who: str, method: str) -> None:
    assert_nothing_comes_out(ask(front, method, "/" + "/".join(parts), REFUSED[who]), parts)


HEADERS = [
    {"HTTP_X_ORIGINAL_URL": "/simple/foo/"},
    {"HTTP_X_REWRITE_URL": "/simple/foo/"},
    {"HTTP_X_HTTP_METHOD_OVERRIDE": "GET"},
    {"HTTP_X_FORWARDED_USER": "admin"},
    {"HTTP_REMOTE_USER": "admin"},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_X_FORWARDED_PREFIX": "/pypi"},
    {"HTTP_PROXY_AUTHORIZATION": basic("admin", "secret")},
    {"HTTP_COOKIE": f"Authorization={basic('admin', 'secret')}"},
    {"HTTP_PPCTL_IDENTITY": "admin"},
    {"HTTP_RANGE": "bytes=0-10"},
    {"HTTP_IF_NONE_MATCH": "*"},
    {"HTTP_IF_MODIFIED_SINCE": "Wed, 01 Jan 2098 00:00:00 GMT"},
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: next(iter(header)))
def test_no_other_header_is_a_login(front: Front, header: dict[str, str]) -> None:
    for path in ("/simple/", "/simple/foo/", f"/packages/{NAME}", "/foo/json", "/"):
        answer = ask(front, "GET", path, None, **header)
        assert_nothing_comes_out(answer, path)
        assert answer[0] == (200 if path == "/" else 401)


# -- headers -------------------------------------------------------------------------------------------

_latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
_payload = st.one_of(
    _latin,
    st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.tuples(st.sampled_from(["admin", "ordinary", "disabled", TOKEN_USER, ""]), st.binary(max_size=90)).map(
        lambda login: base64.b64encode(login[0].encode() + b":" + login[1]).decode()
    ),
    st.just(base64.b64encode(b"admin:" + b"x" * 5000).decode()),
    st.just(base64.b64encode(f"admin:{HASH}".encode()).decode()),
)
_scheme = st.sampled_from(
    ["Basic ", "basic\t", "BASIC  ", "Bearer ", "bEaReR ", "Digest ", "Negotiate ", "Basic", "", " "]
)


@settings(max_examples=examples(300))
@given(_scheme, _payload, st.sampled_from(["/simple/", f"/packages/{NAME}", "/foo/json", "upload"]))
def test_no_nonsense_is_a_login_or_an_error(front: Front, scheme: str, payload: str, path: str) -> None:
    packages: Path = front.packages  # type: ignore[attr-defined]
    if path == "upload":
        form = upload_form(*wheel("foo", "9.0"))
        answer = ask(front, "POST", "/", scheme + payload, form[1], form[0])
        assert not list(packages.glob("foo-9*"))
    else:
        answer = ask(front, "GET", path, scheme + payload)
    assert_nothing_comes_out(answer, (scheme, payload))
    assert answer[0] == 401, answer


# -- forms ---------------------------------------------------------------------------------------------

UPLOADER = basic("uploader", "secret")  # may upload to foo


@pytest.mark.parametrize("name", ["foo", "Foo", "corp-secret", "", "foo\0", "../foo"])
@pytest.mark.parametrize(
    "file", ["corp_secret-2.0-py3-none-any.whl", "Corp.Secret-2.0.zip", "./corp_secret-2.0.tar.gz"]
)
def test_what_counts_is_the_name_of_the_file(front: Front, name: str, file: str) -> None:
    form = upload_form(file, wheel("corp_secret", "2.0")[1], name=name, version="2.0")
    status, *_ = ask(front, "POST", "/", UPLOADER, form[1], form[0])
    assert status in (400, 403)
    packages: Path = front.packages  # type: ignore[attr-defined]
    assert not list(packages.rglob("*2.0*"))


@pytest.mark.parametrize("name", ["corp_secret", "corp-secret", "Corp_Secret", "corp.secret", "CORP-SECRET"])
def test_others_files_are_not_removed_by_another_spelling(front: Front, name: str) -> None:
    form = upload_form("x", b"", action="remove_pkg", name=name, version="1.0")
    for who in (UPLOADER, basic(TOKEN_USER, SECRETS["upload"]), basic("reader", "secret"), None):
        assert ask(front, "POST", "/", who, form[1], form[0])[0] in (401, 403, 404)
    packages: Path = front.packages  # type: ignore[attr-defined]
    assert (packages / OTHER_NAME).exists() and (packages / NAME).exists()


def test_what_comes_first_and_what_comes_last_in_a_form(front: Front) -> None:
    """Fields that are there twice: whichever counts, nothing is stored that the login does not allow."""
    packages: Path = front.packages  # type: ignore[attr-defined]
    _, good = upload_form(*wheel("foo", "3.0"), name="foo")
    content_type, bad = upload_form(*wheel("corp_secret", "3.0"), name="corp-secret")
    end = b"--b0undary--\r\n"
    for first, second in ((good, bad), (bad, good)):
        body = first.removesuffix(end) + second
        ask(front, "POST", "/", UPLOADER, body, content_type)
        assert not list(packages.rglob("corp_secret-3*"))
