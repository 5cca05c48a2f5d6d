"""Tables: printed, and written as a page under docs/benchmarks."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"


def write(name: str, title: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the table and write the page `name`.md: title, table, and what was done."""
    table = markdown(columns, rows)
    print(f"\n{title}\n\n{table}", flush=True)
    page = (
        f"# {title}\n\n{text.strip()}\n\n{table}\nMeasured on {machine()}; `make bench` writes this page.\n"
    )
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(page)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that can also be read as it is."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    shown = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(f"| {line} |\n" for line in shown)


def machine() -> str:
    """Return in words what it was measured on."""
    kernel = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}"
