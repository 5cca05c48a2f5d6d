"""What is measured, of whom, in which order."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import markdown
from benchmarks.server import devpi, load, packages, page, servers
from benchmarks.server.page import Results
from benchmarks.server.servers import Running

JSON_GZIP = {"Accept": "application/vnd.pypi.simple.v1+json", "Accept-Encoding": "gzip"}
COUNTS = (1000, 10_000, 50_000)
ROUNDS = 3
# Of what is compared closely, or is so short that what else the machine does weighs more.
MORE_ROUNDS = {"pages": 8, "small": 8, "uv": 9}
UPLOADS = 7
SLOW_UPLOADS = 3
# A slow server takes minutes to install from more.
MOST_SLOW_INSTALLS = 10_000


@dataclass(frozen=True)
class Plan:
    """What a server is asked for. `files`: how many it has, where that is not all.

    `slow`: it has one round of each, a longer one.
    """

    start: Callable[[Path], AbstractContextManager[Running]]
    rates: Collection[str] = page.RATES
    uploads: bool = True
    clients: Collection[str] = page.CLIENTS
    files: int | None = None
    slow: bool = False

    def seconds(self, seconds: int, count: int) -> int:
        """Return how long a round takes, where it takes `seconds` for others."""
        return seconds * (1 if not self.slow else 3 if count < 50_000 else 6)


_SLOW_RATES = [what for what in page.RATES if what != "json"]
OURS = Plan(servers.ours)
PLANS = {
    "few": Plan(servers.ours, rates=["pages"], uploads=False, clients=[], files=COUNTS[0]),
    "login": Plan(servers.ours_with_login, rates=["pages", "small"], clients=[]),
    "devpi": Plan(devpi.run),
    "cached": Plan(servers.cached, rates=_SLOW_RATES, slow=True),
    "stock": Plan(servers.stock, rates=_SLOW_RATES, slow=True),
}
NAMES = ("nginx", *PLANS)


def main(
    counts: Sequence[int] = COUNTS, seconds: int = 2, only: Sequence[str] = NAMES, *, write: bool = True
) -> None:
    """Measure, print the tables, and write the page and the plot unless told otherwise."""
    work = Path(tempfile.mkdtemp(prefix="ppctl-bench-"))
    results = Results()
    try:
        print(f"making {max(counts):,} packages", flush=True)
        packages.make(work / "whole", max(counts))
        for number, count in enumerate(counts, 1):
            try:
                _Measurement(results, count, seconds, work).run(only)
            finally:
                shutil.rmtree(work / str(count), ignore_errors=True)
            if write:  # also when the rest is interrupted
                page.write(results, counts[:number])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not write:
        print(page.text(results, counts), markdown(page.COLUMNS, page.rows(results, counts)), sep="\n")


class _Measurement:
    """All servers with so many files; they run side by side: each round asks one after the other."""

    def __init__(self, results: Results, count: int, seconds: int, work: Path) -> None:
        self._results = results
        self._count = count
        self._seconds = seconds
        self._work = work
        self._servers: dict[str, tuple[Plan, Running]] = {}

    def run(self, only: Sequence[str]) -> None:
        """Measure."""
        with OURS.start(self._tree("ppctl", OURS)) as ours:
            with ExitStack() as stack:
                self._servers["ppctl"] = OURS, ours
                for name, plan in self._plans(ours, only):
                    print(f"{self._count:,} files: starting {name}", flush=True)
                    self._servers[name] = plan, stack.enter_context(plan.start(self._tree(name, plan)))
                for what in page.RATES:
                    self._rates(what)
                self._uploads()
                self._installs()
                for name, (_, server) in self._servers.items():
                    self._put(name, "memory", server.memory())
            # Again, alone: beside others of the same Python it looks smaller.
            self._put("ppctl", "memory", ours.memory())
            self._print("memory")
            new, known = servers.start(ours)
            self._put("ppctl", "new", new)
            self._put("ppctl", "known", known)

    def _plans(self, ours: Running, only: Sequence[str]) -> list[tuple[str, Plan]]:
        nginx = Plan(lambda root: servers.nginx(root, ours), uploads=False)
        plans = {"nginx": nginx, **PLANS}
        return [
            (name, plan)
            for name, plan in plans.items()
            if name in only and (plan.files is None or self._count > plan.files)
        ]

    def _tree(self, name: str, plan: Plan) -> Path:
        root = self._work / str(self._count) / name
        return packages.link(self._work / "whole", plan.files or self._count, root)

    def _rates(self, what: str) -> None:
        """Let wrk ask in rounds; the one before the first warms caches."""
        asked = {name: pair for name, pair in self._servers.items() if what in pair[0].rates}
        paths = {name: self._paths(what, *pair) for name, pair in asked.items()}
        sent = JSON_GZIP if what == "json" else {}
        if what in ("pages", "json"):
            for name, (_, server) in asked.items():
                rendered = load.warm(server, paths[name], sent)
                if rendered and what == "pages":
                    self._put(name, "rendered", rendered * 1e3)
        for number in range(-1, MORE_ROUNDS.get(what, ROUNDS)):
            for name, (plan, server) in asked.items():
                if plan.slow and number != 0:
                    continue
                seconds = plan.seconds(self._seconds, self._count)
                rate, size = load.rate(server, paths[name], seconds, sent)
                if number >= 0:
                    self._best(name, what, size / 1e6 if what == "big" else rate)
        self._print(what)

    def _paths(self, what: str, plan: Plan, server: Running) -> list[str]:
        if what == "index":
            return [server.simple]
        if what == "big":
            return [server.big]
        if what == "small":
            root = self._work / str(self._count) / "ppctl"
            return server.files or [f"/packages/{path.name}" for path in packages.small(root)]
        return [f"{server.simple}{project}/" for project in packages.projects(plan.files or self._count)]

    def _uploads(self) -> None:
        found: dict[str, list[tuple[float, float]]] = {}
        short: list[tuple[float, float]] = []
        for number in range(UPLOADS):
            for name, (plan, server) in self._servers.items():
                if not plan.uploads or (plan.slow and number >= SLOW_UPLOADS):
                    continue
                found.setdefault(name, []).append(load.upload(server, f"uploaded-{number}"))
                if server.put_with_token:
                    short.append(load.upload(server, f"uploaded-too-{number}", with_token=True))
        for name, times in found.items():
            took, visible = _medians(times)
            self._put(name, "upload", took)
            self._put(name, "visible", visible)
        if short:
            self._put("devpi", "with token", _medians(short)[1])
        if "login" in self._servers:
            _, server = self._servers["login"]
            servers.new_hash(server)
            self._put("login", "first", load.upload(server, "uploaded-first")[0] * 1e3)
        self._print("visible")

    def _installs(self) -> None:
        for client in page.CLIENTS:
            for number in range(MORE_ROUNDS.get(client, ROUNDS)):
                for name, (plan, server) in self._servers.items():
                    if client not in plan.clients:
                        continue
                    if plan.slow and (number or self._count > MOST_SLOW_INSTALLS):
                        continue
                    self._best(name, client, load.install(server, client), least=True)
            self._print(client)

    def _put(self, name: str, what: str, value: float) -> None:
        self._results.put(name, self._count, what, value)

    def _best(self, name: str, what: str, value: float, *, least: bool = False) -> None:
        self._results.best(name, self._count, what, value, least=least)

    def _print(self, what: str) -> None:
        for name in self._servers:
            self._results.print(name, self._count, what)


def _medians(times: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return the milliseconds of each column."""
    return tuple(statistics.median(column) * 1e3 for column in zip(*times, strict=True))
