"""`ppctl start`, `stop`, `restart` and `logs`: the processes of an index that is deployed."""

from __future__ import annotations

import contextlib

from ppctl import homes, index
from ppctl.deployment import Deployment, deployed
from ppctl.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from ppctl.index import Index
from ppctl.machine import Machine
from ppctl.managers import CACHE, label
from ppctl.server.text import printable_lines
from ppctl.settings import ManagerName


def start(asked: Index, machine: Machine, *, wait: bool) -> int:
    """Start the workers that do not run, and wait until they serve. Returns the exit code."""
    with index.locked(asked, machine.host, purpose="ppctl start", wait=wait) as found:
        deployment = deployed(machine.host, found.layout)
        silent = sorted(set(deployment.numbers) - set(machine.reports(deployment)))
        no_cache = deployment.cache and machine.cache_report(deployment) is None
        if silent or no_cache:
            machine.manager_of(deployment).start_all()
        _wait_for(found, deployment, machine, silent)
        if no_cache:
            machine.wait_cache(deployment)
    machine.out.info("started" if silent or no_cache else "nothing to do: every worker runs")
    return machine.out.result({"changed": bool(silent or no_cache), "workers": silent})


def stop(asked: Index, machine: Machine, *, wait: bool) -> int:
    """Stop every worker gracefully and close the socket. Returns the exit code."""
    with index.locked(asked, machine.host, purpose="ppctl stop", wait=wait) as found:
        deployment = deployed(machine.host, found.layout)
        manager = machine.manager_of(deployment)
        running = [process.number for process in manager.processes() if process.state != "stopped"]
        if running:
            machine.out.progress(f"stopping; transfers in flight get up to {found.settings.stop_timeout} s")
            manager.stop_all()
    again = homes.command(found.home, "start")
    machine.out.info(f"stopped; `{again}` starts it again" if running else "nothing to do: no worker runs")
    return machine.out.result({"changed": bool(running), "workers": running})


def restart(asked: Index, machine: Machine, *, numbers: tuple[int, ...], wait: bool) -> int:
    """Restart the workers (`numbers`; none: all) one by one while the others answer. Returns the exit code.

    Raises WorkerFailed for the first that does not come back; the others are then left running.
    """
    with index.locked(asked, machine.host, purpose="ppctl restart", wait=wait) as found:
        deployment = deployed(machine.host, found.layout)
        wanted = _numbers(deployment, numbers)
        answering = machine.reports(deployment)
        if not answering:
            machine.out.progress("no worker runs: starting them all")
            machine.manager_of(deployment).start_all()
            _wait_for(found, deployment, machine, wanted)
            if deployment.cache:
                machine.wait_cache(deployment)
        else:
            if deployment.cache and not numbers:
                machine.out.progress("restart  cache")
                machine.restart_cache(deployment)
            # Those that do not answer first: never take away one of the last ones that do.
            for number in sorted(wanted, key=lambda n: (n in answering, n)):
                machine.out.progress(f"restart  worker {number}")
                machine.restart_worker(deployment, number, prefix=found.settings.url_prefix)
        machine.wait_public(deployment, found.settings.url_prefix)
    machine.out.info(f"restarted: worker {', '.join(map(str, wanted))}")
    return machine.out.result({"changed": True, "workers": wanted})


def logs(found: Index, machine: Machine, *, numbers: tuple[int, ...], lines: int, follow: bool) -> int:
    """Print the last `lines` lines of the workers' logs; with `follow` go on until interrupted."""
    deployment = deployed(machine.host, found.layout)
    manager = machine.manager_of(deployment)
    wanted = [*_numbers(deployment, numbers), *([CACHE] if deployment.cache and not numbers else [])]
    if follow:
        # Ctrl-C is how one ends this: there is nothing to say about it.
        with contextlib.suppress(KeyboardInterrupt), manager.follow(wanted, lines) as written:
            for line in written:
                machine.out.text(printable_lines(line))
            return EXIT_OK
        return EXIT_INTERRUPTED
    found_logs = {number: manager.log(number, lines).splitlines() for number in wanted}
    if not any(found_logs.values()):
        _explain_silence(deployment, machine)
    for number, log in found_logs.items():
        for line in log:
            machine.out.text(f"{label(number)}: {printable_lines(line)}")
    cache = found_logs.pop(CACHE, None)
    data: dict[str, object] = {"logs": [{"worker": n, "lines": log} for n, log in found_logs.items()]}
    return machine.out.result(data if cache is None else {**data, "cache": cache})


def _explain_silence(deployment: Deployment, machine: Machine) -> None:
    if deployment.manager is ManagerName.SYSTEMD and not deployment.is_system:
        machine.out.warn(
            "the journal shows nothing to this user: it is kept in memory only, and the system's journal is "
            f"for the group systemd-journal: sudo usermod -aG systemd-journal {machine.host.user()}"
        )


def _numbers(deployment: Deployment, numbers: tuple[int, ...]) -> list[int]:
    for number in numbers:
        if number not in deployment.numbers:
            raise UsageError(f"--worker {number}: this index has workers 1 to {deployment.workers}")
    return sorted(set(numbers)) or list(deployment.numbers)


def _wait_for(found: Index, deployment: Deployment, machine: Machine, numbers: list[int]) -> None:
    for number in numbers:
        machine.wait_ready(deployment, number, prefix=found.settings.url_prefix)
