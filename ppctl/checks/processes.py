"""Checks of what runs: the manager's view, and the workers' own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ppctl import releases
from ppctl.checks.base import Finding, NotApplicable, Subject, is_refusal, listed, problem, warning
from ppctl.checks.programs import supervisor_unit
from ppctl.errors import PpctlError
from ppctl.settings import ManagerName
from ppctl.workers import Report

_GENERATION = re.compile(rb"^PPCTL_GENERATION=(\S*)$", re.MULTILINE)


def manager(subject: Subject) -> Iterator[Finding]:
    """The manager can be asked, and has every worker running."""
    running = subject.running
    where = f"{running.manager.value}: {running.name}"
    try:
        processes = {process.number: process for process in subject.processes}
    except PpctlError as e:
        if is_refusal(e):
            raise
        yield problem(e.message, where=where, mend=e.hint or subject.ppctl("up"))
        return
    if not processes:
        orphans = [report.pid for report in subject.reports.values()]
        rest = f"; workers without it still run (pid {listed(orphans)})" if orphans else ""
        yield problem(
            f"{running.manager.value} does not run, or does not know the index{rest}",
            where=where,
            mend=_start(subject),
        )
        return
    for number in running.numbers:
        process = processes.get(number)
        if process is None or not process.is_up:
            state = process.state if process else "unknown to it"
            detail = f" ({process.detail})" if process and process.detail else ""
            mend = subject.ppctl("start") if state == "stopped" else subject.ppctl("up")
            yield problem(f"worker {number} is {state}{detail}", where=where, mend=mend)
    surplus = sorted(set(processes) - set(running.numbers))
    if surplus:
        mend = subject.ppctl("up")
        yield warning(f"more workers than the settings have: {listed(surplus)}", where=where, mend=mend)


def _start(subject: Subject) -> str:
    """Return what starts workers that do not run: `up`, or first what it needs."""
    return _start_supervisord(subject) or subject.ppctl("up")


def _start_supervisord(subject: Subject) -> str:
    """Return what starts the machine's supervisord if that is what is missing; `up` does not touch it."""
    if not subject.running.is_system or subject.running.manager is not ManagerName.SUPERVISOR:
        return ""
    unit, shown = supervisor_unit(subject.host)
    down = bool(unit) and shown.get("ActiveState") != "active"
    return subject.as_root(f"systemctl start {unit}") if down else ""


def cache(subject: Subject) -> Iterator[Finding]:
    """The cache program answers, and reaches the other index."""
    if subject.deployment is None or not subject.deployment.cache:
        raise NotApplicable
    report = subject.machine.cache_report(subject.deployment)
    if report is None:
        yield problem(
            "it does not answer: only what is here and what was fetched already can be installed",
            where=subject.layout.cache_socket,
            mend=f"{subject.ppctl('logs')} says why; {subject.ppctl('up')}",
        )
    elif report.problem:
        yield warning(f"the other index: {report.problem}", where=f"{subject.layout.settings}: upstream_url")


def workers(subject: Subject) -> Iterator[Finding]:
    """Every worker answers, serves the index, and was started from what is on disk; so does the address."""
    if subject.deployment is None:
        begun = "the first `up` was not finished; the same again says why, or finishes it"
        message = begun if subject.is_unfinished else "the index is not up"
        yield problem(message, where=subject.layout.home, mend=subject.ppctl("up"))
        return
    running, prefix = subject.deployment, subject.settings.url_prefix
    script = _GENERATION.search(subject.host.read(subject.layout.run_script) or b"")
    wanted = (script[1].decode() if script else "", releases.current(subject.layout, subject.host))
    for number in running.numbers:
        socket = subject.layout.worker_socket(number)
        report = subject.reports.get(number)
        wrong = subject.machine.probe.serves(socket, prefix) if report else "it does not answer"
        if report is None or wrong:
            # A silent one may be unknown to its manager; `up` finds out what is missing.
            mend = subject.ppctl("restart", "--worker", str(number)) if report else _start(subject)
            yield problem(f"worker {number}: {wrong}; see `{subject.ppctl('logs')}`", where=socket, mend=mend)
        elif old := _outdated(report, wanted):
            yield warning(f"worker {number} still runs {old}", where=socket, mend=subject.ppctl("up"))
    wrong = subject.machine.answers(running.host, running.port, f"{prefix}/health")
    if wrong:
        yield problem(
            f"{running.host}:{running.port} does not answer: {wrong}",
            where=subject.layout.home,
            mend=_start(subject),
        )


def _outdated(report: Report, wanted: tuple[str, str]) -> str:
    if wanted[1] and report.release != wanted[1]:
        return f"the release {report.release}; the current one is {wanted[1]}"
    return "older settings" if report.generation != wanted[0] else ""
