"""What the daily commands cost, each beside what cannot be had for less on the same machine."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from ppctl.workers import SocketProbe
from tests.e2e import sites
from tests.e2e.sites import Site

TIMES = 7
PASSWORD = "a password for the bench"
COLUMNS = ("what", "median s", "least s", "baseline", "its median s", "ratio", "target s")
TEXT = f"""
The median of {TIMES} runs (the first `up`: 3), a process each, beside a baseline measured in the same run,
in turns with it, so that a busy machine slows both down. *ratio*: median over the baseline's median.
"""
PYTHON = ("python -c pass", (sys.executable, "-c", "pass"))
IMPORTS = ("python: import click, yaml, jinja2", (sys.executable, "-c", "import click, yaml, jinja2"))


def main() -> None:
    """Measure on an embedded index, and write the page."""
    with sites.here(password={"bcrypt_cost": 12}) as site:
        rows = [first_up(site)]
        rows += [
            beside("`ppctl --help`", lambda: site.run(*site.ppctl_argv, "--help"), site, PYTHON, 0.15),
            beside("`ppctl status`", lambda: site.ppctl("status"), site, IMPORTS, 0.3),
            beside("`ppctl up`, nothing to change", lambda: site.ppctl("up"), site, IMPORTS, 0.5),
            adduser(site),
            *(killed(site, which) for which in ("arbiter", "serving")),
        ]
        site.ppctl("destroy", "--yes", "--purge")
    report.write("operating", "Operating", TEXT, COLUMNS, rows)


def beside(
    what: str, work: Callable[[], object], site: Site, baseline: tuple[str, tuple[str, ...]], target: float
) -> list[str]:
    """Measure `work` and a program in turns; returns a row."""
    ours, theirs = [], []
    for _ in range(TIMES):
        theirs.append(seconds(lambda: site.run(*baseline[1])))
        ours.append(seconds(work))
    return row(what, ours, baseline[0], theirs, f"{target:g}")


def first_up(site: Site) -> list[str]:
    """From nothing to the first answer, packages in uv's cache, beside a bare virtualenv of the same."""
    ours, theirs = [], []
    lock = sites.CHECKOUT / "ppctl" / "server" / "requirements.lock"
    bare = f"{site.home}-bare"
    uv = f"{sys.executable} -m uv"
    script = f"{uv} venv -q --clear {bare} && {uv} pip install -q --python {bare}/bin/python -r {lock}"
    site.ppctl("up")  # fills the cache
    for _ in range(3):
        site.ppctl("destroy", "--yes", "--purge")
        site.set(port=site.port, password={"bcrypt_cost": 12})
        theirs.append(seconds(lambda: site.run("sh", "-c", script)))

        def work() -> None:
            site.ppctl("up")
            assert site.get("/simple/") == 200

        ours.append(seconds(work))
    what = "`ppctl up`, first time, to the first answer"
    return row(what, ours, "uv venv, uv pip install of the same packages", theirs, "5")


def adduser(site: Site) -> list[str]:
    bcrypt = "import bcrypt; bcrypt.hashpw(b'x', bcrypt.gensalt(12))"
    ours, theirs = [], []
    for number in range(TIMES):
        theirs.append(seconds(lambda: site.run(sys.executable, "-c", bcrypt)))
        add = ("adduser", f"user{number}", "--password-stdin")
        ours.append(seconds(lambda add=add: site.ppctl(*add, stdin=f"{PASSWORD}\n")))  # type: ignore[misc]
    baseline = statistics.median(theirs)
    return row("`ppctl adduser`", ours, "python: one bcrypt of cost 12", theirs, f"{baseline + 0.2:.2f}")


def killed(site: Site, which: str) -> list[str]:
    """From `kill -9` until the index has all its workers again; new connections are made all the time."""
    ours, theirs, failed, asked = [], [], 0, 0
    for _ in range(TIMES):
        theirs.append(seconds(lambda: site.run(*PYTHON[1])))
        site.wait_until_healthy()
        # One that ends in its first second has not started, to supervisor, which then waits longer each time.
        time.sleep(2)
        pids = site.processes(1)
        began = time.monotonic()
        os.kill(pids[which == "serving"], 9)
        while True:
            asked += 1
            try:
                failed += site.get("/health") != 200
            except OSError:
                failed += 1
            if back(site, pids, which):
                break
        ours.append(time.monotonic() - began)
    what = f"worker killed with -9 ({which}), until it is back; {failed} of {asked} new connections failed"
    return row(what, ours, PYTHON[0], theirs, "2")


def back(site: Site, pids: tuple[int, int], which: str) -> bool:
    """Whether worker 1 answers on its own socket, and not one of the old processes."""
    report = SocketProbe(0.5).report(Path(site.home) / "run" / "worker-1.sock")
    if report is None or report.process == pids[1]:
        return False
    return which == "serving" or report.pid != pids[0]


def row(what: str, ours: list[float], baseline: str, theirs: list[float], target: str) -> list[str]:
    mine, other = statistics.median(ours), statistics.median(theirs)
    return [what, f"{mine:.3f}", f"{min(ours):.3f}", baseline, f"{other:.3f}", f"{mine / other:.1f}", target]


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
