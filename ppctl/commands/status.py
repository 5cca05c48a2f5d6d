"""`ppctl status`: is the index well, in one screen."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ppctl import homes
from ppctl.deployment import Deployment, read_manifest
from ppctl.errors import EXIT_FAILED, EXIT_OK
from ppctl.index import Index
from ppctl.machine import Machine
from ppctl.managers import Process
from ppctl.output import Output, counted
from ppctl.server.text import printable
from ppctl.workers import Report


@dataclass(frozen=True)
class Cache:
    """The cache program; sizes are in bytes. `problem` is "" or what is wrong with the other index."""

    state: str
    answers: bool
    pid: int
    uptime: float
    memory: int
    bytes: int
    max_bytes: int
    url: str
    problem: str


HEALTHY, DEGRADED, DOWN = "healthy", "degraded", "down"


@dataclass(frozen=True)
class Worker:
    """One worker: what its manager says (`state`, `pid`), and what it says itself. `memory` is in bytes."""

    number: int
    state: str
    answers: bool
    pid: int
    uptime: float
    memory: int
    release: str
    current: bool
    detail: str


def status(found: Index, machine: Machine) -> int:
    """Print how the index is. Returns 0 if it is healthy, 1 if it is degraded or down."""
    deployments = read_manifest(machine.host, found.layout).deployments
    if not deployments:
        data = {"health": DOWN, "home": found.home, "workers": [], "problem": "not deployed"}
        machine.out.text(f"{found.settings.name}: down (start it: {homes.command(found.home, 'up')})")
        return machine.out.result(data, exit_code=EXIT_FAILED)
    deployment = deployments[-1]
    workers = look(deployment, machine)
    cache = look_at_cache(deployment, machine)
    problem = machine.answers(deployment.host, deployment.port, f"{found.settings.url_prefix}/health")
    health = _health(workers, cache, problem)
    data = {
        "health": health,
        "name": deployment.name,
        "home": found.home,
        "url": found.settings.url,
        "manager": deployment.manager.value,
        "mode": deployment.mode.value,
        "answers": not problem,
        "problem": problem,
        "workers": [asdict(worker) for worker in workers],
        "cache": asdict(cache) if cache else None,
        **_contents(found, machine),
    }
    _show(data, workers, cache, machine.out)
    return machine.out.result(data, exit_code=EXIT_OK if health == HEALTHY else EXIT_FAILED)


def look(deployment: Deployment, machine: Machine) -> list[Worker]:
    """Return the workers of `deployment` as manager and worker together describe them."""
    reports = machine.reports(deployment)
    processes = {process.number: process for process in machine.manager_of(deployment).processes()}
    target = machine.host.stat(deployment.layout.current)
    release = Path(target.target).name if target else ""
    absent = Process(0, "stopped")
    return [
        _worker(number, processes.get(number, absent), reports.get(number), release)
        for number in sorted({*deployment.numbers, *processes})
    ]


def look_at_cache(deployment: Deployment, machine: Machine) -> Cache | None:
    """Return the cache program as its manager and itself describe it; None where there is none."""
    if not deployment.cache:
        return None
    report = machine.cache_report(deployment)
    process = machine.manager_of(deployment).cache() or Process(0, "stopped")
    started = report.started if report else process.since
    return Cache(
        state=process.state,
        answers=report is not None,
        pid=report.pid if report else process.pid,
        uptime=max(0.0, round(time.time() - started, 1)) if started and process.is_up else 0.0,
        memory=memory_of(report.pid) if report else 0,
        bytes=report.bytes if report else 0,
        max_bytes=report.max_bytes if report else 0,
        url=report.url if report else "",
        problem=report.problem if report else process.detail,
    )


def _worker(number: int, process: Process, report: Report | None, release: str) -> Worker:
    state = "orphan" if report and process.state == "stopped" else process.state
    started = report.started if report else process.since
    return Worker(
        number=number,
        state=state,
        answers=report is not None,
        pid=process.pid or (report.pid if report else 0),
        uptime=max(0.0, round(time.time() - started, 1)) if started and (process.is_up or report) else 0.0,
        memory=sum(memory_of(pid) for pid in (report.pid, report.process)) if report else 0,
        release=report.release if report else "",
        current=report is not None and report.release == release,
        detail="" if report else process.detail,
    )


def memory_of(pid: int) -> int:
    """Return the memory of a process in bytes: its proportional share (PSS, proc(5)), or 0 if unknown."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _health(workers: list[Worker], cache: Cache | None, problem: str) -> str:
    good = [worker for worker in workers if worker.answers and worker.state in ("running", "starting")]
    if problem:
        return DOWN
    return HEALTHY if len(good) == len(workers) and (cache is None or cache.answers) else DEGRADED


def _contents(found: Index, machine: Machine) -> dict[str, object]:
    import shutil

    from ppctl.server import htpasswd

    content = machine.host.read(found.layout.htpasswd) or b""
    users = htpasswd.users(htpasswd.parse(htpasswd.decode(content)))
    usage = shutil.disk_usage(found.layout.packages if found.layout.packages.is_dir() else found.home)
    return {"packages": _count_files(found.layout.packages), "users": len(users), "disk_free": usage.free}


def _count_files(directory: Path) -> int:
    """Return how many package files there are, in sub-directories too; dot files are ppctl's own."""
    import os

    from ppctl.server.spelling import SIDECARS

    count = 0
    for _, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        count += sum(not name.startswith(".") and not name.endswith(SIDECARS) for name in files)
    return count


def _show(data: dict[str, object], workers: list[Worker], cache: Cache | None, out: Output) -> None:
    styles = {HEALTHY: "good", DEGRADED: "warn", DOWN: "bad"}
    health = str(data["health"])
    out.text(f"{data['name']}: {out.style(health, styles[health])}  {data['url']}")
    home = Path(str(data["home"]))
    if workers and all(worker.state == "stopped" for worker in workers):
        out.text(f"  every worker is stopped ({homes.command(home, 'start')} starts them)")
    elif data["problem"]:
        out.text(f"  it does not answer: {data['problem']} ({homes.command(home, 'doctor')} tells more)")
    out.text(f"  home      {data['home']}  ({data['manager']}, {data['mode']})")
    out.text(
        f"  contents  {counted(data['packages'], 'package')}, {counted(data['users'], 'user')},"
        f" {size(data['disk_free'])} free"
    )
    if cache:
        out.text(f"  cache     {printable(_cache_line(cache, homes.command(home, 'logs')))}")
    columns = ("worker", "state", "answers", "pid", "uptime", "memory", "release")
    rows = [
        (
            str(worker.number),
            worker.state,
            "yes" if worker.answers else "no",
            str(worker.pid or "-"),
            duration(worker.uptime) if worker.uptime else "-",
            size(worker.memory) if worker.memory else "-",
            printable(worker.release or worker.detail or "-")
            + ("" if worker.current or not worker.release else " (old)"),
        )
        for worker in workers
    ]
    out.table(columns, rows)


def _cache_line(cache: Cache, logs: str) -> str:
    if not cache.answers:
        return f"{cache.state}, does not answer ({logs} says why): only what is here can be installed"
    kept = f"{size(cache.bytes)} of {size(cache.max_bytes)} from {cache.url}, {size(cache.memory)} memory"
    return f"{kept}; {cache.problem}" if cache.problem else kept


def size(count: object) -> str:
    """Return a number of bytes for people, in powers of 1024."""
    value = float(str(count))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit in ("B", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a time span for people: the two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{value}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or "0s"
