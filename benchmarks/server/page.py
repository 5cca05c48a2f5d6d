"""The page and the plot of what was measured, and whether the targets are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import report
from benchmarks.report import markdown
from benchmarks.server import plot

RATES = ("pages", "json", "index", "small", "big")
TITLES = {
    "stock": "pypi-server",
    "cached": "pypiserver + cache, gunicorn 2 × 8",
    "devpi": "devpi-server",
    "ppctl": "ppctl",
    "login": "ppctl, with a login",
    "nginx": "nginx, static tree",
}
CLIENTS = ("uv", "pip")
FIGURES = {
    "pages": "pages/s",
    "json": "JSON, gzip/s",
    "index": "index/s",
    "small": "small/s",
    "big": "50 MB, MB/s",
    "upload": "upload ms",
    "visible": "visible ms",
    "uv": "uv s",
    "pip": "pip s",
    "memory": "PSS MB",
}
_LOGIN_TEXT = """
An upload with a login until it is listed, in ms. *first*: until it is answered, where the password's hash
has to be computed, as once in five minutes. *own client*: with the token that devpi's client gets for the
password, and sends from then on:
"""
_LOGINS = {
    ("login", "first"): "ppctl, first",
    ("login", "visible"): "ppctl",
    ("devpi", "visible"): "devpi",
    ("devpi", "with token"): "devpi, own client",
}
LEAST_JUDGED = 10_000
"""From how many files on the targets are meant; fewer show whether the number of files matters."""

COLUMNS = ["server", "files", *FIGURES.values()]
TEXT = """
One run. The servers run side by side with the same small wheels, ten of a project, a graph of 20
projects, and one wheel of 50 MB. Each of three rounds (of pages and small wheels eight, of uv nine) asks
each server, one after the other; the best round counts, since what else the machine does makes a round
worse, never better. Slow servers have one round, a longer one. Beside many files a further ppctl has
1,000: that tells what their number costs, not what the machine did meanwhile.

wrk asks with eight connections that stay open, on the same cores: for all projects' pages in turn, for
the same as gzipped JSON, for the index page, for a thousand small wheels, for the wheel of 50 MB.
*upload*: a file of 1 MB, until it is answered; *visible*: until it is on its page, on every worker. Uploads
that need a login send user and password each time, as twine and uv do; the table below has the others. *uv*,
*pip*: installing the graph without a cache. *PSS*: the memory of all processes. nginx serves finished
pages, the same as ppctl's: the limit. devpi's packages come from an import, since uploading takes long.

Before the first round each worker of ppctl is asked for each page once, in both formats: a page is rendered
once for each change of its project.
"""


@dataclass
class Results:
    """Values by server, number of files, and what was measured."""

    values: dict[tuple[str, int, str], float] = field(default_factory=dict)

    def put(self, name: str, count: int, what: str, value: float) -> None:
        """Note a value."""
        self.values[name, count, what] = value

    def best(self, name: str, count: int, what: str, value: float, *, least: bool = False) -> None:
        """Note a value if it is better than the one before."""
        before = self.get(name, count, what)
        if before is None or (value < before if least else value > before):
            self.put(name, count, what, value)

    def get(self, name: str, count: int, what: str) -> float | None:
        """Return a value; None where nothing was measured."""
        return self.values.get((name, count, what))

    def print(self, name: str, count: int, what: str) -> None:
        """Print a value, to show that it goes on."""
        value = self.get(name, count, what)
        if value is not None:
            print(f"  {count:>6,} files  {what:8} {name:8} {shown(value)}", flush=True)

    def ratio(self, what: str, count: int, other: str, name: str = "ppctl") -> float | None:
        """Return how many times as much one server has as another."""
        ours, theirs = self.get(name, count, what), self.get(other, count, what)
        return ours / theirs if ours is not None and theirs else None


def shown(value: float | None) -> str:
    """Return a value as tables have it."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def write(results: Results, counts: Sequence[int]) -> None:
    """Print the tables; write page and plot."""
    curves = {
        title: {
            TITLES[name]: [(count, results.get(name, count, what)) for count in counts] for name in TITLES
        }
        for what, title in (
            ("pages", "project pages a second"),
            ("small", "small files a second"),
            ("visible", "ms from an upload until it is listed"),
            ("memory", "memory, MB"),
        )
    }
    (report.PAGES / "server.svg").write_text(plot.panels(curves))
    report.write("server", "The server", text(results, counts), COLUMNS, rows(results, counts))


def text(results: Results, counts: Sequence[int]) -> str:
    """Return what stands above the table: the targets, the plot, the starts."""
    judged = markdown(["what", "files", "measured", "target", "met"], _targets(results, counts))
    starts = [
        [f"{count:,}", *(shown(results.get("ppctl", count, what)) for what in ("new", "known", "rendered"))]
        for count in counts
    ]
    heads = ["files", "start without a catalogue, s", "start with a known one, s", "first time, ms"]
    table = markdown(heads, starts)
    logins = [
        [f"{count:,}", *(shown(results.get(name, count, what)) for name, what in _LOGINS)] for count in counts
    ]
    return (
        f"## Targets\n\n{judged}\n"
        "![pages, files, uploads and memory by number of files](server.svg)\n\n"
        f"## How it was measured\n{TEXT}{_of_the_machine(results, counts)}\n"
        "From starting a worker to its first page; and a page that is asked for for the first time:\n\n"
        f"{table}\n"
        f"{_LOGIN_TEXT}\n"
        f"{markdown(['files', *_LOGINS.values()], logins)}\n## All figures\n"
    )


def _of_the_machine(results: Results, counts: Sequence[int]) -> str:
    """Return how much of what many files cost is not the server's: nginx's finished pages cost it, too."""
    few, many = (results.get("nginx", count, "pages") for count in (counts[0], counts[-1]))
    if not few or not many or counts[-1] == counts[0]:
        return ""
    part, most = shown(many / few), f"{counts[-1]:,}"
    return f"\nWith {most} files nginx itself serves {part} of the pages it does with {counts[0]:,}.\n"


def rows(results: Results, counts: Sequence[int]) -> list[list[str]]:
    """Return the table of all figures."""
    return [
        [title, f"{count:,}", *(shown(results.get(name, count, what)) for what in FIGURES)]
        for count in counts
        for name, title in TITLES.items()
        if results.get(name, count, "pages") is not None
    ]


def _targets(results: Results, counts: Sequence[int]) -> list[list[str]]:
    """Return a row for each target that could be judged."""
    judged: list[list[str]] = []

    def judge(what: str, files: str, value: float | None, bound: float, unit: str, *, least: bool) -> None:
        if value is not None:
            met = value >= bound if least else value <= bound
            sign = "≥" if least else "≤"
            judged.append(
                [
                    what,
                    files,
                    f"{shown(value)} {unit}",
                    f"{sign} {bound:g} {unit}",
                    "yes" if met else "**no**",
                ]
            )

    for count in counts:
        files = f"{count:,}"
        for name, title in (("ppctl", ""), ("login", "with a login ")):
            value = results.get(name, count, "visible")
            judge(f"upload {title}until listed", files, value, 20, "ms", least=False)
        if count < LEAST_JUDGED:
            continue
        for what, title, other, bound in (
            ("pages", "project pages", "stock", 500),
            ("pages", "project pages", "devpi", 10),
            ("small", "small files", "devpi", 5),
            ("big", "50 MB file", "nginx", 0.8),
        ):
            judge(title, files, results.ratio(what, count, other), bound, f"× {other}", least=True)
        for what, title in (("pages", "project pages"), ("small", "small files")):
            value = results.ratio(what, count, "ppctl", name="login")
            judge(f"{title} with a login", files, value, 0.8, "× without", least=True)
        value = results.ratio("visible", count, "devpi", name="login")
        judge("upload with a login until listed", files, value, 0.2, "× devpi", least=False)
        for client in CLIENTS:
            value = results.ratio(client, count, "nginx")
            judge(f"`{client} install` of 20 packages", files, value, 1.2, "× nginx", least=False)
    last = counts[-1]
    judge(
        "project pages",
        f"{last:,}",
        results.ratio("pages", last, "few"),
        0.9,
        "× with 1,000 files",
        least=True,
    )
    if last >= 50_000:
        judge(
            "start to the first page", f"{last:,}", results.get("ppctl", last, "known"), 1, "s", least=False
        )
        judge("memory", f"{last:,}", results.get("ppctl", last, "memory"), 150, "MB", least=False)
    return judged
