"""What is measured, in turns, and the page that it makes."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.fleet import contenders
from benchmarks.fleet.contenders import Contender
from tests import hosts
from tests.fleet.support import build_wheelhouse

WHAT = {
    "first": "first converge, bare and offline",
    "again": "unchanged converge",
    "adduser": "`adduser`",
    "status": "`status`",
}
COLUMNS = (
    "hosts",
    "what",
    "ppctl s",
    "native Ansible s",
    "pyinfra s",
    "ppctl : native",
    "ppctl : pyinfra",
    "ppctl s a host",
)
TEXT = """
Booted Debian hosts without internet, on this machine, so its cores do the work of the controller and of all
hosts. On every host each contender makes an index of its own, with the same files, units, packages and user:

- ppctl: `ppctl up --on all`, `ppctl adduser --on all`, `ppctl status --on all`, as they come: `up` looks at
  all hosts at once, and brings up those that need it with a canary, then ten at a time.
- native Ansible: a play of 14 tasks (`benchmarks/fleet/recipe/native.yml`: `file`, `template` and so on), and
  plays of one task for the user and for the status. Pipelining, no facts, all hosts at once.
- pyinfra: the same as a deploy (`benchmarks/fleet/recipe/deploy.py`), all hosts at once.

Seconds of one command on the controller. Unchanged converge, adduser and status: the median of several, in
turns, so that a busy machine slows all of them down. The others' status is one request for a page; ppctl asks
every worker, the manager and the disk. Its first converge also installs ppctl, and tries each index with a
real package. A first converge is measured once.
"""
Times = dict[tuple[str, str], float]
"""Seconds, for what and contender."""


def main(counts: Sequence[int]) -> None:
    """Measure with each number of hosts, and write the page."""
    hosts.RUN = f"bench{os.getpid()}"
    rows, found = [], {}
    with tempfile.TemporaryDirectory(prefix="ppctl-bench-") as name:
        folder = Path(name)
        wheelhouse = build_wheelhouse(folder / "wheelhouse")
        for count in counts:
            found[count] = measure(count, folder, wheelhouse)
            rows += table(count, found[count])
    most = max(counts)
    goals = report.markdown(("target", "measured", "met"), targets(most, found[most]))
    text = f"{TEXT}\nTargets, with {most} hosts:\n\n{goals}"
    report.write("fleet", "The fleet", text, COLUMNS, rows)


def measure(count: int, folder: Path, wheelhouse: Path) -> Times:
    """Boot `count` hosts and measure everybody on them."""
    machines = hosts.boot(*[f"h{number}" for number in range(1, count + 1)])
    times: Times = {}
    try:
        made: list[Contender] = []
        for make in (contenders.ppctl, contenders.native, contenders.pyinfra):
            made.append(make(machines, folder, wheelhouse))
            note(times, count, "first", made[-1], [made[-1].run("first")])
            made[-1].check(machines)
            if made[-1].name == "ppctl":
                contenders.take_files(machines[0], folder)
        for what, rounds in (("again", 5), ("adduser", 3), ("status", 3)):
            seconds: dict[str, list[float]] = {each.name: [] for each in made}
            for number in range(rounds):
                for each in made:
                    # With many hosts that takes more than a minute, and is far from the others.
                    if what != "again" or each.name != "native" or count < 10 or number < 2:
                        seconds[each.name].append(each.run("first" if what == "again" else what))
            for each in made:
                note(times, count, what, each, seconds[each.name])
    finally:
        for host in machines:
            host.destroy()
    return times


def note(times: Times, count: int, what: str, contender: Contender, seconds: Sequence[float]) -> None:
    times[what, contender.name] = statistics.median(seconds)
    shown = " ".join(f"{each:.1f}" for each in seconds)
    print(f"{count} hosts, {WHAT[what]}, {contender.name}: {shown}", flush=True)


def table(count: int, times: Times) -> list[list[str]]:
    """Return the rows for one number of hosts."""
    rows = []
    for what, shown in WHAT.items():
        ours, native, pyinfra = (times[what, name] for name in ("ppctl", "native", "pyinfra"))
        seconds = [f"{each:.1f}" for each in (ours, native, pyinfra)]
        ratios = [f"{ours / native:.2f}", f"{ours / pyinfra:.2f}", f"{ours / count:.2f}"]
        rows.append([str(count), shown, *seconds, *ratios])
    return rows


def targets(count: int, times: Times) -> list[list[str]]:
    """Return what was aimed at, what came out, and whether that is it."""
    again = times["again", "ppctl"]
    native, pyinfra = again / times["again", "native"], again / times["again", "pyinfra"]
    adduser, status = (times[what, "ppctl"] / count for what in ("adduser", "status"))
    return [
        ["unchanged converge ≤ 0.3 × native Ansible tasks", f"{native:.2f}", yes(native <= 0.3)],
        ["unchanged converge no slower than pyinfra", f"{pyinfra:.2f}", yes(pyinfra <= 1)],
        ["`adduser --on` ≤ 1 s a host", f"{adduser:.2f}", yes(adduser <= 1)],
        ["`status --on` ≤ 1 s a host", f"{status:.2f}", yes(status <= 1)],
        ["first converge, offline: all healthy, one command", f"{times['first', 'ppctl']:.0f} s", "yes"],
    ]


def yes(met: bool) -> str:
    return "yes" if met else "no"
