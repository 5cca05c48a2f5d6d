"""ppctl.server.uploads: what is accepted, refused and kept of an upload."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ppctl.server import archives as limits
from ppctl.server import attestations, uploads
from ppctl.server.drafts import Draft
from tests.server import signed
from tests.server.archives import metadata, package, sdist, source, tarred, wheel, zipped
from tests.server.in_process import Index
from tests.server.signed import (
    ACTION,
    CONTENT,
    DOCS,
    FILE,
    REMOVE,
    SIGNATURE,
    WHEEL,
    attestation,
    field,
    form,
    signed_form,
    statement,
)
from tests.server.worker_process import upload_form

SDIST = "foo-1.0.tar.gz"
OTHER = wheel("foo", "1.0", content=b"another")[1]
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


# --- hashes


def digests(content: bytes) -> dict[str, str]:
    return {
        "md5_digest": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256_digest": hashlib.sha256(content).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(content, digest_size=32).hexdigest(),
    }


def test_the_right_hashes(index: Index) -> None:
    assert index.upload(WHEEL, CONTENT, **digests(CONTENT)).status == 200
    upper = {name: value.upper() for name, value in digests(source()).items()}
    assert index.upload(SDIST, source(), **upper).status == 200
    assert index.upload("foo-2.0.tar.gz", source(), md5_digest="", other_digest="x").status == 200


@pytest.mark.parametrize("name", digests(b""))
@pytest.mark.parametrize("value", ["0" * 64, "x", digests(CONTENT)["md5_digest"][:-1], "<b>\r\nX-Evil: 1"])
def test_a_wrong_hash(index: Index, name: str, value: str) -> None:
    said = index.upload(WHEEL, CONTENT, **{**digests(CONTENT), name: value})
    assert said.status == 400
    assert said.text.startswith(f"{name}: the file that has arrived has {digests(CONTENT)[name]}")
    assert said.reason.startswith(name)
    assert "\n" not in said.reason
    assert index.names() == []
    assert index.upload(WHEEL, CONTENT, **digests(CONTENT)).status == 200


# --- names and what is in the file

LEGACY = [
    ("foo-1.0.tar.gz", package("foo-1.0.tar.gz")),
    ("foo-1.0.tgz", package("foo-1.0.tgz")),
    ("foo-1.0.tar.bz2", package("foo-1.0.tar.bz2")),
    ("foo-1.0.tar.xz", package("foo-1.0.tar.xz")),
    ("foo-1.0.zip", package("foo-1.0.zip")),
    ("foo-1.0-py2.7.egg", package("foo-1.0-py2.7.egg")),
    ("foo-1.0-py2.7-linux-x86_64.egg", package("foo-1.0-py2.7-linux-x86_64.egg")),
    ("foo-1.0-py3.11.egg", package("foo-1.0-py3.11.egg")),
    ("foo-1.0.win32-py2.7.exe", b"MZ\x90 and more"),
    ("foo-1.0.win-amd64-py2.7.msi", bytes.fromhex("d0cf11e0a1b11ae1") + b"more"),
    ("foo-1.0-1-py2.py3-none-any.whl", zipped({"foo-1.0.dist-info/METADATA": metadata("foo", "1.0")})),
    # Without metadata an installer still builds them.
    ("foo-1.0.tar.gz", source()),
    ("foo-1.0.zip", zipped({"foo-1.0/pyproject.toml": b""})),
]


@pytest.mark.parametrize(("name", "content"), LEGACY, ids=[name for name, _ in LEGACY])
def test_every_kind_of_package(index: Index, name: str, content: bytes) -> None:
    said = index.upload(name, content)
    assert said.status == 200, said.text
    assert index.get(f"/packages/{name}").body == content
    assert f">{name}</a>" in index.get("/simple/foo/").text
    assert index.names() == [name]


@pytest.mark.parametrize(
    ("name", "said_name", "said_version"),
    [
        ("Foo.Bar-1.0.tar.gz", "foo_bar", "1.0"),
        ("foo_bar-1.0.tar.gz", "Foo.Bar", "1.0"),
        ("foo-bar-1.0.tar.gz", "foo-bar", "1.0"),
        ("foo-1.0.0.tar.gz", "foo", "1.0.0"),
        ("foo-1.0b1.tar.gz", "foo", "1.0-beta1"),
        ("foo-1.0.post1.tar.gz", "foo", "1.0-1"),
        ("foo-1.0-beta.tar.gz", "foo", "1.0 beta"),
        ("foo-1.0+local.1.tar.gz", "foo", "1.0+local-1"),
        ("foo-1!2.0.tar.gz", "foo", "1!2.0"),
        ("foo-2008a.tar.gz", "foo", "2008a"),
    ],
)
def test_names_that_mean_the_same(index: Index, name: str, said_name: str, said_version: str) -> None:
    content = tarred({f"{name.removesuffix('.tar.gz')}/PKG-INFO": metadata(said_name, said_version)})
    said = index.upload(name, content)
    assert said.status == 200, said.text


def changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


LARGE_FILES = {"foo-1.0/PKG-INFO": metadata("foo", "1.0"), "foo-1.0/data": os.urandom(1 << 18)}
LARGE_SDIST = tarred(LARGE_FILES)
LARGE_WHEEL = wheel("foo", "1.0", content=os.urandom(1 << 12))[1]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (WHEEL, wheel("bar", "1.0")[1], "says foo 1.0, the metadata in it bar 1.0"),
        (WHEEL, wheel("foo", "1.1")[1], "says foo 1.0, the metadata in it foo 1.1"),
        (SDIST, sdist("bar", "1.0")[1], "says foo 1.0, the metadata in it bar 1.0"),
        (SDIST, sdist("foo", "2.0")[1], "says foo 1.0, the metadata in it foo 2.0"),
        ("foo-1.0-py3.8.egg", package("foo-1.1-py3.8.egg"), "the metadata in it foo 1.1"),
        (
            "foo-3d-1.0.tar.gz",
            tarred({"foo-3d-1.0/PKG-INFO": metadata("foo-3d", "1.0")}),
            "says foo 3d-1.0, the metadata in it foo-3d 1.0: call it foo_3d-1.0…",
        ),
        (WHEEL, b"", "not an archive of its kind"),
        (WHEEL, b"PK\x03\x04 and so on", "not an archive of its kind"),
        (WHEEL, CONTENT[:-40], "not an archive of its kind"),
        (WHEEL, sdist("foo", "1.0")[1], "not an archive of its kind"),
        (WHEEL, zipped({"foo/__init__.py": b""}), "has no one .dist-info/METADATA"),
        (WHEEL, zipped({"foo-1.0.dist-info/METADATA": b"\xff\xfe"}), "says no name and version"),
        (SDIST, b"x", "not an archive of its kind"),
        (SDIST, sdist("foo", "1.0")[1][:40], "not an archive of its kind"),
        # The metadata can be read, and some of what follows is missing, or another one.
        *[(SDIST, LARGE_SDIST[:end], "a broken one") for end in (-1, -9, len(LARGE_SDIST) // 2)],
        (SDIST, changed(LARGE_SDIST), "a broken one"),
        ("foo-1.0.tar.bz2", tarred(LARGE_FILES, "bz2")[:-20], "a broken one"),
        ("foo-1.0.tar.xz", tarred(LARGE_FILES, "xz")[:-20], "a broken one"),
        (WHEEL, LARGE_WHEEL[:500] + LARGE_WHEEL[600:], "a piece of it is missing"),
        (SDIST, CONTENT, "not an archive of its kind"),
        (SDIST, tarred({"foo-1.0/data": b""}), "has no PKG-INFO, pyproject.toml or setup.py"),
        (SDIST, tarred({"setup.py": b""}), "has no PKG-INFO"),
        ("foo-1.0.tar.xz", b"\xfd7zXZ\0 and so on", "not an archive of its kind"),
        ("foo-1.0.tar.bz2", b"BZh9", "not an archive of its kind"),
        ("foo-1.0-py2.7.egg", zipped({"x": b""}), "has no EGG-INFO/PKG-INFO"),
        ("foo-1.0.win32-py2.7.exe", b"#!/bin/sh", "not an installer"),
        ("foo-1.0.win32-py2.7.msi", b"MZ", "not an installer"),
    ],
)
def test_what_is_not_what_its_name_says(index: Index, name: str, content: bytes, why: str) -> None:
    said = index.upload(name, content)
    assert (said.status, why in said.text) == (400, True), said.text
    assert index.names() == []
    assert index.get("/simple/foo/").status == 404
    assert index.upload(WHEEL, CONTENT).status == 200


def test_an_archive_for_one_platform_has_no_metadata(index: Index) -> None:
    name, content = "foo-1.0.linux-x86_64.tar.gz", tarred({"./usr/lib/foo.py": b""})
    assert index.upload(name, content, filetype="sdist").status == 400
    assert index.upload(name, content, filetype="bdist_dumb").status == 200


@pytest.mark.parametrize(
    "name",
    [
        "../foo-1.0.zip",
        "/etc/foo-1.0.zip",
        "sub/foo-1.0.zip",
        "..",
        "..\\foo-1.0.zip",
        "C:\\foo-1.0.zip",
        ".foo-1.0.zip",
        "foo-1.0.zip\0.zip",
        "foo-1.0.zip\n",
        "foo-1.0\r\nX-Evil: 1.zip",
        "foo-1.0 .zip",
        "<script>alert(1)</script>-1.0.zip",
        "foo-1.0%2f..%2f.zip",
        "f\u043e\u043e-1.0.zip",
        "foo-1.0.zip.asc",
        "foo-1.0.zip.provenance",
        "foo-1.0.txt",
        "foo-1.0-py2.7-x.html",
        "foo-1.0.win32-py2.7.html",
        "foo-1.0-1.noarch.rpm",
        "x" * 250 + "-1.0.zip",
        "CON",
        "-",
    ],
)
def test_hostile_names(index: Index, name: str, tmp_path: Path) -> None:
    before = [path for path in tmp_path.rglob("*") if path.parent != index.run]
    said = index.upload(name, package("foo-1.0.zip"))
    assert said.status == 400
    assert "x-evil" not in said.headers
    assert "<" not in said.text or said.headers["content-type"].startswith("text/plain")
    assert len(said.reason) < 200 and said.reason.isprintable()
    # The empty catalogue apart, nothing has been made anywhere.
    assert [path for path in tmp_path.rglob("*") if path.parent != index.run] == before


def test_html_in_metadata_is_text(index: Index) -> None:
    name, content = wheel("foo", "1.0", 'Requires-Python: >=3<script>"')
    assert index.upload(name, content).status == 200
    assert "<script>" not in index.get("/simple/foo/").text
    evil = zipped({"foo-1.0.dist-info/METADATA": metadata("<b>evil</b>", "1.0")})
    said = index.upload("foo-2.0-py3-none-any.whl", evil)
    assert (said.status, said.headers["content-type"]) == (400, "text/plain; charset=utf-8")


# --- bombs


def bomb(kind: str) -> tuple[str, bytes]:
    zeros = b"\0" * (5 << 20)
    if kind in ("gz", "bz2", "xz"):
        name = f"foo-1.0.tar.{kind}"
        return name, tarred({"foo-1.0/a": zeros, "foo-1.0/PKG-INFO": metadata("foo", "1.0")}, kind)
    if kind == "metadata":
        return WHEEL, zipped({"foo-1.0.dist-info/METADATA": metadata("foo", "1.0") + zeros})
    if kind == "zip in zip":
        inner = zipped({"0": zeros})
        return WHEEL, zipped({f"{number}.zip": inner for number in range(100)})
    if kind == "directory":
        return WHEEL, b"x" * 100 + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 1 << 30, 0, 0)
    if kind == "lies about sizes":
        content = bytearray(zipped({"foo-1.0.dist-info/METADATA": metadata("foo", "1.0") + zeros}))
        at = content.rindex(b"PK\x01\x02") + 24
        content[at : at + 4] = struct.pack("<L", 100)
        return WHEEL, bytes(content)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("foo-1.0/PKG-INFO")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif kind == "device":
            member.type = tarfile.CHRTYPE
        archive.addfile(member)
    return SDIST, made.getvalue()


@pytest.mark.parametrize(
    "kind",
    ["gz", "bz2", "xz", "metadata", "zip in zip", "directory", "lies about sizes", "link", "device"],
)
def test_bombs(index: Index, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNPACKED", 4 << 20)
    name, content = bomb(kind)
    said = index.upload(name, content)
    assert said.status == 400, said.text
    assert index.names() == []


def test_a_sparse_file_is_no_metadata(index: Index) -> None:
    header = tarfile.TarInfo("foo-1.0/PKG-INFO")
    header.size = 1 << 40
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[156:157], block[482:483] = b"S", b"\1"  # and more blocks about its holes
    assert index.upload(SDIST, gzip.compress(bytes(block) + b"\1" * 512 * 50)).status == 400


def test_xz_that_wants_much_memory(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_XZ_MEMORY", 1 << 17)
    assert index.upload("foo-1.0.tar.xz", package("foo-1.0.tar.xz")).status == 400


def test_a_large_honest_sdist_is_taken_without_metadata(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNPACKED", 1 << 20)
    files = {"foo-1.0/data": os.urandom(2 << 20), "foo-1.0/PKG-INFO": metadata("foo", "1.0")}
    assert index.upload(SDIST, tarred(files)).status == 200
    assert index.get(f"/packages/{SDIST}.metadata").status == 404


def test_of_a_large_sdist_what_comes_early_is_known(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNPACKED", 1 << 17)
    assert index.upload(SDIST, LARGE_SDIST).status == 200
    assert index.get(f"/packages/{SDIST}.metadata").status == 200


def test_a_bomb_after_the_metadata(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNPACKED", 4 << 20)
    files = {"foo-1.0/PKG-INFO": metadata("foo", "1.0"), "foo-1.0/a": b"\0" * (5 << 20)}
    assert index.upload(SDIST, tarred(files)).status == 400


def test_archives_of_several_parts(index: Index) -> None:
    """As pigz and `cat` make them."""
    unpacked = gzip.decompress(LARGE_SDIST)
    content = gzip.compress(unpacked[:3000]) + gzip.compress(unpacked[3000:]) + b"\0" * 100
    assert index.upload(SDIST, content).status == 200


# --- sizes


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    content = source(b"x" * 10)
    index = Index(tmp_path, max_upload_size=len(content))
    assert index.upload(SDIST, content).status == 200
    for chunked in ({}, {"HTTP_TRANSFER_ENCODING": "chunked"}):
        content_type, body = upload_form("foo-2.0.tar.gz", content + b"\0")
        said = index.post(content_type, body, **chunked)
        assert said.status == 413
        assert said.text.startswith(f"foo-2.0.tar.gz is larger than the {len(content)} bytes that this index")
        assert index.names() == [SDIST]


class Counting(io.BytesIO):
    """A body that notes how much of it has been read, and has no end."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.count += size or 0
        return b"x" * (size or 0)


def test_a_body_that_is_too_large_is_not_read_before_it_is_refused(tmp_path: Path) -> None:
    index = Index(tmp_path, max_upload_size=1000)
    body = Counting()
    seen: list[int] = []
    content_type = upload_form(SDIST, b"")[0]
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(1 << 40),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "index",
        "wsgi.input": body,
    }
    answer = iter(index.front(environ, lambda status, _: seen.append(int(status[:3]))))
    assert b"max_upload_size" in next(answer)
    assert (seen, body.count) == ([413], 0)


@pytest.mark.parametrize("name", ["description", "classifiers", "attestations", "name", "gpg_signature"])
def test_fields_that_are_too_large(index: Index, name: str) -> None:
    value = b"x" * (uploads.MAX_FIELDS + 1)
    file = "x.asc" if name == "gpg_signature" else None
    large = field(name, value, filename=file)
    said = index.post(*form(ACTION, large, field("content", CONTENT, filename=WHEEL)))
    assert said.status == 413
    assert index.names() == []


def test_other_bodies_are_small(index: Index) -> None:
    for path in ("/", "/RPC2", "/nothing"):
        body = b"x=" + b"y" * uploads.MAX_OTHER_BODY
        for chunked in ({}, {"HTTP_TRANSFER_ENCODING": "chunked"}):
            said = index.ask("POST", path, body, CONTENT_TYPE=FORM, **chunked)
            assert said.status == 413
    small = index.post(FORM, b":action=verify", HTTP_TRANSFER_ENCODING="chunked")
    assert small.status == 200


# --- forms of old and odd clients


def old_form(content: bytes, line: bytes, *, action_last: bool = False) -> tuple[str, bytes]:
    """Return the form of the upload command of old Pythons: lines, order, an extra byte after a return."""
    boundary = b"--------------GHSKFJDLGDS7543FJKLFHRE75642756743254"
    values: dict[str, bytes] = {"name": b"foo", "protcol_version": b"1", "comment": b""}
    last = {"md5_digest": digests(content)["md5_digest"].encode()}
    body = b""
    for name, value in {":action": b"file_upload", **values, "content": content, **last}.items():
        file = f'; filename="{SDIST}"' if name == "content" else ""
        body += line + b"--" + boundary + line
        body += f'Content-Disposition: form-data; name="{name}"{file}'.encode() + line * 2 + value
        if value.endswith(b"\r"):
            body += b"\n"
    return f"multipart/form-data; boundary={boundary.decode()}", body + line + b"--" + boundary + b"--" + line


@pytest.mark.parametrize("line", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n", b"\n\r"], ids=repr)
def test_forms_of_old_pythons(index: Index, line: bytes, end: bytes) -> None:
    content = source() + end  # gzip takes what follows for padding or rubbish, and so do installers
    said = index.post(*old_form(content, line))
    assert said.status == 200, said.text
    assert (index.packages / SDIST).read_bytes() == content


def test_a_form_in_any_order(index: Index) -> None:
    content = field("content", CONTENT, filename=WHEEL)
    digest = field("sha256_digest", digests(CONTENT)["sha256_digest"].encode())
    assert index.post(*form(content, digest, ACTION)).status == 200
    assert index.names() == [WHEEL]


def test_a_header_in_other_words(index: Index) -> None:
    part = f'CONTENT-TYPE: x/y\r\ncontent-disposition:form-data;filename="{WHEEL}"; NAME=content\r\n\r\n'
    assert index.post(*form(ACTION, part.encode() + CONTENT)).status == 200


@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
def test_what_looks_like_a_boundary(index: Index, line: bytes) -> None:
    tail = b"\n--b0undaryX\r\n--b0undary-\n-- b0undary--\r\n--b0undar\r\r\n--b0undary--x"
    content = source() + b"\0" * 512 + tail
    parts = [field(":action", b"file_upload", line), field("content", content, line, SDIST)]
    assert index.post(*form(*parts, line=line)).status == 200
    assert (index.packages / SDIST).read_bytes() == content


@pytest.mark.parametrize(
    ("parts", "status", "text"),
    [
        ([], 400, "Missing ':action' field!"),
        ([FILE], 400, "Missing ':action' field!"),
        ([field(":action", b"what")], 400, "Unsupported ':action' field: what"),
        ([ACTION], 400, "Missing 'content' file-field!"),
        ([ACTION, field("content", CONTENT)], 400, "Missing 'content' file-field!"),
        ([ACTION, FILE, FILE], 400, "several files in one upload"),
        ([field(":action", b"verify"), field("name", b"foo")], 200, ""),
        ([field(":action", b"submit"), field("name", b"foo")], 200, ""),
        ([field(":action", b"submit"), FILE], 200, ""),
        ([DOCS], 400, "Missing 'content' file-field!"),
        ([DOCS, field("content", b"x", filename="foo.zip")], 400, "not a zip file"),
        ([DOCS, field("content", zipped({"index.html": b""}), filename="foo.zip")], 200, ""),
        ([REMOVE, field("name", b"bar"), field("version", b"1")], 404, "bar (1) not found"),
    ],
)
def test_other_actions(index: Index, parts: list[bytes], status: int, text: str) -> None:
    said = index.post(*form(*parts))
    assert (said.status, said.text.strip()) == (status, text)
    assert index.names() == []


def test_removing_by_a_form_of_parts(index: Index) -> None:
    index.upload(WHEEL, CONTENT)
    fields = [REMOVE, field("name", b"foo"), field("version", b"1.0")]
    assert index.post(*form(*fields)).status == 200
    assert index.names() == []


@pytest.mark.parametrize(
    "call", [b"<a/>", b"<methodCall/>", b"<methodCall><methodName>search</methodName></methodCall>"]
)
def test_xml_that_is_no_call(index: Index, call: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """pypiserver fails: whoever likes to could fill the log with tracebacks."""
    said = index.ask("POST", "/RPC2", call, CONTENT_TYPE="text/xml")
    assert (said.status, said.text) == (400, "Not a call of XML-RPC\n")
    assert "failed" not in caplog.text


# --- conflicts


@pytest.mark.parametrize(("agent", "status"), [("twine/6.2.0", 400), ("uv/0.9", 409), ("", 409)])
def test_a_conflict(index: Index, agent: str, status: int) -> None:
    index.upload(WHEEL, CONTENT)
    said = index.post(*upload_form(WHEEL, CONTENT), HTTP_USER_AGENT=agent)
    assert (said.status, said.reason) == (status, f"Package '{WHEEL}' already exists!")
    assert (index.packages / WHEEL).read_bytes() == CONTENT


def test_a_conflict_is_told_before_the_file_is_sent(index: Index) -> None:
    index.upload(WHEEL, CONTENT)
    content_type, body = upload_form(WHEEL, b"")
    broken = body[: body.index(b"\r\n--b0undary--")]
    assert index.post(content_type, broken + b"x" * 1_000_000).status == 409


def test_a_conflict_with_a_file_in_a_sub_directory(index: Index) -> None:
    (index.packages / "sub").mkdir()
    (index.packages / "sub" / WHEEL).write_bytes(CONTENT)
    assert index.upload(WHEEL, CONTENT).status == 409


# --- what comes again, since its uploader has got no answer


def test_what_is_there_already_is_stored(index: Index) -> None:
    """As on PyPI: the first try was killed, or its answer lost, and the client tries again."""
    assert index.post(*signed_form(hashed=True)).status == 200
    before = [os.stat(index.packages / name) for name in index.names()]
    for again in (signed_form(hashed=True), upload_form(WHEEL, CONTENT, **digests(CONTENT))):
        assert index.post(*again, HTTP_USER_AGENT="twine/6.2.0").status == 200
    assert [os.stat(index.packages / name).st_ino for name in index.names()] == [s.st_ino for s in before]
    assert {"gpg-sig", "provenance", "core-metadata"} <= set(listed(index))


def test_it_is_on_the_pages_when_that_is_answered(index: Index) -> None:
    """Its worker was killed before it could tell the others; the watcher has not seen it yet."""
    index.get("/simple/")
    (index.packages / WHEEL).write_bytes(CONTENT)
    (index.packages / f"{WHEEL}.asc").write_bytes(SIGNATURE)
    assert index.get("/simple/foo/").status == 404
    assert index.post(*signed_form(attested=False, hashed=True)).status == 200
    assert listed(index)["hashes"] == {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert listed(index)["gpg-sig"] is True


@pytest.mark.parametrize(
    "again",
    [
        signed_form(WHEEL, OTHER, hashed=True),
        upload_form(WHEEL, OTHER, **digests(OTHER)),
        # Who says no hash, or does so too late, is told before the file is sent: as by pypiserver.
        upload_form(WHEEL, CONTENT),
        form(ACTION, FILE, field("sha256_digest", digests(CONTENT)["sha256_digest"].encode())),
    ],
    ids=["another file", "another file alone", "without a hash", "with a hash at last"],
)
def test_what_is_not_all_there_is_a_conflict(index: Index, again: tuple[str, bytes]) -> None:
    index.post(*signed_form())
    assert index.post(*again).status == 409
    assert (index.packages / WHEEL).read_bytes() == CONTENT
    assert (index.packages / f"{WHEEL}.asc").read_bytes() == SIGNATURE


def test_who_signs_once_more_has_another_signature_of_the_same_file(index: Index) -> None:
    """As a job of a CI does that is started again. The first one stays, as nothing is ever replaced."""
    index.post(*signed_form())
    before = index.get(f"/packages/{WHEEL}.provenance").body
    again = [attestation(envelope={**attestation()["envelope"], "signature": "BBBB"})]
    parts = [ACTION, field("sha256_digest", digests(CONTENT)["sha256_digest"].encode()), FILE]
    parts.append(field("gpg_signature", b"another one", filename=f"{WHEEL}.asc"))
    parts.append(field("attestations", json.dumps(again).encode()))
    assert index.post(*form(*parts)).status == 200
    assert (index.packages / f"{WHEEL}.asc").read_bytes() == SIGNATURE
    assert index.get(f"/packages/{WHEEL}.provenance").body == before
    (index.packages / f"{WHEEL}.provenance").write_bytes(b"{}")
    assert index.post(*form(*parts)).status == 409


def test_sidecars_that_are_not_there_are_a_conflict(index: Index) -> None:
    """To say that they are stored would be a lie, and nothing is ever replaced."""
    assert index.upload(WHEEL, CONTENT).status == 200
    assert index.post(*signed_form(hashed=True)).status == 409
    assert index.names() == [WHEEL]


def test_a_wrong_hash_gets_nobody_past_a_conflict(index: Index) -> None:
    index.upload(WHEEL, CONTENT)
    assert index.upload(WHEEL, OTHER, **digests(CONTENT)).status == 400
    assert (index.packages / WHEEL).read_bytes() == CONTENT


def test_what_is_there_in_a_sub_directory(index: Index) -> None:
    (index.packages / "sub").mkdir()
    (index.packages / "sub" / WHEEL).write_bytes(CONTENT)
    index.get("/simple/foo/")
    assert index.upload(WHEEL, CONTENT, **digests(CONTENT)).status == 200
    assert index.upload(WHEEL, OTHER, **digests(OTHER)).status == 409
    assert index.names() == ["sub"]


def test_of_two_at_once_one_wins_though_they_are_the_same(index: Index) -> None:
    """The other one comes while the first is on its way."""
    again = upload_form(WHEEL, CONTENT, **digests(CONTENT))
    write = Draft.write
    found: list[int] = []

    def overtaken(draft: Draft, block: bytes) -> None:
        write(draft, block)
        if not found:
            found.append(0)
            found[0] = index.post(*again).status

    with mock.patch.object(Draft, "write", overtaken):
        assert index.post(*again).status == 409
    assert found == [200]


# --- signatures and attestations


def listed(index: Index) -> dict[str, Any]:
    (file,) = signed.listed(index)
    return file


def test_a_signature_and_attestations_are_kept_and_served(index: Index) -> None:
    assert index.post(*signed_form()).status == 200
    assert index.get(f"/packages/{WHEEL}.asc").body == SIGNATURE
    provenance = index.get(f"/packages/{WHEEL}.provenance")
    assert provenance.headers["content-type"] == attestations.CONTENT_TYPE
    assert json.loads(provenance.body) == {
        "version": 1,
        "attestation_bundles": [
            {"publisher": {"kind": "unverified", "claims": {}}, "attestations": [attestation()]}
        ],
    }
    assert listed(index)["gpg-sig"] is True
    assert listed(index)["provenance"] == f"/packages/{WHEEL}.provenance"
    text = index.get("/simple/foo/").text
    assert f'data-gpg-sig="true" data-provenance="/packages/{WHEEL}.provenance"' in text
    assert text.count("<a ") == 1
    for path in ("/packages/", "/foo/json"):
        assert ".asc" not in index.get(path).text
    assert "serving 1 packages" in index.get("/").text
    assert index.names() == [WHEEL, f"{WHEEL}.asc", f"{WHEEL}.provenance"]


def test_they_are_found_again_by_a_new_catalogue(index: Index, tmp_path: Path) -> None:
    index.post(*signed_form())
    before = listed(index)
    for path in index.run.glob("catalogue*"):
        path.unlink()
    assert listed(Index(tmp_path)) == before


def test_they_are_removed_with_their_file(index: Index) -> None:
    index.post(*signed_form())
    said = index.post(FORM, b":action=remove_pkg&name=foo&version=1.0")
    assert said.status == 200
    assert index.names() == []
    for ending in ("", ".asc", ".provenance"):
        assert index.get(f"/packages/{WHEEL}{ending}").status == 404


def test_without_their_file_they_are_nothing(index: Index) -> None:
    for ending in (".asc", ".provenance"):
        (index.packages / f"{WHEEL}{ending}").write_bytes(b"left over")
        assert index.get(f"/packages/{WHEEL}{ending}").status == 404
    assert index.get("/simple/foo/").status == 404
    assert index.upload(WHEEL, CONTENT).status == 200
    assert index.names() == [WHEEL]  # they were not this file's


def test_those_of_a_file_that_is_replaced_go(tmp_path: Path) -> None:
    index = Index(tmp_path, overwrite=True)
    index.post(*signed_form())
    assert index.upload(WHEEL, CONTENT).status == 200
    assert index.names() == [WHEEL]
    assert not {"gpg-sig", "provenance"} & set(listed(index))
    assert index.post(*signed_form()).status == 200
    assert index.names() == [WHEEL, f"{WHEEL}.asc", f"{WHEEL}.provenance"]
    assert {"gpg-sig", "provenance"} < set(listed(index))


@pytest.mark.parametrize("mounted", ["", "/base"])
def test_the_url_of_a_provenance_is_whole_where_it_is_known(tmp_path: Path, mounted: str) -> None:
    """PEP 740; whatever a proxy says in between, and the file's own link stays as pypiserver's."""
    index = Index(tmp_path, public_url="https://pypi.example.com/pypi", url_prefix="/pypi")
    index.post(*signed_form())
    proxy = {"HTTP_X_FORWARDED_HOST": f"other.example.com{mounted}"}
    url = f"https://pypi.example.com/pypi/packages/{WHEEL}.provenance"
    page = index.get("/pypi/simple/foo/", HTTP_ACCEPT="application/vnd.pypi.simple.v1+json", **proxy)
    (file,) = json.loads(page.body)["files"]
    assert (file["provenance"], file["url"]) == (url, f"{mounted}/pypi/packages/{WHEEL}")
    assert f'data-provenance="{url}"' in index.get("/pypi/simple/foo/", **proxy).text
    assert index.get(f"/pypi/packages/{WHEEL}.provenance").status == 200


def test_a_provenance_of_another_content_is_not_shown(index: Index, tmp_path: Path) -> None:
    index.post(*signed_form())
    (index.packages / WHEEL).write_bytes(wheel("foo", "1.0", content=b"other")[1])
    for path in index.run.glob("catalogue*"):
        path.unlink()
    assert "provenance" not in listed(Index(tmp_path))


@pytest.mark.parametrize("name", ["bar-1.0-py3-none-any.whl.asc", WHEEL, f"../{WHEEL}.asc"])
def test_a_signature_of_something_else(index: Index, name: str) -> None:
    signature = field("gpg_signature", b"x", filename=name)
    said = index.post(*form(ACTION, field("content", CONTENT, filename=WHEEL), signature))
    assert (said.status, index.names()) == (400, [])


def without(*path: str) -> dict[str, Any]:
    found = attestation()
    inside = found
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]
    return found


@pytest.mark.parametrize(
    "value",
    [
        "not json",
        "{}",
        "[]",
        "[1]",
        "null",
        "[" * 100_000,
        json.dumps([attestation()] * (attestations.MAX_COUNT + 1)),
        *(
            json.dumps([found])
            for found in (
                attestation(version=2),
                attestation(version="1"),
                without("version"),
                without("verification_material"),
                without("verification_material", "certificate"),
                without("verification_material", "transparency_entries"),
                without("envelope", "statement"),
                without("envelope", "signature"),
                attestation(envelope={"statement": "!!!", "signature": "AAAA"}),
                attestation(envelope={"statement": "AAAA", "signature": "AAAA"}),
                attestation(statement(name="bar-1.0-py3-none-any.whl")),
                attestation(statement(content=b"other")),
                attestation(statement(subject=[])),
                attestation(statement(subject=[{"name": WHEEL}])),
                attestation(statement(_type="x")),
                attestation(statement(predicateType="x")),
            )
        ),
    ],
    ids=lambda value: value[:30],
)
def test_attestations_that_are_none(index: Index, value: str) -> None:
    said = index.upload(WHEEL, CONTENT, attestations=value)
    assert said.status == 400
    assert said.text.startswith("attestations")
    assert index.names() == []


def test_attestations_are_for_wheels_and_sdists(index: Index) -> None:
    name = "foo-1.0-py2.7.egg"
    said = index.upload(name, package(name), attestations=json.dumps([attestation()]))
    assert (said.status, index.names()) == (400, [])


def test_a_name_that_is_too_long_with_its_sidecars(index: Index) -> None:
    for length, status in ((240, 200), (247, 400)):
        name = f"{'x' * length}-1.0.zip"
        content = field("content", package(name), filename=name)
        signature = field("gpg_signature", b"x", filename=f"{name}.asc")
        assert index.post(*form(ACTION, content, signature)).status == status
    assert len(index.names()) == 2
