"""A wheelhouse: everything that hosts without internet install ppctl and its servers from.

ppctl's own wheel is made of the package that runs here, so what is installed on the hosts is what the
operator has tested; no build backend and no published release are needed. All else is resolved and
downloaded by uv and pip, checked by hash.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppctl import __version__, pythons, releases
from ppctl.errors import PpctlError
from ppctl.host import Host

MANIFEST = "wheelhouse.json"
ARCHIVE = "wheelhouse.tar"
LOCK = "ppctl.lock"
VERSION = 1
GLIBC = 28  # 2.28: RHEL 8; Debian 12, Ubuntu 22.04 and RHEL 9 have newer ones
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file can hold
_CONTINUED = " \\\n    "
_METADATA = ("METADATA", "WHEEL", "entry_points.txt")


@dataclass(frozen=True)
class Target:
    """What wheels are for: a version of Python (3.11), an architecture (x86_64), a C library (2.`glibc`)."""

    python: str
    platform: str
    glibc: int = GLIBC

    @property
    def tags(self) -> list[str]:
        """The platform tags that fit, best first (PEP 600, and the names from before it)."""
        tags = [f"manylinux_2_{minor}_{self.platform}" for minor in range(self.glibc, 4, -1)]
        if self.platform in ("x86_64", "i686"):
            return [*tags, f"manylinux2014_{self.platform}", f"manylinux2010_{self.platform}"]
        return [*tags, f"manylinux2014_{self.platform}"]


@dataclass(frozen=True)
class Source:
    """Where wheels come from: the usual index, the one at `index_url`, or only the directory `find_links`."""

    index_url: str = ""
    find_links: str = ""

    @property
    def uv(self) -> list[str]:
        """The options for uv."""
        return ["--default-index", self.index_url] if self.index_url else self._links

    @property
    def pip(self) -> list[str]:
        """The options for pip."""
        return ["--index-url", self.index_url] if self.index_url else self._links

    @property
    def hashes(self) -> tuple[list[str], list[str]]:
        """The options for uv and pip to check hashes: an index tells them, a directory does not."""
        return ([], []) if self.find_links else (["--generate-hashes"], ["--require-hashes"])

    @property
    def _links(self) -> list[str]:
        return ["--no-index", "--find-links", self.find_links] if self.find_links else []


def own_wheel(folder: Path) -> Path:
    """Write the wheel of the ppctl that runs here into `folder`: the same bytes for the same files."""
    distribution = importlib.metadata.distribution("ppctl")
    info = f"ppctl-{__version__}.dist-info"
    files = dict(_package_files())
    for name in _METADATA:
        text = distribution.read_text(name)
        if text is None:
            raise PpctlError(f"ppctl's own metadata lacks {name}", "install ppctl anew")
        files[f"{info}/{name}"] = text.encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    wheel = folder / f"ppctl-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return wheel


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package in order; templates and the collection are links in a checkout."""
    for folder, folders, names in os.walk(releases.PACKAGE, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.endswith(".pyc"):
                yield f"ppctl/{path.relative_to(releases.PACKAGE).as_posix()}", path.read_bytes()


def _record(files: dict[str, bytes], own: str) -> bytes:
    """Return the RECORD of a wheel (packaging.python.org/specifications/recording-installed-packages)."""
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own},,\n"]).encode()


def lock(host: Host, folder: Path, oldest: str, source: Source) -> str:
    """Return the exact versions, for every Python from `oldest` on, of what ppctl itself needs."""
    needed = [line for line in importlib.metadata.requires("ppctl") or [] if "extra ==" not in line]
    wanted = folder / "ppctl.in"
    host.write(wanted, ("\n".join(needed) + "\n").encode(), mode=0o644)
    try:
        done = host.run(
            [
                *(pythons.find_uv(host), "pip", "compile", "--quiet", "--universal"),
                *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
                *("--python-version", oldest, str(wanted), *source.uv),
            ]
        )
    finally:
        host.remove(wanted)
    return done.stdout


def with_hashes(versions: str, folder: Path) -> str:
    """Return the lock file for `versions` and ppctl itself, with the hashes of the wheels in `folder`."""
    hashes: dict[str, list[str]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pin = f"{name.lower().replace('_', '-').replace('.', '-')}=={version}"
        hashes.setdefault(pin, []).append(f"--hash=sha256:{digest}")
    lines = [*versions.splitlines(), f"ppctl=={__version__}"]
    wanted = [(line, hashes.get(line.partition(" ")[0])) for line in lines if not line.startswith("#")]
    # Without a wheel: its marker fits none of the hosts' Pythons.
    return "".join(f"{line} \\\n    {_CONTINUED.join(found)}\n" for line, found in wanted if found)


def download(host: Host, target: Target, locks: Sequence[Path], folder: Path, source: Source) -> None:
    """Download the wheels that `locks` name for `target`. Raises PpctlError when one cannot be had."""
    uv = pythons.find_uv(host)
    for each in locks:
        # pip evaluates markers for the Python that runs it, so uv takes out what does not apply.
        plain = folder / f".{each.name}.{target.python}"
        try:
            host.run(
                [
                    *(uv, "pip", "compile", "--quiet", *source.hashes[0], "--no-header", "--no-annotate"),
                    *("--no-deps", "--python-version", target.python, "--only-binary", ":all:"),
                    *("--no-emit-find-links", "--no-emit-index-url"),
                    *("--python-platform", f"{target.platform}-manylinux_2_{target.glibc}"),
                    *("--output-file", str(plain), str(each)),
                    *source.uv,
                ]
            )
            host.run(
                [
                    *(uv, "tool", "run", *source.uv, "pip"),
                    *("download", "--quiet", "--disable-pip-version-check", "--no-deps", *source.hashes[1]),
                    *("--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python),
                    *(f"--platform={tag}" for tag in target.tags),
                    *("--dest", str(folder), "--requirement", str(plain)),
                    *source.pip,
                ]
            )
        finally:
            host.remove(plain)


def digest_of(files: Iterable[Path]) -> str:
    """Return what identifies a wheelhouse: it changes when any of its files does."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def archive(folder: Path, names: Sequence[str]) -> bytes:
    """Return a tar file of these files: one transfer to a host instead of many."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            content = (folder / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def manifest(targets: Sequence[Target], names: Sequence[str], digest: str) -> bytes:
    """Return the text of wheelhouse.json: what the roles read."""
    data = {
        "version": VERSION,
        "ppctl": __version__,
        "digest": digest,
        "pythons": sorted({target.python for target in targets}),
        "platforms": sorted({target.platform for target in targets}),
        "files": list(names),
    }
    return (json.dumps(data, indent=1) + "\n").encode()
