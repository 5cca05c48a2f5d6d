"""Marked blocks: lines of ours in files that belong to somebody else.

A block stands between two comments that name the index. Lines of the file that a block replaces stay
in it as comments (`#~ …`), so that taking the block out gives back the file byte for byte, also its
line endings and a missing newline at its end: a file that ended without one still does with a block
at its end, and that is how `take_out` knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ppctl.errors import PpctlError

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_BEGIN = re.compile(r"[ \t]*# >>> ppctl(?:: (?P<name>[a-z0-9-]+))? >>>")
_END = re.compile(r"[ \t]*# <<< ppctl(?:: (?P<name>[a-z0-9-]+))? <<<")
_KEPT = "#~ "

SHARED = ""
"""Name of the block that all indexes in one file share."""


@dataclass(frozen=True)
class Block:
    """A block found in a list of lines: `lines[start]` and `lines[end - 1]` are its markers."""

    name: str
    start: int
    end: int


def split(text: str) -> list[str]:
    """Return the lines of `text` with their endings; only CR, LF and CRLF end a line."""
    return _LINE.findall(text)


def newline(lines: Sequence[str]) -> str:
    """Return the line ending that is used in `lines`: that of the first line, or LF."""
    return _ending(lines[0]) or "\n" if lines else "\n"


def find(lines: Sequence[str], name: str | None = None) -> list[Block]:
    """Return the blocks in `lines`, or those of the index `name`. Raises PpctlError for half a block."""
    found: list[Block] = []
    start, opened = -1, ""
    for number, line in enumerate(lines):
        begin, end = _BEGIN.match(line), _END.match(line)
        if begin:
            if start >= 0:
                raise _damaged(start)
            start, opened = number, begin["name"] or SHARED
        elif end:
            if start < 0 or (end["name"] or SHARED) != opened:
                raise _damaged(number)
            found.append(Block(opened, start, number + 1))
            start = -1
    if start >= 0:
        raise _damaged(start)
    return [block for block in found if name is None or block.name == name]


def has(text: str, name: str) -> bool:
    """Return whether `text` has a block of the index `name`."""
    return bool(find(split(text), name))


def insert(
    lines: Sequence[str], at: int, name: str, body: Sequence[str], *, replaced: int = 0, indent: str = ""
) -> list[str]:
    """Return `lines` with a block before `lines[at]` that replaces that and the next lines (`replaced`)."""
    end = newline(lines)
    label = f": {name}" if name else ""
    old = lines[at : at + replaced]
    new = [
        f"{indent}# >>> ppctl{label} >>>{end}",
        *(_KEPT + line + ("" if _ending(line) else end) for line in old),
        *(f"{indent}{line}{end}" if line else end for line in body),
        f"{indent}# <<< ppctl{label} <<<{end}",
    ]
    before, after = list(lines[:at]), list(lines[at + replaced :])
    last = old[-1] if old else before[-1] if before else ""
    if not after and last and not _ending(last):
        new[-1] = new[-1].removesuffix(end)
        if not old:
            before[-1] += end
    return before + new + after


def append(text: str, name: str, body: Sequence[str]) -> str:
    """Return `text` with a block at its end."""
    lines = split(text)
    return "".join(insert(lines, len(lines), name, body))


def update(text: str, name: str, body: Sequence[str]) -> str:
    """Return `text` with `body` in the first block of the index `name`, or in a new block at the end."""
    lines = split(text)
    blocks = find(lines, name)
    if not blocks:
        return append(text, name, body)
    first = blocks[0]
    end = newline(lines)
    kept = [line for line in lines[first.start + 1 : first.end - 1] if line.startswith(_KEPT)]
    lines[first.start + 1 : first.end - 1] = [*kept, *(line + end for line in body)]
    return "".join(lines)


def body(text: str, name: str) -> list[str]:
    """Return the lines in the blocks of the index `name`, without the markers and without line endings."""
    lines = split(text)
    return [
        line.rstrip("\r\n")
        for block in find(lines, name)
        for line in lines[block.start + 1 : block.end - 1]
        if not line.startswith(_KEPT)
    ]


def replaces(text: str, name: str) -> bool:
    """Return whether a block of the index `name` has put lines of the file aside."""
    lines = split(text)
    return any(
        line.startswith(_KEPT) for block in find(lines, name) for line in lines[block.start : block.end]
    )


def take_out(text: str, name: str) -> str:
    """Return `text` without the blocks of the index `name`, the lines that they replaced back in place."""
    lines = split(text)
    for block in reversed(find(lines, name)):
        inside = lines[block.start + 1 : block.end - 1]
        old = [line.removeprefix(_KEPT) for line in inside if line.startswith(_KEPT)]
        if not _ending(lines[block.end - 1]):  # the file ended without a newline
            if old:
                old[-1] = without_ending(old[-1])
            elif block.start:
                lines[block.start - 1] = without_ending(lines[block.start - 1])
        lines[block.start : block.end] = old
    return "".join(lines)


def without_ending(line: str) -> str:
    """Return `line` without its line ending."""
    return line.removesuffix(_ending(line))


def _ending(line: str) -> str:
    for ending in ("\r\n", "\n", "\r"):
        if line.endswith(ending):
            return ending
    return ""


def _damaged(number: int) -> PpctlError:
    return PpctlError(
        f"line {number + 1}: half of a pair of ppctl's marker lines is missing",
        "restore the line, or remove what is left of the section by hand",
    )
