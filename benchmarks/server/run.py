"""What is measured, of whom, and the page that it makes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import report
from benchmarks.report import markdown
from benchmarks.server import devpi, load, packages, servers
from benchmarks.server.servers import Running

TEXT = """
One run: each server in turn with the same small wheels, ten of a project (devpi: only 300 of them, since
uploading takes it long). wrk asks with eight connections that stay open, on the same cores: for all projects'
pages in turn, for the same as gzipped JSON, for the index page, for small wheels, for one wheel of 50 MB.
An upload has 1 MB; *visible*: how long it takes from its answer until it is on its page. *PSS*: the memory of
all processes. nginx serves finished pages: the limit. Rates: the best of three rounds; the machine is shared.

From starting a worker to its first page:
"""

COLUMNS = [
    "server",
    "files",
    "pages/s",
    "JSON, gzip/s",
    "index/s",
    "small/s",
    "50 MB, MB/s",
    "upload ms",
    "visible ms",
    "PSS MB",
]
SERVERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    "stock": servers.stock,
    "cached": servers.cached,
    "devpi": devpi.run,
    "ppctl": servers.ours,
    "nginx": servers.nginx,
}
JSON_GZIP = '["Accept"] = "application/vnd.pypi.simple.v1+json", ["Accept-Encoding"] = "gzip"'


def main(
    files: Sequence[int] = (1000, 10000, 50000), seconds: float = 2, only: Sequence[str] = tuple(SERVERS)
) -> None:
    """Measure, and write the page."""
    work = Path(tempfile.mkdtemp(prefix="ppctl-bench-"))
    rows, starts = [], []
    try:
        for count in files:
            root = work / f"packages-{count}"
            projects = packages.make(root, count)
            packages.add_big(root)
            for name in only:
                if name == "devpi" and count != min(files):
                    continue
                with SERVERS[name](root) as running:
                    rows.append(_row(running, root, projects, count, seconds))
                    print(rows[-1], flush=True)
            if "ppctl" in only:
                starts.append([f"{count:,}", *(f"{found:.2f}" for found in servers.start(root))])
            shutil.rmtree(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = f"{TEXT}\n{markdown(['files', 'without a catalogue, s', 'with a known one, s'], starts)}"
    report.write("server", "The server", text, COLUMNS, rows)


def _row(running: Running, root: Path, projects: list[str], count: int, seconds: float) -> list[str]:
    added: list[Path] = []
    projects = projects[: running.projects]
    pages = [f"{running.simple}{project}/" for project in projects]
    files = running.links or [f"/packages/{path.name}" for path in sorted(root.glob("project_*"))[:1000]]
    big = [f"/packages/{packages.BIG_NAME}"]
    # Once through all pages first: every server may have its caches warm.
    load.rate(running, pages, seconds)
    found = [
        load.rate(running, pages, seconds)[0],
        load.rate(running, pages, seconds, JSON_GZIP)[0],
        load.rate(running, [running.simple], seconds)[0],
        load.rate(running, files, seconds)[0],
        0.0 if running.links else load.rate(running, big, seconds)[1] / 1e6,
    ]
    cells = [f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value else "-" for value in found]
    memory = running.memory()
    try:
        if running.upload:
            took, visible = load.upload(running, 11, 1_000_000, added, root)
            cells += [f"{took * 1e3:.0f}", f"{visible * 1e3:.0f}"]
        else:
            cells += ["-", "-"]
    finally:
        for path in added:
            path.unlink(missing_ok=True)
    return [running.name, f"{count:,}", *cells, f"{memory:.0f}"]
