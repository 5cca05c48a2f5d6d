"""Where hosts install from: our own mirror. (A wheelhouse: every other test. The internet: not tested.)"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ppctl import __version__
from tests import hosts
from tests.fleet.support import SITE, inventory, play
from tests.hosts import TestHost

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]


class Mirror(SimpleHTTPRequestHandler):
    """A static index; remembers what was asked for."""

    asked: list[str] = []  # noqa: RUF012 - one mirror in this module

    def log_message(self, format: str, *args: object) -> None:
        self.asked.append(self.path)


@pytest.fixture(scope="module")
def host() -> Iterator[TestHost]:
    hosts.ensure_tools()
    (booted,) = hosts.boot("mirrored", suite="trixie")
    try:
        yield booted
    finally:
        booted.destroy()


@pytest.fixture(scope="module")
def mirror(host: TestHost, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an index with the wheels of the wheelhouse, at an address that only the hosts reach."""
    root = tmp_path_factory.mktemp("mirror")
    for wheel in wheelhouse.glob("*.whl"):
        project = root / "simple" / wheel.name.split("-")[0].lower().replace("_", "-").replace(".", "-")
        project.mkdir(parents=True, exist_ok=True)
        (project / wheel.name).symlink_to(wheel)
    controller = host.ip.rpartition(".")[0] + ".1"
    server = ThreadingHTTPServer((controller, 0), functools.partial(Mirror, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{controller}:{server.server_port}/simple/"
    finally:
        server.shutdown()
        server.server_close()


PYPI = {"name": "pypi", "settings": {"port": 3141, "manager": "systemd"}}


def variables(mirror: str, *indexes: dict[str, object]) -> dict[str, object]:
    return {
        "ppctl_host_index_url": mirror,
        "ppctl_host_requirement": f"ppctl=={__version__}",
        "ppctl_indexes": list(indexes),
    }


def test_ppctl_and_the_server_come_from_our_own_mirror(host: TestHost, mirror: str, tmp_path: Path) -> None:
    address = mirror.split("/")[2].partition(":")[0]
    host.put(f"[global]\ntrusted-host = {address}\n".encode(), "/etc/pip.conf")
    path = inventory(tmp_path / "hosts.yml", [host], variables(mirror, PYPI))
    first = play(SITE, path)
    assert first.code == 0, first.out[-3000:]
    assert '"healthy"' in host.run("ppctl", "status", "--json").stdout
    for name in ("ppctl", "pypiserver", "gunicorn"):
        assert f"/simple/{name}/" in Mirror.asked
    assert f"index_url: {mirror}" in host.read("/srv/pypi/ppctl.yml").replace('"', "")
    assert play(SITE, path).changed() == {host.name: 0}


def test_an_index_takes_the_place_of_one_that_leaves(host: TestHost, mirror: str, tmp_path: Path) -> None:
    """Its port is taken as long as the other one is there: check mode knows better."""
    indexes = ({**PYPI, "name": "next"}, {"name": "pypi", "state": "absent"})
    path = inventory(tmp_path / "hosts.yml", [host], variables(mirror, *indexes))
    told = play(SITE, path, "--check", "--diff")
    assert told.code == 0 and told.changed() == {host.name: 1}, told.out[-3000:]
    assert "after the removal of another index" in told.out and "destroy /srv/pypi" in told.out
    done = play(SITE, path)
    assert done.code == 0 and done.changed() == {host.name: 1}, done.out[-3000:]
    assert host.run("ppctl", "status", "--home", "/srv/next").returncode == 0
    assert play(SITE, path).changed() == {host.name: 0}
