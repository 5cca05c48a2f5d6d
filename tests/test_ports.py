"""Who has a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ppctl import ports
from ppctl.errors import PpctlError


def test_a_free_port(free_port: int) -> None:
    ports.check_free("127.0.0.1", free_port)
    ports.check_free("0.0.0.0", free_port)
    ports.check_free("127.0.0.1", free_port)  # looking leaves nothing behind


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_holder(free_port: int, address: str) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        with pytest.raises(
            PpctlError, match=rf"port: {address}:{free_port} is taken by .*\(pid {os.getpid()}\)"
        ) as e:
            ports.check_free(address, free_port)
        assert f"--port {free_port + 1}" in e.value.hint
        assert f"(pid {os.getpid()})" in ports.holder(free_port)
    assert ports.holder(free_port) == ""


def test_a_holder_that_closes_something_meanwhile_is_found(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server opens and closes files all the time; `ppctl take-over` asks whether it is the one."""
    readlink, closed = Path.readlink, [f"/proc/{os.getpid()}/fd"]

    def look(path: Path) -> Path:
        if closed and str(path.parent) == closed[-1]:
            closed.pop()
            raise FileNotFoundError(path)
        return readlink(path)

    with socket.create_server(("127.0.0.1", free_port)):
        monkeypatch.setattr(Path, "readlink", look)
        assert ports.holder_pid(free_port) == os.getpid()
    assert closed == []


@pytest.mark.e2e
def test_another_index_is_named(free_port: int, tmp_path: Path) -> None:
    (tmp_path / "ppctl.yml").touch()
    code = f"import socket; s = socket.create_server(('127.0.0.1', {free_port})); print(flush=True); input()"
    argv = [sys.executable, "-c", code, str(tmp_path / "supervisord.conf")]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert ports.holder(free_port) == f"the index at {tmp_path} (pid {process.pid})"


def test_a_connection_that_lingers_is_no_obstacle(free_port: int) -> None:
    """TIME_WAIT of an index that was just stopped."""
    with socket.create_server(("127.0.0.1", free_port)) as server:
        client = socket.create_connection(("127.0.0.1", free_port))
        served, _ = server.accept()
        served.close()
        client.close()
    ports.check_free("127.0.0.1", free_port)


def test_an_address_of_somebody_else(free_port: int) -> None:
    with pytest.raises(PpctlError, match=r"host: this machine does not have the address 192\.0\.2\.1"):
        ports.check_free("192.0.2.1", free_port)


def test_ipv6(free_port: int) -> None:
    try:
        server = socket.create_server(("::1", free_port), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, pytest.raises(PpctlError, match=rf"port: ::1:{free_port} is taken by"):
        ports.check_free("::1", free_port)
    ports.check_free("::1", free_port)


def test_the_last_port_suggests_one_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "holder", lambda port: "")
    address = f"127.0.{os.getpid() % 256}.2"  # of this machine like the others, and not likely anybody else's
    with socket.create_server((address, 65535)), pytest.raises(PpctlError) as e:
        ports.check_free(address, 65535)
    assert "only root can name" in e.value.message
    assert "--port 3141" in e.value.hint


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("0.0.0.0:1", "127.0.0.1:11", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("[::]:1", "[::1]:1", True),
        ("[::1]:1", "[::2]:1", False),
    ],
)
def test_overlap(one: str, other: str, overlap: bool) -> None:
    assert ports.overlap(one, other) == ports.overlap(other, one) == overlap
