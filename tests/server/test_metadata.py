"""ppctl.server.metadata: what archives say, and that no archive does any harm."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import archives, metadata
from ppctl.server.metadata import Metadata, read
from tests.server.archives import metadata as fields
from tests.server.archives import sdist, tarred, wheel, zipped


def found(name: str, content: bytes) -> Metadata | None:
    return read(io.BytesIO(content), name)


def test_a_wheel() -> None:
    name, content = wheel("Foo.Bar", "1.0", "Requires-Python: >=3.8, <4", "Requires-Dist: x")
    said = found(name, content)
    assert said is not None
    assert said[1:] == ("Foo.Bar", "1.0", ">=3.8, <4", True)
    assert said.body == fields("Foo.Bar", "1.0", "Requires-Python: >=3.8, <4", "Requires-Dist: x")


@pytest.mark.parametrize(
    ("version", "lines", "reliable"),
    [
        ("2.4", [], True),
        ("2.2", ["Dynamic: License-File"], True),
        ("2.2", ["Dynamic: Requires-Dist"], False),
        ("2.2", ["Dynamic: license-file", "Dynamic: requires-python"], False),
        ("2.1", [], False),
        ("1.0", [], False),
        ("10.0", [], True),
    ],
)
def test_an_sdist_is_reliable_when_it_says_so(version: str, lines: list[str], reliable: bool) -> None:
    said = found(*sdist("foo", "1.0", *lines, "Requires-Python: >=3", metadata_version=version))
    assert said is not None
    assert (said.is_reliable, said.requires_python) == (reliable, ">=3")


def test_other_sdists() -> None:
    body = fields("foo", "1.0")
    inner = {"foo-1.0/x.py": b"", "foo-1.0/foo.egg-info/PKG-INFO": b"wrong", "foo-1.0/PKG-INFO": body}
    for name, content in (("foo-1.0.zip", zipped(inner)), ("foo-1.0.tgz", tarred(inner))):
        said = found(name, content)
        assert said is not None
        assert said.body == body


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("foo-1.0-py3-none-any.whl", b""),
        ("foo-1.0-py3-none-any.whl", b"PK\x05\x06"),
        ("foo-1.0-py3-none-any.whl", wheel("foo", "1.0")[1][:-30]),
        ("foo-1.0-py3-none-any.whl", zipped({"foo/METADATA": b"x"})),
        ("foo-1.0-py3-none-any.whl", zipped({"a.dist-info/METADATA": b"x", "b.dist-info/METADATA": b"x"})),
        ("foo-1.0-py3-none-any.whl", zipped({"a.dist-info/METADATA": b"no fields"})),
        ("foo-1.0-py3-none-any.whl", zipped({"a.dist-info/METADATA": b"Name: foo\n"})),
        ("foo-1.0.tar.gz", b"no gzip"),
        ("foo-1.0.tar.gz", gzip.compress(b"no tar", mtime=0)),
        ("foo-1.0.tar.gz", sdist("foo", "1.0")[1][:40]),
        ("foo-1.0.tar.gz", tarred({"PKG-INFO": fields("foo", "1.0")})),
        ("foo-1.0.tar.xz", b"x"),
        ("foo-1.0.egg", b"x"),
        ("foo-1.0.zip.asc", b"x"),
    ],
)
def test_what_has_no_metadata(name: str, content: bytes) -> None:
    assert found(name, content) is None


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """How much is unpacked: less than a worker would, for it takes time to pack more than that."""
    monkeypatch.setattr(archives, "MAX_UNPACKED", 8 << 20)
    return archives.MAX_UNPACKED


def test_bombs(small_limit: int) -> None:
    """Bounded in time and memory."""
    large = b"Name: x\n" * (metadata.MAX_METADATA // 4)
    assert found("foo-1.0-py3-none-any.whl", zipped({"foo-1.0.dist-info/METADATA": large})) is None
    assert found("foo-1.0.zip", zipped({"foo-1.0/PKG-INFO": large})) is None
    assert found("foo-1.0.tar.gz", tarred({"foo-1.0/PKG-INFO": large})) is None
    assert found("foo-1.0.tar.gz", gzip.compress(b"\0" * (small_limit + (1 << 20)), 1)) is None
    assert found("foo-1.0.tar.gz", tarred({"foo-1.0/big": b"\0" * small_limit})) is None


def test_a_long_name_in_a_tar_is_bounded(small_limit: int) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    header.size = 1 << 40
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = squeezed.compress(header.tobuf(tarfile.GNU_FORMAT))
    for _ in range(2 * small_limit >> 20):
        content += squeezed.compress(b"\0" * (1 << 20))
    assert found("foo-1.0.tar.gz", content + squeezed.flush()) is None


@pytest.mark.e2e
def test_a_huge_directory_of_a_zip_is_not_read() -> None:
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 100 << 20, 0, 0)
    assert found("foo-1.0-py3-none-any.whl", b"x" * 1000 + end) is None
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(70_000):
            archive.writestr(str(number), b"")
        archive.writestr("foo-1.0.dist-info/METADATA", fields("foo", "1.0"))
    assert found("foo-1.0-py3-none-any.whl", many.getvalue()) is not None


def test_fields_cannot_break_a_page_or_a_header() -> None:
    said = found(*wheel("foo", "1.0", 'Requires-Python: >=3"\r\nX-Evil: 1\x00'))
    assert said is not None
    assert said.requires_python == '>=3"'


tar_names = st.text("abü/ .", min_size=1, max_size=300)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    st.lists(st.tuples(st.text("abü/ .", min_size=1, max_size=300), st.integers(0, 2000)), max_size=4),
    st.data(),
)
def test_tar_is_read_as_tarfile_reads_it(
    form: int, files: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Long names, times with fractions, links and directories in between."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form, encoding="utf-8") as archive:
        for name, size in [*files, ("foo-1.0/PKG-INFO", 50), *files]:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = size, data.draw(st.sampled_from([0, 1.5]))
            try:
                archive.addfile(member, io.BytesIO(b"x" * size))
            except ValueError:
                assert form == tarfile.USTAR_FORMAT  # which has no place for such names
            link = tarfile.TarInfo(f"{name}.link")
            link.type, link.linkname = tarfile.SYMTYPE, "b" * 150 if form != tarfile.USTAR_FORMAT else "b"
            try:
                archive.addfile(link)
            except ValueError:
                assert form == tarfile.USTAR_FORMAT
    made.seek(0)
    with tarfile.open(fileobj=made, encoding="utf-8") as archive:
        expected = [(member.name, member.size) for member in archive if member.isreg()]
    tar = archives.Tar(io.BytesIO(gzip.compress(made.getvalue(), 1)), "gz")
    found = [(member.name.rstrip("/"), member.size, tar.read(10)) for member in tar.members()]
    assert [(name, size) for name, size, _ in found] == [(name.rstrip("/"), size) for name, size in expected]
    assert all(content == b"x" * min(size, 10) for _, size, content in found)


@given(
    st.binary(max_size=2000), st.sampled_from(["foo-1.0-py3-none-any.whl", "foo-1.0.zip", "foo-1.0.tar.gz"])
)
def test_garbage_is_nothing(content: bytes, name: str) -> None:
    assert read(io.BytesIO(content), name) is None


@given(st.data())
def test_broken_archives_raise_nothing(data: st.DataObject) -> None:
    name, content = data.draw(st.sampled_from([wheel("foo", "1.0"), sdist("foo", "1.0")]))
    at = data.draw(st.integers(0, len(content) - 1))
    broken = content[:at] + data.draw(st.binary(min_size=1, max_size=30)) + content[at + 1 :]
    read(io.BytesIO(broken), name)


@given(st.binary(max_size=500))
def test_any_metadata_raises_nothing(body: bytes) -> None:
    metadata.parse(body, "foo-1.0.tar.gz")
    metadata.parse(b"Metadata-Version: " + body + b"\nName: x\nVersion: 1\n", "foo-1.0.tar.gz")
