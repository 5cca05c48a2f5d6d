"""Route by route: what stock pypiserver answers, a worker answers too."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import md5
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlencode, urljoin, urlsplit

import pytest

from tests.conftest import pick_port
from tests.server.archives import sdist, wheel, zipped
from tests.server.patience import within
from tests.server.worker_process import Answer, Home, basic_auth, new_home, upload_form

pytestmark = pytest.mark.e2e

FILES = {
    **dict(
        [wheel("Foo.Bar", "1.0"), wheel("Foo.Bar", "1.10"), wheel("Foo.Bar", "1.9"), sdist("Foo.Bar", "1.9")]
    ),
    "Foo.Bar-1.0.zip": b"zip",
    "foo_bar-1.10rc1.tar.gz": b"1",
    "foo_bar-1.10.dev3+local.7.tar.gz": b"2",
    "sub/foo_bar-0.1.tar.gz": b"3",
    "sub/deeper/foo_bar-1.0.zip": b"same version, other directory",
    "sub/Foo.Bar-1.0.zip": b"same name, other directory",
    ".hidden/foo_bar-6.6.6.tar.gz": b"x",
    ".foo_bar-6.6.6.tar.gz": b"x",
    "foo_bar-6.6.6.txt": b"x",
    "noversion.zip": b"4",
    "ünïcode-1.0.tar.gz": "ü".encode(),
    "with space-1.0.zip": b"5",
    "tag-1.0-1-py2.py3-none-any.whl": b"6",
    "old-1.0-py2.7.egg": b"7",
    "old-1.0.win32-py2.7.exe": b"8",
    "dash-in-name-2.0.tar.bz2": b"9",
    "x<b>&amp;'\"-1.0.zip": b"10",
    "percent%41-1.0.zip": b"11",
    "weird-1.0;v=1.zip": b"12",
    "README": b"x",
    "many.dots.in.name-1.2.3.tar.gz": b"13",
}
LOGIN = ("ann", "secret word")


class Stock:
    """pypiserver as it comes, on the same packages."""

    def __init__(self, home: Home, *arguments: str) -> None:
        for _ in range(3):  # somebody may take the port before it does
            self.port = pick_port()
            command = [sys.executable, "-m", "pypiserver", "run", "-p", str(self.port), "-i", "127.0.0.1"]
            command += ["--hash-algo", "sha256", "--disable-fallback", *arguments, str(home.packages)]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if within(5, self._has_started_or_ended) and self.process.poll() is None:
                return
            self.process.kill()
        raise AssertionError("stock pypiserver did not start")

    def _has_started_or_ended(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return self.process.poll() is not None


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Host": "index.example.com", **(headers or {})})
        found = connection.getresponse()
        return Answer(found.status, found.reason, found.headers, found.read())


def fill(packages: Path) -> None:
    for name, content in FILES.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(content)
    (packages / "linked-1.0.zip").symlink_to(packages / "noversion.zip")
    (packages / "linked").symlink_to(packages / "sub")


@contextlib.contextmanager
def both(*arguments: str, login: bool = False) -> Iterator[tuple[int, int]]:
    """Give the ports of stock pypiserver and of a worker."""
    actions = ["list", "download", "upload"] if login else []
    with new_home(login=actions) as home:
        fill(home.packages)
        home.htpasswd.write_text(f"{LOGIN[0]}:{LOGIN[1]}\n")
        users = ["-a", "list,download,update", "-P", str(home.htpasswd)] if login else ["-a", ".", "-P", "."]
        stock = Stock(home, *users, *arguments)
        try:
            home.start(1)
            yield stock.port, home.port
        finally:
            stock.process.terminate()
            stock.process.wait(60)


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    with both() as found:
        yield found


def links(path: str, answer: Answer) -> list[tuple[str, str]]:
    """Return the links of a page, resolved, in their order, with their text."""
    found = re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', answer.text)
    # Stock pypiserver does not quote paths: what a browser makes of them counts, and a `%` leads nowhere.
    return [
        (unquote(urljoin(path, unescape(href))), unescape(text)) for href, text in found if "%" not in text
    ]


def releases(answer: Answer) -> tuple[object, dict[str, list[str]]]:
    """Return what `/<project>/json` says; files of one version are in no order."""
    found = json.loads(answer.body)
    return found["info"], {
        version: sorted(f["url"] for f in files) for version, files in found["releases"].items()
    }


PATHS = [
    "/",
    "/simple",
    "/simple/",
    "/simple/foo-bar/",
    "/simple/foo-bar",
    "/simple/Foo.Bar/",
    "/simple/Foo.Bar",
    "/simple/foo_bar/",
    "/simple/nothere/",
    "/simple/NotHere/",
    "/simple/foo-bar/extra/",
    "/simple//",
    *[f"/simple/{name}/" for name in ("noversion", "tag", "old", "dash-in-name", "linked", "weird")],
    "/simple/many-dots-in-name/",
    "/packages",
    "/packages/",
    "/packages/nothere-1.0.zip",
    "/packages/README",
    "/packages/sub",
    "/packages/sub/",
    "/packages/.foo_bar-6.6.6.tar.gz",
    "/packages/.hidden/foo_bar-6.6.6.tar.gz",
    "/packages/linked/foo_bar-0.1.tar.gz",
    "/packages//Foo.Bar-1.0.zip",
    "/packages/../packages/Foo.Bar-1.0.zip",
    "/packages/sub/../Foo.Bar-1.0.zip",
    "/packages/%2e%2e/htpasswd",
    "/packages/linked-1.0.zip",
    "/packages/foo_bar-1.10.dev3+local.7.tar.gz",
    "/packages/foo_bar-1.10.dev3%2Blocal.7.tar.gz",
    "/packages/sub/deeper/foo_bar-1.0.zip",
    "/packages/%C3%BCn%C3%AFcode-1.0.tar.gz",
    "/packages/with%20space-1.0.zip",
    "/packages/percent%2541-1.0.zip",
    "/packages/x%3Cb%3E&amp;'%22-1.0.zip",
    *[f"/packages/{name}" for name in FILES if re.fullmatch(r"[A-Za-z0-9._/+-]+", name)],
    "/foo-bar/json",
    "/Foo.Bar/json",
    "/nothere/json",
    "/foo-bar",
    "/foo-bar/",
    "/favicon.ico",
    "/health",
    "/nothing/at/all",
    "/RPC2",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_pages_and_files(ports: tuple[int, int], path: str, method: str) -> None:
    stock, ours = (ask(port, method, path) for port in ports)
    assert ours.status == stock.status
    assert ours.headers["Location"] == stock.headers["Location"]
    if stock.status != 200:
        return
    if not path.endswith(".exe"):  # stock takes an unknown type for HTML
        assert ours.headers["Content-Type"] == stock.headers["Content-Type"]
    if path.startswith("/packages/") and path != "/packages/":
        assert ours.body == stock.body
        assert ours.headers["Content-Length"] == stock.headers["Content-Length"]
        assert ours.headers["Last-Modified"] == stock.headers["Last-Modified"]
    elif path.startswith("/simple/"):
        assert links(path, ours) == links(path, stock)
    elif path == "/packages/":
        # Of directories that are equal, stock's order is the disk's.
        assert sorted(links(path, ours)) == sorted(links(path, stock))
    elif path == "/":
        assert ours.text == stock.text
    elif path.endswith("/json") and method == "GET":
        assert releases(ours) == releases(stock)


def test_every_link_of_the_awkward_names_leads_to_its_file(ports: tuple[int, int]) -> None:
    index = ask(ports[1], "GET", "/simple/")
    seen = {}
    for href in re.findall(r'<a href="([^"]*)"', index.text):
        page = f"/simple/{unescape(href)}"
        answer = ask(ports[1], "GET", page)
        assert answer.status == 200, page
        for link in re.findall(r'<a href="([^"]*)"', answer.text):
            target = urlsplit(urljoin(page, unescape(link))).path
            seen[unquote(target).removeprefix("/packages/")] = ask(ports[1], "GET", target).body
    listed = {
        n: c for n, c in FILES.items() if not n.startswith(".") and not n.endswith((".txt", "README", ".exe"))
    }
    assert {name: seen.get(name) for name in listed} == listed


SEARCH = (
    b"<?xml version='1.0'?><methodCall><methodName>search</methodName><params><param><value>"
    b"<string>foo</string></value></param></params></methodCall>"
)


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/RPC2", "text/xml", SEARCH),
        ("/RPC2", "text/xml", b"<broken"),
        ("/", "application/x-www-form-urlencoded", b":action=verify"),
        ("/", "application/x-www-form-urlencoded", b":action=submit&name=x"),
        ("/", "application/x-www-form-urlencoded", b":action=doc_upload"),
        ("/", "application/x-www-form-urlencoded", b":action=what"),
        ("/", "application/x-www-form-urlencoded", b"x=y"),
        ("/", "application/x-www-form-urlencoded", b":action=remove_pkg&name=nothere&version=1"),
        ("/", "application/x-www-form-urlencoded", b":action=remove_pkg"),
        ("/", *upload_form("Foo.Bar-1.0.zip", b"again")),
        ("/", *upload_form("foo_bar-0.1.tar.gz", b"there is one in a sub-directory")),
        ("/", *upload_form("bad name.zip", b"x")),
        ("/", *upload_form("readme.txt", b"x")),
        ("/simple/", "text/plain", b"x"),
        ("/packages/Foo.Bar-1.0.zip", "text/plain", b"x"),
    ],
)
def test_posts(ports: tuple[int, int], path: str, content_type: str, body: bytes) -> None:
    stock, ours = (ask(port, "POST", path, body, {"Content-Type": content_type}) for port in ports)
    assert ours.status == stock.status
    if path == "/RPC2" and stock.status == 200:
        values = [sorted(re.findall(r"<string>([^<]*)</string>", answer.text)) for answer in (stock, ours)]
        assert values[0] == values[1]


@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/html,application/xhtml+xml,*/*;q=0.8", ""])
def test_old_clients_get_the_old_page(ports: tuple[int, int], accept: str) -> None:
    stock, ours = (ask(port, "GET", "/simple/foo-bar/", headers={"Accept": accept}) for port in ports)
    assert ours.headers["Content-Type"] == stock.headers["Content-Type"]
    assert links("/simple/foo-bar/", ours) == links("/simple/foo-bar/", stock)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "pypi.example.com/base"},
        {"X-Forwarded-Host": "pypi.example.com/base/", "X-Forwarded-Proto": "https"},
        {"X-Forwarded-Host": "pypi.example.com"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/simple/foo-bar/", "/packages/", "/simple/", "/simple/Foo.Bar/", "/foo-bar"]
)
def test_behind_a_proxy_that_says_its_prefix(
    ports: tuple[int, int], path: str, headers: dict[str, str]
) -> None:
    stock, ours = (ask(port, "GET", path, headers=headers) for port in ports)
    assert (ours.status, ours.headers["Location"]) == (stock.status, stock.headers["Location"])
    assert sorted(links(path, ours)) == sorted(links(path, stock))


@pytest.mark.parametrize("value", ["bytes=0-3", "bytes=2-", "bytes=-3", "bytes=0-99999999", "bytes=999999-"])
def test_ranges(ports: tuple[int, int], value: str) -> None:
    name = next(name for name in FILES if name.endswith("1.9-py3-none-any.whl"))
    stock, ours = (ask(port, "GET", f"/packages/{name}", headers={"Range": value}) for port in ports)
    assert ours.status == stock.status
    if stock.status == 206:
        assert ours.body == stock.body
        assert ours.headers["Content-Range"] == stock.headers["Content-Range"]


# --- what changes something, at two indexes with packages of their own

NAME, CONTENT = wheel("Foo.Bar", "1.0")
OTHER, OTHER_CONTENT = sdist("Foo.Bar", "1.1")


def removal(**fields: str) -> tuple[str, bytes]:
    return "application/x-www-form-urlencoded", urlencode({":action": "remove_pkg", **fields}).encode()


def removal_by_parts(**fields: str) -> tuple[str, bytes]:
    """As curl -F and old upload commands send it."""
    content_type, body = upload_form("x", b"", action="remove_pkg", **fields)
    start = body.index(b'--b0undary\r\nContent-Disposition: form-data; name="content"')
    return content_type, body[:start] + b"--b0undary--\r\n"


LEGACY: list[tuple[str, tuple[str, bytes]]] = [
    ("upload", upload_form(NAME, CONTENT, name="Foo.Bar", version="1.0", filetype="bdist_wheel")),
    ("upload again", upload_form(NAME, CONTENT)),
    ("upload another", upload_form(OTHER, OTHER_CONTENT, md5_digest=md5(OTHER_CONTENT).hexdigest())),
    ("upload what is no package", upload_form("readme.txt", b"x")),
    ("register", upload_form("x", b"", action="submit", name="Foo.Bar", version="1.0")),
    ("verify", upload_form("x", b"", action="verify", name="Foo.Bar", version="1.0")),
    ("documentation", upload_form("foo.zip", zipped({"index.html": b""}), action="doc_upload", name="foo")),
    ("documentation that is none", upload_form("foo.zip", b"x", action="doc_upload", name="foo")),
    ("remove another version", removal(name="foo_bar", version="9.9")),
    ("remove by another spelling", removal(name="Foo-Bar", version="1.0")),
    ("remove without a version", removal(name="foo_bar")),
    ("remove without a name", removal(version="1.0")),
    ("remove", removal(name=NAME.split("-")[0], version="1.0")),
    ("remove again", removal(name=NAME.split("-")[0], version="1.0")),
    ("upload what was removed", upload_form(NAME, CONTENT)),
    ("remove by parts", removal_by_parts(name=NAME.split("-")[0], version="1.0")),
    ("remove the last", removal(name=OTHER.split("-")[0], version="1.1")),
]


@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_old_clients_send_has_the_same_effect(overwrite: bool) -> None:
    """Status, what is then on the disk, on the pages, and what can be downloaded: step by step."""
    with new_home() as theirs, new_home(login=["upload"], overwrite=overwrite) as ours:
        for home in (theirs, ours):
            home.htpasswd.write_text(f"{LOGIN[0]}:{LOGIN[1]}\n")
        more = ["--overwrite"] if overwrite else []
        stock = Stock(theirs, "-a", "update", "-P", str(theirs.htpasswd), *more)
        try:
            ours.start(1)
            for step, (content_type, body) in LEGACY:
                for login in (None, (LOGIN[0], "wrong"), LOGIN):
                    headers = {"Content-Type": content_type}
                    headers |= {"Authorization": basic_auth(*login)} if login else {}
                    found = [ask(port, "POST", "/", body, headers).status for port in (stock.port, ours.port)]
                    # As everywhere: a wrong login is told by 401.
                    assert found[1] == (401 if found[0] == 403 and login else found[0]), (step, login)
                same_to_readers(stock.port, ours.port, step)
                assert theirs.stored() == ours.stored(), step
            assert ours.stored() == []
        finally:
            stock.process.terminate()
            stock.process.wait(60)


def same_to_readers(stock: int, ours: int, step: str) -> None:
    for path in ("/simple/", "/simple/foo-bar/", "/packages/", f"/packages/{NAME}", "/foo-bar/json"):
        found = [ask(port, "GET", path) for port in (stock, ours)]
        assert found[1].status == found[0].status, (step, path)
        if path.endswith("/"):
            assert sorted(links(path, found[1])) == sorted(links(path, found[0])), (step, path)


def test_with_logins() -> None:
    """As stock, but that a wrong login is told by 401, not 403."""
    with both(login=True) as ports:
        for path in PATHS:
            for login in (None, LOGIN, (LOGIN[0], "wrong")):
                headers = {"Authorization": basic_auth(*login)} if login else {}
                stock, ours = (ask(port, "GET", path, headers=headers) for port in ports)
                expected = 401 if stock.status == 403 and login else stock.status
                assert ours.status == expected, (path, login)
