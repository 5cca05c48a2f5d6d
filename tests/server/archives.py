"""Small package files for tests."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from functools import partial

from ppctl.server import names


def metadata(name: str, version: str, *lines: str, metadata_version: str = "2.4") -> bytes:
    """Return core metadata; `lines` are further fields."""
    fields = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}", *lines]
    return ("\n".join(fields) + "\n\nA description.\n").encode()


def wheel(name: str, version: str, *lines: str, content: bytes = b"") -> tuple[str, bytes]:
    """Return file name and content of a wheel that pip can install."""
    module = name.replace("-", "_").lower()
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": content,
        f"{info}/METADATA": metadata(name, version, *lines),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    return f"{module}-{version}-py3-none-any.whl", zipped({**files, f"{info}/RECORD": record.encode()})


def sdist(name: str, version: str, *lines: str, metadata_version: str = "2.4") -> tuple[str, bytes]:
    """Return file name and content of an sdist."""
    module = name.replace("-", "_").lower()
    body = metadata(name, version, *lines, metadata_version=metadata_version)
    return f"{module}-{version}.tar.gz", tarred({f"{module}-{version}/PKG-INFO": body})


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            # With the time of 1980: the same files make the same archive.
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def tarred(files: dict[str, bytes], kind: str = "gz") -> bytes:
    """Return a packed tar archive of files; `kind` as in `tar.<kind>`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, content in files.items():
            found = tarfile.TarInfo(path)
            found.size = len(content)
            archive.addfile(found, io.BytesIO(content))
    # Packed as fast as can be: nobody wants them small.
    pack = {"bz2": partial(bz2.compress, compresslevel=1), "xz": partial(lzma.compress, preset=0)}
    return pack[kind](made.getvalue()) if kind in pack else gzip.compress(made.getvalue(), mtime=0)


def package(name: str, content: bytes = b"") -> bytes:
    """Return a package file that may be uploaded by this name, with some content."""
    said = names.parse(name)
    assert said, name
    body = metadata(said.pkgname, said.release)
    if name.endswith(".whl"):
        return zipped({f"{said.pkgname}-{said.release}.dist-info/METADATA": body, "content": content})
    if name.endswith(".egg"):
        return zipped({"EGG-INFO/PKG-INFO": body, "content": content})
    top = f"{said.pkgname}-{said.version}"
    files = {f"{top}/PKG-INFO": body, f"{top}/content": content}
    if name.endswith(".zip"):
        return zipped(files)
    return tarred(files, name.rpartition(".")[2])


def source(content: bytes = b"") -> bytes:
    """Return an sdist as it was before there was metadata: it may be uploaded by any name of a `.tar.gz`."""
    return tarred({"any/setup.py": b"", "any/content": content})
