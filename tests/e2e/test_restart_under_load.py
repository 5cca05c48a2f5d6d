"""Ten restarts, a changed setting and a changed password under load, under either manager: nothing is lost.

The transfers are paced so that each spans several stops and starts of workers.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import sites
from tests.e2e.conftest import BootPpctlHost
from tests.e2e.load import Load, expect
from tests.e2e.sites import Site
from tests.server.archives import source

BIG = 50 * 1024 * 1024
# One worker several times in a row: a transfer that the other one is at then spans several restarts.
RESTARTS = (1, 1, 1, 2, 2, 2, 1, 1, 2, 2)
TRANSFER_SECONDS = 6.0
LOGIN = ("steady", "the password of the load")
ROTATING = "rotating"
SETTINGS: dict[str, object] = {
    "login": ["list", "download", "upload"],
    "password": {"bcrypt_cost": 10},
    "threads": 8,
}


class Rotation:
    """A user whose password changes: the old one is good until the change has begun, the new one after."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.password = "the first password"
        self.changing: str | None = None
        self._lock = threading.Lock()
        site.ppctl("adduser", ROTATING, "--password-stdin", stdin=f"{self.password}\n")

    def change(self, new: str) -> None:
        with self._lock:
            old, self.changing = self.password, new
        self.site.ppctl("passwd", ROTATING, "--password-stdin", stdin=f"{new}\n")
        with self._lock:
            self.password, self.changing = new, None
        assert {self.site.get("/simple/", (ROTATING, old)) for _ in range(8)} == {401}

    def use(self) -> None:
        with self._lock:
            good, settled = self.password, self.changing is None
        status = self.site.get("/simple/foo/", (ROTATING, good))
        with self._lock:
            settled = settled and self.changing is None and self.password == good
        if settled:
            expect(status)
        elif status not in (200, 401):
            raise AssertionError(f"status {status} while the password changed")


def ten_restarts_lose_nothing(site: Site, tmp_path: Path, **settings: object) -> None:
    content = source(os.urandom(BIG))
    site.set(port=site.port, **{**SETTINGS, **settings})
    site.ppctl("up")
    site.ppctl("adduser", LOGIN[0], "--password-stdin", stdin=f"{LOGIN[1]}\n")
    rotation = Rotation(site)
    load = Load(site.address, site.port, LOGIN)
    load.upload("foo-1.0.tar.gz", source(b"foo"))
    load.upload("big-1.0.tar.gz", content)
    load.new_connections("/simple/foo/", per_second=120)
    # Three seconds: longer than gunicorn lets idle connections live when it stops.
    load.kept_alive("/simple/foo/", [0.02, 0.05, 0.3, 1.0, *[3.0] * 4])
    load.downloads("/packages/big-1.0.tar.gz", hashlib.sha256(content).hexdigest(), TRANSFER_SECONDS)
    uploaded = load.uploads(content, TRANSFER_SECONDS)
    load.run_beside("rotating", rotation.use, pause=0.05)
    before = {worker["pid"] for worker in site.workers()}
    stopped: list[float] = []
    with load.running():
        time.sleep(1)
        for step, worker in enumerate(RESTARTS):
            if step == 3:
                site.set(port=site.port, **{**SETTINGS, **settings, "threads": 6})
                assert [c["action"] for c in site.report("up")["changes"]].count("restart") == 2
            if step == 6:
                rotation.change("the second password")
            stopped.append(time.monotonic())
            site.ppctl("restart", "--worker", str(worker))
    spanned = [sum(begin < at < end for at in stopped) for begin, end in load.transfers]
    print(f"{dict(load.done)}, p99 {load.quantile(0.99):.3f} s, restarts spanned by transfers: {spanned}")
    assert load.failures == []
    assert before.isdisjoint(worker["pid"] for worker in site.workers())
    assert min(load.done[client] for client in ("new", "kept", "rotating")) > 100
    assert min(load.done["download"], len(uploaded)) > 2
    digest = hashlib.sha256(content).hexdigest()
    packages = f"{site.home}/packages"
    sums = site.run("sh", "-c", f"cd {packages} && sha256sum big-1.0.tar.gz up-*").stdout.splitlines()
    assert sorted(sums) == sorted(f"{digest}  {name}" for name in ["big-1.0.tar.gz", *uploaded])


@pytest.mark.e2e
def test_under_supervisor(tmp_path: Path) -> None:
    with sites.here() as site:
        ten_restarts_lose_nothing(site, tmp_path)


@pytest.fixture
def host_site(boot_ppctl_host: BootPpctlHost) -> Iterator[Site]:
    yield sites.on_host(boot_ppctl_host("load"), "/srv/pypi")


@pytest.mark.hosts
def test_under_systemd(host_site: Site, tmp_path: Path) -> None:
    ten_restarts_lose_nothing(
        host_site,
        tmp_path,
        host="0.0.0.0",
        mode="system",
        manager="systemd",
        server={"find_links": "/opt/wheels"},
    )
