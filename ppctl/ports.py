"""Who has a port: asked before an index is started, and by `ppctl doctor`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ppctl.errors import PpctlError
from ppctl.layout import SETTINGS_NAME


def overlap(one: str, other: str) -> bool:
    """Return whether only one process could listen at both of two addresses such as 127.0.0.1:3141."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    everywhere = {"0.0.0.0", "[::]"}  # noqa: S104 - compared, not bound
    return port == other_port and (host == other_host or bool(everywhere & {host, other_host}))


def check_free(address: str, port: int) -> None:
    """Raise PpctlError when nobody could listen at `address`:`port` now, saying why and what to do."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as e:
            raise _problem(e, address, port) from e


def _problem(error: OSError, address: str, port: int) -> PpctlError:
    where = f"{address}:{port}"
    if error.errno == errno.EADDRINUSE:
        return PpctlError(
            f"port: {where} is taken by {holder(port) or 'a process that only root can name'}",
            "stop it, or choose another port in ppctl.yml"
            f" (a new index: make up PORT={_other(port)}, or ppctl init --port {_other(port)})",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PpctlError(f"port: {where}: ports below 1024 need root", "choose another port: `port: 3141`")
    if error.errno == errno.EADDRNOTAVAIL:
        return PpctlError(
            f"host: this machine does not have the address {address}",
            "127.0.0.1 for this machine only, 0.0.0.0 for every network",
        )
    return PpctlError(f"port: cannot listen at {where}: {os.strerror(error.errno or 0)}")


def _other(port: int) -> int:
    return port + 1 if port < 65535 else 3141


def holder(port: int) -> str:
    """Return program and pid of who listens at `port`, '' when that cannot be seen.

    The program of an index under ppctl is the index.
    """
    with contextlib.suppress(OSError):
        if pid := holder_pid(port):
            home = Path(f"/proc/{pid}/cwd").readlink()
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            if f"{home}/" in command and (home / SETTINGS_NAME).is_file():
                return f"the index at {home} (pid {pid})"
            return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
    return ""


def holder_pid(port: int) -> int:
    """Return the pid of a process that listens at `port`, 0 when there is none or it cannot be seen.

    From /proc/net/tcp and tcp6 (proc(5)): the socket's inode, then the process that has it open.
    """
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return _process_with(inodes) if inodes else 0


def _process_with(links: set[str]) -> int:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        if any(link in links for link in _open_in(process)):
            return int(process.name)
    return 0


def _open_in(process: Path) -> Iterator[str]:
    """Yield what a process has open; what is closed while one looks is left out."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield str(descriptor.readlink())
