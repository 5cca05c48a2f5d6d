"""Every route, every method, every kind of user: who gets what. A new route without a rule fails here."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppctl.server import htpasswd, permissions
from ppctl.server.app import create_application
from ppctl.server.config import ServerConfig, WorkerInfo
from ppctl.server.fetched import RECORD, Store
from ppctl.server.front import CONTROL_PREFIX, Front
from ppctl.server.permissions import TOKEN_USER, Permissions, Rights, Token
from tests.server.archives import wheel
from tests.server.worker_process import upload_form

NAME, CONTENT = wheel("foo", "1.0")
NEW_NAME, NEW_CONTENT = wheel("foo", "2.0")

RULES = {
    # What pypiserver registers, and which of `list`, `download`, `upload` it needs (None: nothing).
    ("GET", "/favicon.ico"): None,
    ("GET", "/"): None,
    ("GET", "/health"): None,
    ("POST", "/"): "upload",
    ("GET", "/simple"): "list",
    ("GET", "/simple/:project"): "list",
    ("GET", "/packages"): "list",
    ("POST", "/RPC2"): "list",
    ("GET", "/simple/"): "list",
    ("GET", "/simple/:project/"): "list",
    ("GET", "/packages/"): "list",
    ("GET", "/packages/:filename#.*#"): "download",
    ("GET", "/:project/json"): "list",
    ("GET", "/:project"): None,  # redirects to /simple/:project/
    ("GET", "/:project/"): None,
}

OURS = {
    # What is answered before pypiserver is asked: how its path begins, how it goes on, and what it needs.
    ("/simple/", "_one_page"): "list",
    ("/packages/", "_nothing"): "list",
    ("/packages/", "_anything"): "download",
    ("/upstream/", "_anything"): "download",
}

# Of another index: fetched by the cache program, and kept.
FETCHED_NAME, FETCHED = wheel("numpy", "1.0")
KEY = hashlib.sha256(FETCHED).hexdigest()

PUBLIC = ("/", "/health", "/favicon.ico", "/foo", "/foo/")
REQUESTS = [
    *((method, path, None) for path in PUBLIC for method in ("GET", "HEAD")),
    *(
        (method, path, "list")
        for path in (
            *("/simple", "/simple/", "/simple/foo", "/simple/foo/", "/simple/Foo/", "/simple/unknown/"),
            *("/packages", "/packages/", "/foo/json", "/simple/?format=json", "/simple/foo/?format=json"),
            *("/simple/numpy/", "/simple/numpy/?format=json"),
        )
        for method in ("GET", "HEAD")
    ),
    *(
        (method, f"/packages/{path}", "download")
        for path in (NAME, f"{NAME}.metadata", "unknown-1.0.zip", "../htpasswd", f"./{NAME}")
        for method in ("GET", "HEAD")
    ),
    *(
        (method, f"/upstream/{path}", "download")
        for path in (
            *(f"numpy/{KEY}/{FETCHED_NAME}", f"numpy/{KEY}/{FETCHED_NAME}.metadata", "", "numpy/x/y"),
            *(f"foo/{KEY}/{FETCHED_NAME}", f"unknown/{KEY}/{FETCHED_NAME}", f"../packages/{NAME}"),
        )
        for method in ("GET", "HEAD")
    ),
    ("POST", "/RPC2", "list"),
]  # fmt: skip
UPLOADS = ["file_upload", "remove_pkg", "doc_upload", "submit", "verify", "unknown"]

HASH = htpasswd.hash_password("secret", 4)
READ, UPLOAD = frozenset({"list", "download"}), frozenset({"upload"})
BOTH = READ | UPLOAD
SECRETS = {
    name: permissions.new_secret() for name in ("read", "upload", "other", "over", "revoked", "disabled")
}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WHO: dict[str, tuple[str | None, int, frozenset[str]]] = {
    # Header; the answer to what is not allowed; what is allowed.
    "nobody": (None, 401, frozenset()),
    "wrong password": (basic("ordinary", "guess"), 401, frozenset()),
    "unknown user": (basic("stranger", "secret"), 401, frozenset()),
    "disabled user": (basic("disabled", "secret"), 401, frozenset()),
    "empty": (basic("", ""), 401, frozenset()),
    "no basic": ("Digest username=ordinary", 401, frozenset()),
    "broken": ("Basic !!!", 401, frozenset()),
    "hash as password": (basic("ordinary", HASH), 401, frozenset()),
    "reader": (basic("reader", "secret"), 403, READ),
    "uploader of others": (basic("other", "secret"), 403, READ),
    "uploader": (basic("uploader", "secret"), 403, UPLOAD),
    "nothing": (basic("nothing", "secret"), 403, frozenset()),
    "ordinary": (basic("ordinary", "secret"), 0, BOTH),
    "admin": (basic("admin", "secret"), 0, BOTH),
    "token to read": (basic(TOKEN_USER, SECRETS["read"]), 403, READ),
    "token to upload": (basic(TOKEN_USER, SECRETS["upload"]), 403, UPLOAD),
    "token to upload others": (basic(TOKEN_USER, SECRETS["other"]), 403, frozenset()),
    "token that is over": (basic(TOKEN_USER, SECRETS["over"]), 401, frozenset()),
    "revoked token": (basic(TOKEN_USER, SECRETS["revoked"]), 401, frozenset()),
    "token of a disabled user": (basic(TOKEN_USER, SECRETS["disabled"]), 401, frozenset()),
    "token under its user's name": (basic("ordinary", SECRETS["read"]), 401, frozenset()),
    "digest of a token": (basic(TOKEN_USER, permissions.digest(SECRETS["read"])), 401, frozenset()),
    "bearer to read": (f"Bearer {SECRETS['read']}", 403, READ),
    "bearer to upload": (f"bearer {SECRETS['upload']}", 403, UPLOAD),
    "revoked bearer": (f"Bearer {SECRETS['revoked']}", 401, frozenset()),
    "empty bearer": ("Bearer ", 401, frozenset()),
}
SOME = {"uploader of others", "token to upload others"}
MAY_REMOVE = {"uploader", "ordinary", "admin"}
LOGINS = [frozenset(), UPLOAD, frozenset({"list"}), frozenset({"download"}), BOTH]


@pytest.fixture(scope="module", params=LOGINS, ids=lambda login: "+".join(sorted(login)) or "none")
def login(request: pytest.FixtureRequest) -> frozenset[str]:
    found: frozenset[str] = request.param
    return found


@pytest.fixture(scope="module")
def front(login: frozenset[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    home = tmp_path_factory.mktemp("home")
    keep(Store(home / "cache"))
    elsewhere = {"upstream": "cache", "upstream_url": "http://198.51.100.9/simple", "cache": home / "cache"}
    with serving(home, login=login, private=("unknown",), **elsewhere) as made:
        prepare(made, made.packages)  # type: ignore[attr-defined]
        yield made


def keep(store: Store) -> None:
    """Have a project of the other index there, as the cache program would."""
    pages = store.pages / "numpy"
    files = [store.file(KEY, metadata=metadata) for metadata in (False, True)]
    for directory in (pages, *(file.parent for file in files)):
        directory.mkdir(parents=True, exist_ok=True)
    for name in ("page.json.gz", "page.html.gz"):
        (pages / name).write_bytes(gzip.compress(b"the page of numpy"))
    (pages / RECORD).touch()
    os.utime(pages / RECORD, (2**32, 2**32))
    for file in files:
        file.write_bytes(FETCHED)


@contextlib.contextmanager
def serving(home: Path, **settings: Any) -> Iterator[Front]:
    """Give the application of an index with the users above; `packages` is where its files are."""
    names = ("reader", "uploader", "other", "nothing", "ordinary", "admin")
    lines = [f"{name}:{HASH}" for name in names] + [f"disabled:!{HASH}"]
    (home / "htpasswd").write_text("\n".join(lines) + "\n")
    for name in ("packages", "run"):
        (home / name).mkdir()
    (home / "permissions.json").write_bytes(permissions.serialise(granted()))
    config = ServerConfig(
        home / "packages", home / "htpasswd", home / "permissions.json", home / "run", **settings
    )
    made = create_application(config, WorkerInfo())
    made.packages = home / "packages"  # type: ignore[attr-defined]
    made.start()
    yield made
    made.stop()


def granted() -> Permissions:
    def token(name: str, user: str, rights: Rights, expires: float | None = None) -> Token:
        return Token(name, user, permissions.digest(SECRETS[name]), rights, 0.0, expires)

    everything = Rights(read=True, upload=("*",))
    tokens = [
        token("read", "ordinary", Rights(read=True)),
        token("upload", "ordinary", Rights(upload=("fo*",))),
        token("other", "ordinary", Rights(upload=("bar",))),
        token("over", "ordinary", everything, 1.0),
        token("disabled", "disabled", everything),
    ]
    users = {
        "reader": Rights(read=True),
        "uploader": Rights(upload=("foo",)),
        "other": Rights(read=True, upload=("bar-*",)),
        "nothing": Rights(),
        "admin": Rights(admin=True),
    }
    return Permissions(users, {each.name: each for each in tokens})


# So many wrong logins from one address would be refused without a look.
ADDRESSES = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in itertools.count())


def ask(
    front: Front,
    method: str,
    path: str,
    header: str | None,
    body: bytes = b"",
    content_type: str = "",
    **more: str,
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and content of an answer. `more` goes into the request's environment."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "index",
        "SERVER_NAME": "index",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "REMOTE_ADDR": next(ADDRESSES),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": content_type,
        **({"HTTP_AUTHORIZATION": header} if header is not None else {}),
        **more,
    }
    said: list[Any] = []
    content = front(environ, lambda status, headers, exc_info=None: said.extend((status, headers)))
    found = b"".join(content)
    if hasattr(content, "close"):
        content.close()
    return int(said[0][:3]), {name.lower(): value for name, value in said[1]}, found


def body_for(method: str, path: str) -> tuple[bytes, str]:
    if path != "/RPC2":
        return b"", ""
    search = "<methodCall><methodName>search</methodName><params><param><value><string>foo</string>"
    return f"{search}</value></param></params></methodCall>".encode(), "text/xml"


def test_every_route_has_a_rule(front: Front) -> None:
    stock = front._application._application._application  # type: ignore[attr-defined]
    registered = {(route.method, route.rule) for route in stock.routes}
    assert registered == set(RULES)
    ours = front._application.routes  # type: ignore[attr-defined]
    assert {(route.path, route.fits.__name__): route.action for route in ours} == OURS
    for route in ours:
        assert any(
            path.startswith(route.path) and route.fits(path[len(route.path) :]) for _, path, _ in REQUESTS
        )


@pytest.mark.parametrize("who", WHO)
def test_reading(front: Front, login: frozenset[str], who: str) -> None:
    header, refused, allowed = WHO[who]
    for method, path, action in REQUESTS:
        status, headers, content = ask(front, method, path, header, *body_for(method, path))
        if action is None or action not in login or action in allowed:
            assert status not in (401, 403, 500), (method, path)
        else:
            assert status == refused, (method, path)
            assert ("www-authenticate" in headers) is (refused == 401)
            assert b"foo-1.0" not in content and CONTENT not in content
            assert b"numpy" not in content and FETCHED not in content


def test_what_was_fetched_is_there(front: Front) -> None:
    """So that being refused it above means something."""
    paths = ("/simple/numpy/", f"/upstream/numpy/{KEY}/{FETCHED_NAME}")
    found = [ask(front, "GET", path, WHO["admin"][0]) for path in paths]
    assert [(status, content) for status, _, content in found] == [
        (200, b"the page of numpy"),
        (200, FETCHED),
    ]


def prepare(front: Front, packages: Path) -> None:
    """Have the old file there and the new one not."""
    form = upload_form(NEW_NAME, NEW_CONTENT, action="remove_pkg", name="foo", version="2.0")
    if (packages / NEW_NAME).exists():
        assert ask(front, "POST", "/", WHO["admin"][0], form[1], form[0])[0] == 200
    form = upload_form(NAME, CONTENT)
    if not (packages / NAME).exists():
        assert ask(front, "POST", "/", WHO["admin"][0], form[1], form[0])[0] == 200


@pytest.mark.parametrize("who", WHO)
def test_changing(front: Front, login: frozenset[str], who: str) -> None:
    header, refused, allowed = WHO[who]
    packages: Path = front.packages  # type: ignore[attr-defined]
    for action in UPLOADS:
        content_type, body = upload_form(NEW_NAME, NEW_CONTENT, action=action, name="foo", version="1.0")
        prepare(front, packages)
        status, _, content = ask(front, "POST", "/", header, body, content_type)
        may = "upload" not in login or "upload" in allowed
        stored, there = (packages / NEW_NAME).exists(), (packages / NAME).exists()
        assert status != 500, content
        if not may:
            assert not stored and there
            # Who may upload something is told about the project when one is named.
            assert status == refused or (who in SOME and action not in ("file_upload", "remove_pkg"))
        elif action == "file_upload":
            assert (status, stored) == (200, True), content
        elif action == "remove_pkg":
            gone = "upload" not in login or who in MAY_REMOVE
            assert (status, there) == ((200, False) if gone else (403, True)), content
        else:
            assert not stored and there


PAGES_AND_FILES = [
    *("/simple/", f"/packages/{NAME}", "/health", "/foo/json"),
    f"/upstream/numpy/{KEY}/{FETCHED_NAME}",
]


@pytest.mark.parametrize(
    ("method", "paths"),
    [
        ("POST", PAGES_AND_FILES),
        *(
            (method, [*PAGES_AND_FILES, "/", "/simple/foo/", "/simple/numpy/", "/RPC2"])
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
        ),
    ],
)
def test_other_methods_do_nothing(front: Front, method: str, paths: list[str]) -> None:
    for path in paths:
        status, _, content = ask(front, method, path, WHO["admin"][0], b"x")
        assert status in (404, 405), path
        assert CONTENT not in content and FETCHED not in content, path


def test_nobody_controls_a_worker_from_outside(front: Front) -> None:
    paths = (*front.controls, CONTROL_PREFIX, f"{CONTROL_PREFIX}x")
    for who, method, path in itertools.product(("nobody", "admin"), ("GET", "POST", "HEAD", "DELETE"), paths):
        said = ask(front, method, path, WHO[who][0], b'{"action": "remove"}')
        assert said[0] == 404, (who, method, path)


def test_the_refusal_says_what_is_missing(front: Front, login: frozenset[str]) -> None:
    if "upload" not in login:
        return
    content_type, body = upload_form(NEW_NAME, NEW_CONTENT)
    expected = {
        "reader": "reader may not upload",
        "uploader of others": "other may not upload to foo",
        "token to upload others": "the token other of ordinary may not upload to foo",
        "token that is over": "Unknown, revoked or expired token",
        "wrong password": "Wrong user name or password",
    }
    for who, text in expected.items():
        assert text in ask(front, "POST", "/", WHO[who][0], body, content_type)[2].decode()
