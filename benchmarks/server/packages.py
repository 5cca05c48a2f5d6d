"""Trees of small packages to serve."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.server.archives import wheel

FILES_PER_PROJECT = 10
BIG_NAME = "big-1.0-py3-none-any.whl"
BIG_BYTES = 50_000_000


def make(root: Path, count: int) -> list[str]:
    """Fill `root` with `count` wheels of ten versions for each project. Returns the projects' names."""
    root.mkdir(parents=True, exist_ok=True)
    projects = [f"project-{number}" for number in range(count // FILES_PER_PROJECT)]
    for project in projects:
        for version in range(FILES_PER_PROJECT):
            name, content = wheel(
                project, f"1.{version}", "Requires-Python: >=3.8", "Requires-Dist: other>=1"
            )
            (root / name).write_bytes(content)
    return projects


def add_big(root: Path) -> None:
    """Add a wheel of 50 MB."""
    (root / BIG_NAME).write_bytes(wheel("big", "1.0")[1] + os.urandom(BIG_BYTES))


def static_tree(packages: Path, root: Path) -> None:
    """Write the pages that a perfect server would send, as files for nginx."""
    pages: dict[str, list[str]] = {}
    (root / "simple").mkdir(parents=True)
    (root / "packages").symlink_to(packages)
    for path in sorted(packages.iterdir()):
        project = path.name.split("-")[0].replace("_", "-")
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.name != BIG_NAME else "0" * 64
        link = f'<a href="/packages/{path.name}#sha256={digest}">{path.name}</a><br>\n'
        pages.setdefault(project, []).append(link)
    for project, links in pages.items():
        (root / "simple" / project).mkdir()
        text = f"<!DOCTYPE html><html><body>\n{''.join(links)}</body></html>\n"
        (root / "simple" / project / "index.html").write_text(text)
    index = "".join(f'<a href="{project}/">{project}</a><br>\n' for project in pages)
    (root / "simple" / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{index}</body></html>\n")
