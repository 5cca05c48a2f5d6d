"""The simple API of a real worker: formats, standards, conditional requests, metadata, marks, clients."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppctl.server.catalogue import Catalogue
from ppctl.server.marks import FILE_NAME, Marks, serialise
from tests.server.archives import metadata, sdist, wheel
from tests.server.patience import within
from tests.server.worker_process import Answer, Home, basic_auth, new_home

pytestmark = pytest.mark.e2e

V1_JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
PIP = f"{V1_JSON}, {V1_HTML}; q=0.1, text/html; q=0.01"
WHEEL, CONTENT = wheel("Foo.Bar", "1.0", "Requires-Python: >=3.8,<4", "Requires-Dist: dep>1")
SDIST, SDIST_CONTENT = sdist("Foo.Bar", "1.1")
OLD_SDIST, OLD_SDIST_CONTENT = sdist("Foo.Bar", "0.9", "Requires-Python: >=2.7", metadata_version="1.2")


@pytest.fixture
def home() -> Iterator[Home]:
    with new_home() as home:
        for name, content in ((WHEEL, CONTENT), (SDIST, SDIST_CONTENT), (OLD_SDIST, OLD_SDIST_CONTENT)):
            (home.packages / name).write_bytes(content)
        (home.packages / f"{WHEEL}.asc").write_bytes(b"signature")
        os.utime(home.packages / WHEEL, ns=(0, 1_700_000_000_123_456_789))
        home.start(1)
        yield home


def page(home: Home, path: str = "/simple/foo-bar/", **more: str) -> Answer:
    return home.get(path, headers={"Accept": V1_JSON, **{k.replace("_", "-"): v for k, v in more.items()}})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def mark(home: Home, **marks: Marks) -> None:
    temporary = home.packages / f"{FILE_NAME}.new"
    temporary.write_bytes(serialise({name.replace("_", "-"): said for name, said in marks.items()}))
    temporary.rename(home.packages / FILE_NAME)


# --- formats


def test_json(home: Home) -> None:
    answer = page(home)
    assert answer.headers["Content-Type"] == V1_JSON
    found = json.loads(answer.body)
    files = {file["filename"]: file for file in found.pop("files")}
    assert found == {
        "meta": {"api-version": "1.4"},
        "name": "foo-bar",
        "project-status": {"status": "active"},
        "versions": ["0.9", "1.0", "1.1"],
    }
    digest = {
        "sha256": sha256(metadata("Foo.Bar", "1.0", "Requires-Python: >=3.8,<4", "Requires-Dist: dep>1"))
    }
    assert list(files) == [OLD_SDIST, WHEEL, SDIST]
    assert files[WHEEL] == {
        "filename": WHEEL,
        "url": f"/packages/{WHEEL}",
        "hashes": {"sha256": sha256(CONTENT)},
        "size": len(CONTENT),
        "upload-time": "2023-11-14T22:13:20.123456Z",
        "requires-python": ">=3.8,<4",
        "core-metadata": digest,
        "gpg-sig": True,
    }
    assert "core-metadata" in files[SDIST]
    assert "core-metadata" not in files[OLD_SDIST]
    assert files[OLD_SDIST]["requires-python"] == ">=2.7"
    assert json.loads(page(home, "/simple/").body) == {
        "meta": {"api-version": "1.4"},
        "projects": [{"name": "foo-bar"}],
    }


def test_html(home: Home) -> None:
    text = home.get("/simple/foo-bar/").text
    digest = sha256(metadata("Foo.Bar", "1.0", "Requires-Python: >=3.8,<4", "Requires-Dist: dep>1"))
    assert '<meta name="pypi:repository-version" content="1.4">' in text
    assert (
        f'<a href="/packages/{WHEEL}#sha256={sha256(CONTENT)}" data-requires-python="&gt;=3.8,&lt;4"'
        f' data-core-metadata="sha256={digest}" data-dist-info-metadata="sha256={digest}"'
        f' data-gpg-sig="true">{WHEEL}</a>'
    ) in text
    assert f"{WHEEL}.asc</a>" not in text
    assert home.get(f"/packages/{WHEEL}.asc").body == b"signature"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (PIP, V1_JSON),
        (V1_JSON, V1_JSON),
        (f"{V1_JSON}, {V1_HTML};q=0.2, text/html;q=0.01", V1_JSON),
        ("application/vnd.pypi.simple.latest+json", V1_JSON),
        (V1_HTML, V1_HTML),
        ("application/*", V1_JSON),
        ("text/*", "text/html; charset=UTF-8"),
        ("*/*", "text/html; charset=UTF-8"),
        (f"text/html, {V1_JSON}", V1_JSON),
        (f"text/html, {V1_JSON};q=0.9", "text/html; charset=UTF-8"),
        (f"{V1_JSON};q=0, */*", "text/html; charset=UTF-8"),
        (f"{V1_JSON};q=nonsense, text/html;q=0.1", "text/html; charset=UTF-8"),
        ("image/png", None),
        (f"{V1_JSON};q=0", None),
        ("application/vnd.pypi.simple.v2+json", None),
    ],
)
def test_what_a_client_accepts(home: Home, accept: str, kind: str | None) -> None:
    for path in ("/simple/", "/simple/foo-bar/"):
        answer = home.get(path, headers={"Accept": accept})
        assert answer.status == (200 if kind else 406)
        if kind:
            assert answer.headers["Content-Type"] == kind
        else:
            assert V1_JSON in answer.text
        assert "Accept" in answer.headers["Vary"]


def test_the_format_in_the_url_wins(home: Home) -> None:
    for name in (V1_JSON, V1_JSON.replace("+", "%2B"), "application/vnd.pypi.simple.latest+json"):
        answer = home.get(f"/simple/foo-bar/?format={name}", headers={"Accept": "text/html"})
        assert answer.headers["Content-Type"] == V1_JSON
    assert home.get("/simple/?format=text/html", headers={"Accept": V1_JSON}).text.startswith("<!DOCTYPE")
    assert home.get("/simple/?format=json").status == 406
    assert home.get("/simple/?other=1&format").status == 200


def test_names_that_are_not_normalised_are_redirected(home: Home) -> None:
    for name in ("Foo.Bar", "foo_bar", "FOO--BAR"):
        answer = page(home, f"/simple/{name}/")
        assert answer.status == 301
        assert answer.headers["Location"].endswith("/simple/foo-bar/")


# --- faithful to HTTP


def test_pages_are_asked_for_again_but_not_sent_again(home: Home) -> None:
    tags = set()
    for accept in (V1_JSON, V1_HTML, "text/html"):
        for encoding in ("identity", "gzip"):
            headers = {"Accept": accept, "Accept-Encoding": encoding}
            first = home.get("/simple/foo-bar/", headers=headers)
            assert first.headers["Content-Encoding"] == (None if encoding == "identity" else "gzip")
            assert first.headers["Vary"] == "Accept, Accept-Encoding"
            assert first.headers["Cache-Control"] == "no-cache"
            body = gzip.decompress(first.body) if encoding == "gzip" else first.body
            assert WHEEL.encode() in body
            tag = first.headers["ETag"]
            tags.add(tag)
            for known in (tag, f'"x", W/{tag}', "*"):
                again = home.get("/simple/foo-bar/", headers={**headers, "If-None-Match": known})
                assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
            assert home.get("/simple/foo-bar/", headers={**headers, "If-None-Match": '"x"'}).status == 200
    assert len(tags) == 6
    name, content = wheel("Foo.Bar", "2.0")
    home.upload(name, content)
    assert page(home, If_None_Match=", ".join(tags)).status == 200


def test_head(home: Home) -> None:
    for path in ("/simple/", "/simple/foo-bar/", f"/packages/{WHEEL}", f"/packages/{WHEEL}.metadata"):
        got, head = home.get(path), home.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Length", "Content-Type", "ETag", "Cache-Control"):
            assert head.headers[name] == got.headers[name], (path, name)
    assert home.request("HEAD", "/packages/").status == 200
    assert home.request("HEAD", "/packages/nothing-1.0.zip").status == 404


def test_files_are_kept_for_ever(home: Home) -> None:
    answer = home.get(f"/packages/{WHEEL}")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["ETag"] == f'"{sha256(CONTENT)}"'
    assert answer.headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    for name, value in (
        ("If-None-Match", f'"{sha256(CONTENT)}"'),
        ("If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("If-Modified-Since", "Wed, 14 Nov 2029 22:13:20 GMT"),
    ):
        assert home.get(f"/packages/{WHEEL}", headers={name: value}).status == 304
    for headers in (
        {"If-None-Match": '"x"', "If-Modified-Since": "Wed, 14 Nov 2029 22:13:20 GMT"},
        {"If-Modified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"},
        {"If-Modified-Since": "nonsense"},
    ):
        assert home.get(f"/packages/{WHEEL}", headers=headers).body == CONTENT


def test_names_that_may_be_overwritten_are_not_kept() -> None:
    with new_home(overwrite=True) as home:
        home.start(1)
        home.upload(WHEEL, CONTENT)
        first = home.get(f"/packages/{WHEEL}")
        assert first.headers["Cache-Control"] == "public, no-cache"
        home.upload(WHEEL, CONTENT + b"x")
        again = home.get(f"/packages/{WHEEL}", headers={"If-None-Match": first.headers["ETag"]})
        assert again.body == CONTENT + b"x"


@pytest.mark.parametrize("size", [1000, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("value", "status", "part"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=10-19", 206, (10, 20)),
        ("bytes=990-", 206, (990, None)),
        ("bytes=-5", 206, (-5, None)),
        ("bytes=-99999999", 206, (0, None)),
        ("bytes=5-99999999", 206, (5, None)),
        ("bytes=3000000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=0-1,5-6", 200, (0, None)),
        ("bytes=9-5", 200, (0, None)),
        ("bytes=-", 200, (0, None)),
        ("bytes=x", 200, (0, None)),
        (f"bytes={'9' * 5000}-", 200, (0, None)),
        ("lines=1-2", 200, (0, None)),
    ],
)
def test_parts(size: int, value: str, status: int, part: tuple[int, int | None] | None) -> None:
    content = os.urandom(size)
    with new_home() as home:
        (home.packages / "big-1.0.zip").write_bytes(content)
        home.start(1)
        answer = home.get("/packages/big-1.0.zip", headers={"Range": value})
        assert answer.status == status
        if part:
            wanted = content[part[0] : part[1]]
            assert answer.body == wanted
            assert int(answer.headers["Content-Length"]) == len(wanted)
            assert answer.headers["Accept-Ranges"] == "bytes"
        else:
            assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_a_part_only_of_the_file_that_the_client_has(home: Home) -> None:
    modified = "Tue, 14 Nov 2023 22:13:20 GMT"
    for condition, status in (
        (f'"{sha256(CONTENT)}"', 206),
        (modified, 206),
        ('"other"', 200),
        (f'W/"{sha256(CONTENT)}"', 200),
        ("Tue, 14 Nov 2023 22:13:21 GMT", 200),
    ):
        headers = {"Range": "bytes=3-6", "If-Range": condition}
        answer = home.get(f"/packages/{WHEEL}", headers=headers)
        assert answer.status == status, condition
        assert answer.body == (CONTENT[3:7] if status == 206 else CONTENT)


def test_a_file_is_sent_only_if_it_is_the_one_that_is_wanted(home: Home) -> None:
    """Some programs that resume downloads ask so."""
    mine = f'"{sha256(CONTENT)}"'
    for name, value, status in (
        ("If-Match", mine, 200),
        ("If-Match", f'"x", {mine}', 200),
        ("If-Match", "*", 200),
        ("If-Match", '"x"', 412),
        ("If-Match", f"W/{mine}", 412),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 GMT", 200),
        ("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:19 GMT", 412),
        ("If-Unmodified-Since", "nonsense", 200),
    ):
        assert home.get(f"/packages/{WHEEL}", headers={name: value}).status == status, (name, value)


def test_a_head_has_no_parts(home: Home) -> None:
    answer = home.request("HEAD", f"/packages/{WHEEL}", headers={"Range": "bytes=0-3"})
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(CONTENT)))


def test_what_is_not_there_is_asked_for_again(home: Home) -> None:
    for path in ("/simple/nothing/", "/packages/nothing-1.0.zip", "/packages/nothing-1.0.whl.metadata"):
        answer = home.get(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-cache")


# --- metadata


def test_metadata_is_served(home: Home) -> None:
    body = metadata("Foo.Bar", "1.0", "Requires-Python: >=3.8,<4", "Requires-Dist: dep>1")
    plain = home.get(f"/packages/{WHEEL}.metadata")
    assert plain.body == body
    zipped = home.get(f"/packages/{WHEEL}.metadata", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(zipped.body) == body
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert plain.headers["ETag"] != zipped.headers["ETag"]
    headers = {"If-None-Match": plain.headers["ETag"]}
    assert home.get(f"/packages/{WHEEL}.metadata", headers=headers).status == 304
    assert home.get(f"/packages/{OLD_SDIST}.metadata").status == 200
    for name in ("nothing-1.0.whl", f"{WHEEL}.asc", "", f"{WHEEL}.metadata"):
        assert home.get(f"/packages/{name}.metadata").status == 404


# --- logins and prefix


def test_listing_and_downloading_are_two_things() -> None:
    for login in (["list"], ["download"], ["list", "download"]):
        with new_home(login=login, url_prefix="/pypi") as home:
            home.htpasswd.write_text("a:secret\n")
            (home.packages / WHEEL).write_bytes(CONTENT)
            home.start(1)
            good = {"Authorization": basic_auth("a", "secret")}
            for action, path in (
                ("list", "/pypi/simple/"),
                ("list", "/pypi/simple/foo-bar/"),
                ("list", "/pypi/simple/nothing/"),
                ("list", "/pypi/packages/"),
                ("download", f"/pypi/packages/{WHEEL}"),
                ("download", f"/pypi/packages/{WHEEL}.metadata"),
                ("download", "/pypi/packages/nothing-1.0.zip"),
            ):
                status = 404 if "nothing" in path else 200
                assert home.get(path).status == (401 if action in login else status)
                answer = home.get(path, headers=good)
                assert answer.status == status
                if status == 200 and action in login and path != "/pypi/packages/":
                    assert "private" in answer.headers["Cache-Control"]
                for wrong in ("Basic !!!", basic_auth("a", "wrong")):
                    found = home.get(path, headers={"Authorization": wrong}).status
                    assert found == (401 if action in login else status)
            assert (
                f'"url":"/pypi/packages/{WHEEL}"'
                in home.get("/pypi/simple/foo-bar/", headers={**good, "Accept": V1_JSON}).text
            )


# --- marks


def test_yanked_files(home: Home) -> None:
    for reason in ('broken <b>"&', ""):
        mark(home, foo_bar=Marks(yanked={"1.0": reason}))
        files = {file["filename"]: file for file in json.loads(page(home).body)["files"]}
        assert files[WHEEL]["yanked"] == (reason or True)
        assert "yanked" not in files[SDIST]
        text = home.get("/simple/foo-bar/").text
        escaped = "broken &lt;b&gt;&quot;&amp;" if reason else ""
        assert text.count(f'data-yanked="{escaped}"') == 1
        assert home.get(f"/packages/{WHEEL}").status == 200
    (home.packages / FILE_NAME).unlink()
    assert "yanked" in page(home).text  # a slip of the hand: until somebody takes it back it counts
    mark(home)
    assert "yanked" not in page(home).text


def test_a_project_has_a_status(home: Home) -> None:
    mark(home, foo_bar=Marks(status="archived", reason="moved <away>"))
    found = json.loads(page(home).body)
    assert found["project-status"] == {"status": "archived", "reason": "moved <away>"}
    text = home.get("/simple/foo-bar/").text
    assert '<meta name="pypi:project-status" content="archived">' in text
    assert '<meta name="pypi:project-status-reason" content="moved &lt;away&gt;">' in text
    mark(home, foo_bar=Marks(status="quarantined"))
    assert json.loads(page(home).body)["files"] == []
    assert "<a " not in home.get("/simple/foo-bar/").text


def test_a_project_that_is_closed_takes_no_uploads(home: Home) -> None:
    """PEP 792."""
    for number, (status, allowed) in enumerate(
        (("archived", False), ("quarantined", False), ("deprecated", True), ("active", True))
    ):
        mark(home, foo_bar=Marks(status=status))
        answer = home.upload(*wheel("foo.bar", f"7.{number}"))
        assert answer.status == (200 if allowed else 403)
        if not allowed:
            assert answer.text == f"foo-bar is {status}: nothing can be uploaded to it\n"
        assert home.upload(*wheel("other", f"7.{number}")).status == 200


def test_broken_marks_change_nothing(home: Home) -> None:
    mark(home, foo_bar=Marks(yanked={"1.0": "bad"}))
    assert "yanked" in page(home).text
    for content in (b"", b"[]", b"{", b'{"projects": {"foo-bar": {"status": "x"}}}', b'{"projects": 1}'):
        (home.packages / FILE_NAME).write_bytes(content)
        assert '"yanked":"bad"' in page(home).text
    assert home.get(f"/packages/{FILE_NAME}").status == 404


# --- real clients


def graph(count: int) -> list[tuple[str, bytes]]:
    """Return a tree of projects, each depending on two more, with versions that must not be chosen."""
    made = []
    for number in range(count):
        needs = [f"Requires-Dist: graph-{n}>=1.0" for n in (2 * number + 1, 2 * number + 2) if n < count]
        for version in ("0.9", "1.0"):
            made.append(wheel(f"graph-{number}", version, "Requires-Python: >=3.8", *needs))
        made.append(wheel(f"graph-{number}", "2.0", "Requires-Python: >=99"))
    return made


def served(home: Home) -> list[str]:
    return [line.split('"')[1] for line in home.workers[0].log.read_text().splitlines() if '"GET ' in line]


@pytest.mark.parametrize(
    "python", sorted({sys.executable, shutil.which("python3", path="/usr/bin") or ""} - {""})
)
def test_the_pip_that_python_brings_can_install(python: str, tmp_path: Path) -> None:
    """Whatever its age: a new virtualenv has this one, and that of Debian 12 is from early 2023."""
    with new_home() as home:
        name, content = wheel("foo", "1.0", "Requires-Python: >=3.8")
        (home.packages / name).write_bytes(content)
        home.start(1)
        assert within(
            2, lambda: "core-metadata" in home.get("/simple/foo/", headers={"Accept": V1_JSON}).text
        )
        subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
        command = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--isolated", "--no-cache-dir"]
        command += [
            "--disable-pip-version-check",
            "--index-url",
            f"http://127.0.0.1:{home.port}/simple/",
            "foo",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Successfully installed foo-1.0" in done.stdout


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_a_graph_of_200_is_resolved_from_metadata_alone(client: str, tmp_path: Path) -> None:
    count = 200
    with new_home() as home:
        for name, content in graph(count):
            (home.packages / name).write_bytes(content)
        home.start(1)
        catalogue = Catalogue(home.path / "run", home.packages)
        assert within(20, lambda: catalogue.count() == 3 * count and not catalogue.without_hash(1))
        url = f"http://127.0.0.1:{home.port}/simple/"
        environment: dict[str, Any] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        if client == "uv":
            uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
            (tmp_path / "in.txt").write_text("graph-0\n")
            command = [uv, "pip", "compile", "--no-config", "--no-cache", "--index-url", url, "in.txt"]
        else:
            pytest.importorskip("pip")
            command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir"]
            command += ["--disable-pip-version-check", "--dry-run", "--ignore-installed"]
            command += ["--index-url", url, "graph-0"]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = done.stdout
        assert found.count("1.0") >= count
        assert within(5, lambda: len(served(home)) >= 2 * count)
        paths = [line.split()[1] for line in served(home)]
        metadata_asked = {path for path in paths if path.endswith(".metadata")}
        files_asked = {path for path in paths if path.startswith("/packages/")} - metadata_asked
        assert len(metadata_asked) == count
        assert len([path for path in paths if path.startswith("/simple/")]) == count
        assert files_asked == set()
