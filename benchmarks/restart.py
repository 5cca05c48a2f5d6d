"""Ten restarts under the same load: stock pypiserver, pypiserver under gunicorn, and ppctl's two managers."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import report, stock
from tests import hosts
from tests.e2e import sites
from tests.e2e.load import Load, Login
from tests.e2e.sites import Site
from tests.server.archives import source

RESTARTS = 10
PAUSE = 0.5
BIG = 50 * 1024 * 1024
TRANSFER_SECONDS = 2.5
PER_SECOND = 120
LOGIN: Login = ("bench", "a password for the bench")
SETTINGS = {"password": {"bcrypt_cost": 10}}

PYPI_SERVER = "{bin}/pypi-server run -i 127.0.0.1 -p {{port}} -P {{htpasswd}} -a update {{packages}}"
GUNICORN = (
    "{bin}/gunicorn --bind 127.0.0.1:{{port}} --workers 2 --threads 8 --graceful-timeout 60"
    """ "pypiserver:app(roots=['{{packages}}'], password_file='{{htpasswd}}', authenticate=['update'])" """
)
COLUMNS = ("", "requests", "failed", "refused", "p50 ms", "p99 ms", "transfers", "cut", "restart s")
TEXT = f"""
{RESTARTS} restarts, {PAUSE:g} s apart, while clients that never retry ask for a project's page: {PER_SECOND}
new connections a second and kept-alive ones. One 50 MB download and one 50 MB upload are always under way,
each spread over {TRANSFER_SECONDS:g} s. *failed*: requests for pages without an answer of 200; *refused*:
requests of any kind that found nobody listening; *cut*: transfers that broke off; *restart*: how long one
takes, mostly waiting for the transfers. p50 and p99 count the answered requests for pages only.
"""


def main() -> None:
    """Run the contenders one after the other, and write the page."""
    content = source(os.urandom(BIG))
    folder = Path(tempfile.mkdtemp(prefix="ppctl-bench-"))
    rows = []
    try:
        programs = stock.virtualenv(folder)
        for name, command in (("pypi-server", PYPI_SERVER), ("gunicorn", GUNICORN)):
            with stock.running(folder / name, command.format(bin=programs), LOGIN) as server:
                title = f"{name}, `supervisorctl restart`"
                rows.append(measure(title, "127.0.0.1", server.port, server.restart, content))
        with sites.here(**SETTINGS) as site:
            rows.append(of_ppctl("ppctl, supervisor", site, content))
        if os.geteuid() == 0 and hosts.hosts("check").returncode == 0:
            rows.append(on_a_host(folder, content))
    finally:
        shutil.rmtree(folder)
    report.write("restart", "Restarts under load", TEXT, COLUMNS, rows)


def of_ppctl(title: str, site: Site, content: bytes) -> list[str]:
    site.ppctl("up")
    site.ppctl("adduser", LOGIN[0], "--password-stdin", stdin=f"{LOGIN[1]}\n")
    return measure(title, site.address, site.port, lambda: site.ppctl("restart"), content)


def on_a_host(folder: Path, content: bytes) -> list[str]:
    """Measure ppctl under systemd, in a booted host."""
    files = [hosts.CHECKOUT / "pyproject.toml", stock.LOCK]
    (host,) = hosts.boot("bench", wheels=hosts.wheelhouse(files=files))
    try:
        hosts.install_ppctl(host, hosts.build_wheel(folder))
        site = sites.on_host(host, "/srv/pypi")
        server = {"find_links": "/opt/wheels"}
        site.set(port=3141, host="0.0.0.0", mode="system", manager="systemd", server=server, **SETTINGS)
        return of_ppctl("ppctl, systemd", site, content)
    finally:
        host.destroy()


def measure(title: str, address: str, port: int, restart: Callable[[], object], content: bytes) -> list[str]:
    """Restart under load; returns a row of the table."""
    print(f"{title} ...", flush=True)
    load = Load(address, port, LOGIN)
    load.upload("foo-1.0.tar.gz", source(b"foo"))
    load.upload("big-1.0.tar.gz", content)
    load.new_connections("/simple/foo/", PER_SECOND)
    load.kept_alive("/simple/foo/", [0.02, 0.05, 0.3, 1.0])
    load.downloads("/packages/big-1.0.tar.gz", hashlib.sha256(content).hexdigest(), TRANSFER_SECONDS)
    load.uploads(content, TRANSFER_SECONDS)
    taken = []
    with load.running():
        time.sleep(PAUSE)
        for _ in range(RESTARTS):
            began = time.monotonic()
            restart()
            taken.append(time.monotonic() - began)
            time.sleep(PAUSE)
    for (client, reason), count in Counter((f.client, f.reason) for f in load.failures).most_common(5):
        print(f"    {count} x {client}: {reason}", flush=True)
    small = [failure for failure in load.failures if failure.client in ("new", "kept")]
    refused = [failure for failure in load.failures if "Refused" in failure.reason]
    whole = load.done["download"] + load.done["upload"]
    # A transfer that finds nobody is tried again at once, and again: that is a refusal, not a cut.
    cut = [f for f in load.failures if f.client in ("download", "upload") and f not in refused]
    return [
        title,
        str(load.done["new"] + load.done["kept"] + len(small)),
        str(len(small)),
        str(len(refused)),
        f"{load.quantile(0.5) * 1000:.1f}",
        f"{load.quantile(0.99) * 1000:.1f}",
        str(whole + len(cut)),
        str(len(cut)),
        f"{sum(taken) / len(taken):.1f}",
    ]
