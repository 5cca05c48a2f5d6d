"""What is measured, of whom, in which order."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks.report import markdown
from benchmarks.server import devpi, load, packages, page, servers
from benchmarks.server.page import Results
from benchmarks.server.servers import Running

JSON_GZIP = {"Accept": "application/vnd.pypi.simple.v1+json", "Accept-Encoding": "gzip"}
COUNTS = (1000, 10_000, 50_000)
ROUNDS = 3
# Of what is compared closely, or is so short that what else the machine does weighs more.
PAGE_ROUNDS = 6
UV_ROUNDS = 9
FEWEST = COUNTS[0]
UPLOADS = 7
# devpi takes ten minutes to import more files, and the other two minutes to install from more.
MOST_DEVPI = 10_000
MOST_SLOW_INSTALLS = 10_000

OTHERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    "login": servers.ours_with_login,
    "devpi": devpi.run,
    "cached": servers.cached,
    "stock": servers.stock,
}
SLOW = ("cached", "stock")
NAMES = ("nginx", *OTHERS)


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
            with _trees(work, count) as tree:
                _measure(results, count, tree, seconds, only)
            if write:  # also when the rest is interrupted
                page.write(results, counts[:number])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not write:
        print(page.text(results, counts), markdown(page.COLUMNS, page.rows(results, counts)), sep="\n")


@contextlib.contextmanager
def _trees(work: Path, count: int) -> Iterator[Callable[[str], Path]]:
    """Give a function that makes a tree of packages for a server."""
    trees = work / str(count)
    try:
        yield lambda name: packages.link(work / "whole", FEWEST if name == "few" else count, trees / name)
    finally:
        shutil.rmtree(trees, ignore_errors=True)


def _measure(
    results: Results, count: int, tree: Callable[[str], Path], seconds: int, only: Sequence[str]
) -> None:
    """Measure all servers, which run side by side: each round asks each of them, one after the other."""
    root = tree("ppctl")
    with servers.ours(root) as ours:
        with ExitStack() as stack:
            running = {"ppctl": ours}
            if "nginx" in only:
                running["nginx"] = stack.enter_context(servers.nginx(tree("nginx"), ours))
            if count > FEWEST:
                running["few"] = stack.enter_context(servers.ours(tree("few")))
            for name in only:
                if name in OTHERS and not (name == "devpi" and count > MOST_DEVPI):
                    print(f"{count:,} files: starting {name}", flush=True)
                    running[name] = stack.enter_context(OTHERS[name](tree(name)))
            _rates(results, count, root, running, seconds)
            _uploads(results, count, running)
            _installs(results, count, running)
            for name, server in running.items():
                results.put(name, count, "memory", server.memory())
        # Again, alone: beside others of the same Python it looks smaller.
        results.put("ppctl", count, "memory", ours.memory())
        results.print("ppctl", count, "memory")
        new, known = servers.start(ours)
        results.put("ppctl", count, "new", new)
        results.put("ppctl", count, "known", known)


def _rates(results: Results, count: int, root: Path, running: dict[str, Running], seconds: int) -> None:
    projects = {name: packages.projects(FEWEST if name == "few" else count) for name in running}
    files = [f"/packages/{path.name}" for path in packages.small(root)]
    for what in page.RATES:
        for number in range(-1, PAGE_ROUNDS if what == "pages" else ROUNDS):
            for name, server in running.items():
                if what not in {"login": ("pages", "small"), "few": ("pages",)}.get(name, page.RATES):
                    continue
                # Slow ones have one longer round. Round -1 warms the others' caches.
                if name in SLOW and (number != 0 or what == "json"):
                    continue
                paths = {
                    "index": [server.simple],
                    "small": server.files or files,
                    "big": [server.big],
                }.get(what) or [f"{server.simple}{project}/" for project in projects[name]]
                wanted = JSON_GZIP if what == "json" else {}
                if number < 0 and what in ("pages", "json"):
                    rendered = load.warm(server, paths, wanted)
                    if rendered and what == "pages":
                        results.put(name, count, "rendered", rendered * 1e3)
                duration = seconds if name not in SLOW else 3 * seconds if count < 50_000 else 6 * seconds
                found, size = load.rate(server, paths, duration, wanted)
                if number >= 0:
                    results.best(name, count, what, size / 1e6 if what == "big" else found)
        for name in running:
            results.print(name, count, what)


def _uploads(results: Results, count: int, running: dict[str, Running]) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    short: list[tuple[float, float]] = []
    for number in range(UPLOADS):
        for name, server in running.items():
            if name == "few" or not server.put or (name in SLOW and number > 2):
                continue
            found.setdefault(name, []).append(load.upload(server, f"uploaded-{number}"))
            if server.put_with_token:
                short.append(load.upload(server, f"uploaded-too-{number}", with_token=True))
    for name, times in found.items():
        took, visible = _medians(times)
        results.put(name, count, "upload", took)
        results.put(name, count, "visible", visible)
        results.print(name, count, "visible")
    if short:
        results.put("devpi", count, "with token", _medians(short)[1])
    if "login" in running:
        servers.new_hash(running["login"])
        results.put("login", count, "first", load.upload(running["login"], "uploaded-first")[0] * 1e3)


def _medians(times: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return the milliseconds of each column."""
    return tuple(statistics.median(column) * 1e3 for column in zip(*times, strict=True))


def _installs(results: Results, count: int, running: dict[str, Running]) -> None:
    for number in range(UV_ROUNDS):
        for name, server in running.items():
            if name in ("login", "few") or (name in SLOW and (number or count > MOST_SLOW_INSTALLS)):
                continue
            for client in ("uv", "pip") if number < ROUNDS else ("uv",):
                results.best(name, count, client, load.install(server, client), least=True)
    for name in running:
        for client in ("uv", "pip"):
            results.print(name, count, client)
