"""The machine as the engine sees it: host, managers and workers, each replaceable in tests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ppctl import homes, managers, ports, signals
from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.managers import Manager, Process
from ppctl.output import Output
from ppctl.workers import CacheReport, Probe, Report, SocketProbe, answers_at

READY_SECONDS = 45.0
POLL_SECONDS = 0.05
LOG_LINES = 15


class WorkerFailed(PpctlError):
    """A worker did not come up; the message ends with the tail of its log."""


def _names_at(url: str, login: bytes | None) -> frozenset[str]:
    from ppctl import elsewhere  # an HTTP client, which only `ppctl doctor --upstream` needs

    return elsewhere.names_at(url, login)


@dataclass
class Machine:
    """Everything that applying a plan touches."""

    host: Host
    out: Output = field(default_factory=Output)
    manager: Callable[[Deployment, Host], Manager] = managers.get
    probe: Probe = field(default_factory=SocketProbe)
    answers: Callable[[str, int, str], str] = answers_at
    check_port: Callable[[str, int], None] = ports.check_free
    names_at: Callable[[str, bytes | None], frozenset[str]] = _names_at

    def manager_of(self, deployment: Deployment) -> Manager:
        """Return the manager of `deployment`."""
        return self.manager(deployment, self.host)

    def reports(self, deployment: Deployment) -> dict[int, Report]:
        """Return what the workers of `deployment` say of themselves, by number; silent ones are left out."""
        found = {n: self.probe.report(deployment.layout.worker_socket(n)) for n in deployment.numbers}
        return {number: report for number, report in found.items() if report}

    def cache_report(self, deployment: Deployment) -> CacheReport | None:
        """Return what the cache program of `deployment` says of itself, None when there is no answer."""
        return self.probe.cache(deployment.layout.cache_socket) if deployment.cache else None

    def restart_cache(self, deployment: Deployment, wanted: tuple[str, str] | None = None) -> None:
        """Start the cache program anew and wait until it answers; `wanted`: from this generation and release.

        Raises PpctlError when it does not in time. What is here is served without it.
        """
        if wanted and self._cache_runs(deployment, wanted):
            return  # supervisord has started it with the workers
        with self._finishing(managers.label(managers.CACHE)):
            self.manager_of(deployment).load_cache()
        self.wait_cache(deployment, wanted)

    def wait_cache(self, deployment: Deployment, wanted: tuple[str, str] | None = None) -> None:
        """Wait until the cache program answers. Raises PpctlError when it does not in time."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._cache_runs(deployment, wanted):
                return
            time.sleep(POLL_SECONDS)
        raise PpctlError(
            f"the cache of index {deployment.name} does not answer. Its log ends with:\n"
            + self.manager_of(deployment).log(managers.CACHE, LOG_LINES),
            f"mend the cause, then run: {homes.command(deployment.layout.home, 'up')}",
        )

    def _cache_runs(self, deployment: Deployment, wanted: tuple[str, str] | None) -> bool:
        report = self.cache_report(deployment)
        return report is not None and wanted in (None, (report.generation, report.release))

    def restart_worker(
        self, deployment: Deployment, number: int, *, prefix: str = "", wanted: tuple[str, str] | None = None
    ) -> None:
        """Restart one worker gracefully and wait until it serves. Raises WorkerFailed."""
        manager = self.manager_of(deployment)
        with self._finishing(managers.label(number)):
            try:
                manager.stop(number)
            except PpctlError:
                # A manager that answers late may have heard it all the same, and stops it yet.
                with contextlib.suppress(PpctlError):
                    manager.start(number)
                raise
            manager.start(number)
        self.wait_ready(deployment, number, prefix=prefix, wanted=wanted)

    @contextlib.contextmanager
    def _finishing(self, name: str) -> Iterator[None]:
        """Let Ctrl-C wait until what is stopped here is started again; a second one does not wait.

        Raises KeyboardInterrupt at the end of the block if there was a Ctrl-C, or what counts as one.
        """
        typed = False

        def note(*_: object) -> None:
            nonlocal typed
            if typed:
                raise KeyboardInterrupt
            typed = True
            self.out.progress(f"interrupted: {name} is started again first")

        with signals.handled(note):
            try:
                yield
            except PpctlError:
                if not typed:  # who ends ppctl may have ended systemctl, too
                    raise
        if typed:
            raise KeyboardInterrupt

    def wait_ready(
        self, deployment: Deployment, number: int, *, prefix: str = "", wanted: tuple[str, str] | None = None
    ) -> None:
        """Wait until worker `number` serves the index; `wanted`: from this generation and release.

        Raises WorkerFailed when its manager gives up on it or it does not serve in time.
        """
        socket = deployment.layout.worker_socket(number)
        deadline = time.monotonic() + READY_SECONDS
        problem = "it does not answer"
        failures = 0
        starts: set[int] = set()
        while time.monotonic() < deadline:
            report = self.probe.report(socket)
            if report and (wanted is None or (report.generation, report.release) == wanted):
                problem = self.probe.serves(socket, prefix)
                if not problem:
                    return
            elif process := self._process(deployment, number):
                if process.state == "stopping":  # its manager starts it when it has finished its transfers
                    deadline = time.monotonic() + READY_SECONDS
                # supervisord calls it failed only where it ends within a second: a slow machine takes longer.
                starts |= {process.pid} - {0}
                failures += process.state == "failed"
                if max(failures, len(starts)) >= 3:  # not the moment between two states
                    problem = "it ends as soon as it starts"
                    break
            time.sleep(POLL_SECONDS)
        raise WorkerFailed(
            f"worker {number} of index {deployment.name} does not serve: {problem}. Its log ends with:\n"
            + self.manager_of(deployment).log(number, LOG_LINES),
            f"mend the cause, then run: {homes.command(deployment.layout.home, 'up')}",
        )

    def _process(self, deployment: Deployment, number: int) -> Process | None:
        """Return the worker as its manager sees it; None also when that does not answer just now."""
        try:
            processes = self.manager_of(deployment).processes()
        except PpctlError:
            return None
        return next((process for process in processes if process.number == number), None)

    def wait_public(self, deployment: Deployment, prefix: str) -> None:
        """Wait until the index answers at its own address. Raises PpctlError."""
        deadline = time.monotonic() + READY_SECONDS
        while problem := self.answers(deployment.host, deployment.port, f"{prefix}/health"):
            if time.monotonic() > deadline:
                raise PpctlError(
                    f"the workers run, but {deployment.host}:{deployment.port} does not answer: {problem}",
                    homes.command(deployment.layout.home, "doctor"),
                )
            time.sleep(POLL_SECONDS)
