"""Which Python releases are made with, and the uv that makes them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.settings import Server

NOWHERE = "/"
"""Where uv is told to be: in the working directory, and above it, it takes settings and virtualenvs as it
finds them, and whoever has put them into /tmp would say what root, who is there, installs and runs."""


_PATHS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_CACHE_DIR", "UV_CONFIG_FILE", "UV_FIND_LINKS")


def paths_for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the paths that the environment tells uv, absolute: they are meant from where ppctl is called."""
    return {name: os.path.abspath(path) for name in _PATHS if os.path.exists(path := environ.get(name, ""))}


def choose(settings: Server, host: Host, *, is_system: bool) -> str:
    """Return the Python that releases are made with, as a path, or as a version that uv is asked for.

    In system mode the distribution's own: the service account could not reach one in somebody's home.
    """
    if settings.python:
        return settings.python
    if is_system and host.stat(Path("/usr/bin/python3")):
        return "/usr/bin/python3"
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def version_of(python: str, host: Host) -> str:
    """Return the version of `python` (a path or a version). Raises PpctlError if there is none."""
    path = python
    if "/" not in python:
        argv = [find_uv(host), "python", "find", "--no-python-downloads", "--directory", NOWHERE, python]
        done = host.run(argv, check=False)
        path = done.stdout.strip()
        if done.returncode != 0:
            raise PpctlError(
                f"server.python: there is no Python {python} on this machine",
                "install it, or leave the key out",
            )
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        done = host.run([path, "-I", "-c", code], check=False, timeout=30)
    except PpctlError as e:
        raise PpctlError(f"server.python: {e.message}", "leave the key out, or install it") from e
    version = done.stdout.strip()
    if done.returncode != 0 or not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise PpctlError(f"server.python: {path} does not run: {done.stderr.strip()}", "leave the key out")
    if tuple(map(int, version.split(".")[:2])) < (3, 10):
        raise PpctlError(f"server.python: {path} is Python {version}; the server needs 3.10 or newer")
    return version


def find_uv(host: Host) -> str:
    """Return the path of uv: the one installed with ppctl, else the PATH's. Raises PpctlError."""
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = host.which("uv")
    if not found:
        raise PpctlError("uv is not installed; ppctl builds virtualenvs with it", "pip install uv")
    return found
