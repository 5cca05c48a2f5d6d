"""Packages made on the fly: small enough to read, real enough for twine, pip and uv."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

# A build backend inside the sdist: building it needs nothing but Python, so no index is asked for setuptools.
_BACKEND = """
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make_wheel

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    made = make_wheel.wheel(pathlib.Path(wheel_directory), "{name}", "{version}")
    return made.name
"""


def wheel(folder: Path, name: str, version: str, *, size: int = 0) -> Path:
    """Make a wheel with one module, and with `size` bytes of random data beside it. Returns its path."""
    module = _file_name(name)
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": _metadata(name, version).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if size:
        files[f"{module}_noise.bin"] = os.urandom(size)
    record = [f"{file},sha256={_digest(content)},{len(content)}\n" for file, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


def sdist(folder: Path, name: str, version: str) -> Path:
    """Make an sdist that installs without any build dependency. Returns its path."""
    stem = f"{_file_name(name)}-{version}"
    files = {
        "PKG-INFO": _metadata(name, version).encode(),
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": _BACKEND.format(name=name, version=version).encode(),
        "make_wheel.py": Path(__file__).read_bytes(),
    }
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{stem}/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def _metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: made by a test\n"


def _file_name(name: str) -> str:
    return name.replace("-", "_")


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
