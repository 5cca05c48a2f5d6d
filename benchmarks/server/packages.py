"""Trees of small packages to serve; links, so that each server may have one that it can add to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.server.archives import wheel

FILES_PER_PROJECT = 10
GRAPH = 20
GRAPH_VERSIONS = 3
BIG_NAME = "big-1.0-py3-none-any.whl"
BIG_BYTES = 50_000_000


def make(root: Path, count: int) -> None:
    """Fill `root` with `count` wheels of ten versions for each project, a graph, and a wheel of 50 MB."""
    root.mkdir(parents=True)
    for project in projects(count):
        for version in range(FILES_PER_PROJECT):
            name, content = wheel(
                project, f"1.{version}", "Requires-Python: >=3.8", "Requires-Dist: other>=1"
            )
            (root / name).write_bytes(content)
    for number in range(GRAPH):
        needed = [f"Requires-Dist: graph-{other}>=1.1" for other in (number + 1, number + 4) if other < GRAPH]
        for version in range(GRAPH_VERSIONS):
            name, content = wheel(f"graph-{number}", f"1.{version}", "Requires-Python: >=3.8", *needed)
            (root / name).write_bytes(content)
    (root / BIG_NAME).write_bytes(wheel("big", "1.0")[1] + os.urandom(BIG_BYTES))


def projects(count: int) -> list[str]:
    """Return the names of the projects in a tree of so many files."""
    return [f"project-{number}" for number in range(count // FILES_PER_PROJECT)]


def link(whole: Path, count: int, root: Path) -> Path:
    """Fill `root` with the first `count` wheels of a larger tree, and the others; returns it."""
    root.mkdir(parents=True)
    wanted = {name.replace("-", "_") for name in projects(count)}
    for path in whole.iterdir():
        project = path.name.split("-")[0]
        if project in wanted or not project.startswith("project_"):
            os.link(path, root / path.name)
    return root


def small(root: Path) -> list[Path]:
    """Return a thousand of the small wheels."""
    return sorted(root.glob("project_*"))[:1000]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
