"""The changes of a plan that make the manager, the workers and the cache program what they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppctl.changes import Change, LeaveDeployment, LoadManager, RestartCache, RestartWorker
from ppctl.desired import Desired
from ppctl.machine import Machine


@dataclass(frozen=True)
class Situation:
    """What the rest of the plan means for the processes."""

    prefix: str
    manager_files_change: bool
    moves: bool


def moves(leave: list[Change]) -> bool:
    """Whether the workers that run now are stopped earlier in the plan."""
    return any(isinstance(change, LeaveDeployment) for change in leave)


def touches_manager(files: list[Change], desired: Desired) -> bool:
    """Whether the plan writes a file of the manager (all that lie outside the home)."""
    home = desired.deployment.home
    return any(not Path(change.target).is_relative_to(home) for change in files)


def workers(desired: Desired, machine: Machine, situation: Situation) -> Iterator[Change]:
    """Yield what makes the workers run what is desired: the manager first, then each of them."""
    deployment = desired.deployment
    wanted = (desired.generation, desired.release.id)
    manager = machine.manager_of(deployment)
    reports = {} if situation.moves else machine.reports(deployment)
    running = {process.number for process in manager.processes() if process.is_up}
    pending = manager.pending(desired.unit, reports, files_change=situation.manager_files_change)
    replaced = pending is not None and pending.restarts_workers
    silent = [number for number in deployment.numbers if number not in reports]
    hung = [number for number in silent if number in running]
    if pending:
        yield LoadManager(
            "start" if not reports else "reload",
            f"{deployment.manager.value}: {deployment.name}",
            pending.summary,
            interrupts=pending.interrupts,
            deployment=deployment,
            pending=pending,
            wait_for=tuple(deployment.numbers if replaced else sorted(set(silent) - set(hung))),
            wanted=wanted,
            prefix=situation.prefix,
        )
    if replaced:
        return
    stale = [n for n, r in reports.items() if (r.generation, r.release, r.unit) != (*wanted, desired.unit)]
    # Those that do not answer first: never take one of the last ones that do.
    for number in [*(hung if pending else silent), *stale]:
        yield RestartWorker(
            "restart",
            f"worker {number}",
            "it runs older settings" if number in stale else "it does not answer",
            deployment=deployment,
            number=number,
            wanted=wanted,
            prefix=situation.prefix,
        )


def cache(desired: Desired, machine: Machine, situation: Situation) -> Iterator[Change]:
    """Yield what starts the cache program, after the workers: what is here does not wait for it."""
    deployment = desired.deployment
    if not deployment.cache:
        return
    wanted = (desired.cache_generation, desired.release.id)
    report = None if situation.moves else machine.cache_report(deployment)
    process = machine.manager_of(deployment).cache()
    is_current = report is not None and (report.generation, report.release) == wanted
    if not is_current or process is None or not process.is_up:
        yield RestartCache(
            "restart" if report else "start",
            "cache",
            "it runs older settings" if report else "",
            deployment=deployment,
            wanted=wanted,
        )
