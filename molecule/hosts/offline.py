"""What hosts without internet install from: Debian packages in /opt/debs, wheels in /opt/wheels.

Both are built on the controller, cached, and bound read-only into the hosts.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path

import base
from shared import HOSTS_DIR, locked, remove, replace, run, uv

PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
# bookworm's C library; wheels made for an older one fit as well, and trixie's is newer.
GLIBC = 36


def debs_dir(suite: str) -> Path:
    """Return the folder that hosts of `suite` see as /opt/debs: one for each base, as it completes that."""
    folder = HOSTS_DIR / "debs" / base.folder(suite).name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "Packages").exists():
        replace(folder / "Packages", "")
    return folder


def debs(suite: str, packages: Sequence[str]) -> Path:
    """Add Debian packages, and whatever they need that the base has not, to /opt/debs of `suite`.

    Returns the folder. Hosts that run already see them after `apt-get update`.
    """
    root, folder, scratch = base.build(suite), debs_dir(suite), HOSTS_DIR / "debs.new"
    with locked(HOSTS_DIR / "debs.lock") as lock:
        if all(any(folder.glob(f"{package}_*.deb")) for package in packages):
            return folder
        remove(scratch)
        download_debs(suite, packages, root, scratch, lock)
        for deb in scratch.glob("cache/archives/*.deb"):
            # Apt writes the colon of an epoch as %3a, and would decode it when it reads the file again.
            deb.replace(folder / deb.name.replace("%3a", "."))
        replace(folder / "Packages", "\n".join(map(stanza, sorted(folder.glob("*.deb")))))
        remove(scratch)
    return folder


def download_debs(suite: str, packages: Sequence[str], root: Path, scratch: Path, lock: int) -> None:
    """Let the machine's apt solve against the packages in `root`, and download into `scratch`/cache."""
    for sub in ("state/lists/partial", "cache/archives/partial"):
        (scratch / sub).mkdir(parents=True)
    (scratch / "sources.list").write_text("\n".join(base.sources(suite)) + "\n")
    options = {
        "Dir::State": scratch / "state",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::SourceList": scratch / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the scratch folder is ours alone
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "--quiet", "--yes", *(f"-o{key}={value}" for key, value in options.items())]
    run(*apt, "update", lock=lock)
    # What the base has already, too: for hosts that it was taken away from.
    run(*apt, "install", "--reinstall", "--download-only", *packages, lock=lock)


def stanza(deb: Path) -> str:
    """Return the entry of one package in a flat repository's index."""
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    control = run("dpkg-deb", "--field", deb)
    return f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"


def wheels(suite: str, requirements: Sequence[str], files: Sequence[Path]) -> Path:
    """Return a folder with wheels of `requirements` and all they need, for the Python of `suite`.

    A file is a requirements file, such as a lock file, or a pyproject.toml. The folder is kept for
    the same requirements and the same content of the files: that is found without the internet.
    Raises HostsError when something cannot be resolved, or has no wheel.
    """
    wanted = "\n".join([PYTHON[suite], *sorted(requirements), *(file.read_text() for file in files)])
    key = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    folder = HOSTS_DIR / "wheels" / f"{suite}-{key}"
    with locked(HOSTS_DIR / "wheels.lock") as lock:
        if not folder.is_dir():
            new = folder.with_suffix(".new")
            remove(new)
            new.mkdir(parents=True)
            listed = new / "requirements.in"
            listed.write_text("\n".join(requirements))
            download_wheels(PYTHON[suite], [listed, *files], new, lock)
            new.rename(folder)
    return folder


def download_wheels(python: str, files: Sequence[Path], folder: Path, lock: int) -> None:
    """Resolve for another Python than ours, then download exactly that.

    Two steps, because `pip download --python-version` evaluates the markers of dependencies for the
    Python that runs it: pypiserver's legacy-cgi would be missing on 3.13.
    """
    arch = platform.machine()
    run(
        *uv(), "pip", "compile", "--quiet", "--generate-hashes", "--only-binary", ":all:",
        "--python-version", python, "--python-platform", f"{arch}-manylinux_2_{GLIBC}",
        "--output-file", folder / "requirements.txt", *files,
        lock=lock,
    )  # fmt: skip
    names = [f"manylinux_2_{minor}_{arch}" for minor in range(GLIBC, 4, -1)]
    names += [f"manylinux{year}_{arch}" for year in (2014, 2010, 1)]
    run(
        *uv(), "tool", "run", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--only-binary", ":all:", "--implementation", "cp", "--python-version", python,
        *(f"--platform={name}" for name in names),
        "--dest", folder, "--requirement", folder / "requirements.txt",
        lock=lock,
    )  # fmt: skip
