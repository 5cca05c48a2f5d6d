"""Sections of ours in TOML files (https://toml.io/en/v1.0.0), as text: a marked block at the end.

The end is the one safe place: what stands there belongs to our own tables, while a key without table
could only stand before the first one. Each edit is checked by reading the file before and after.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ppctl.clients import blocks
from ppctl.clients.base import Refused


def quote(text: str) -> str:
    """Return `text` as a TOML basic string (JSON's escapes are a part of TOML's)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse(text: str) -> dict[str, Any]:
    """Return what is in the TOML document `text`. Raises Refused."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        # The message says what and where (line and column), and quotes keys but never a value.
        raise Refused(f"the file is not valid TOML: {e}", "mend that first; nothing was changed") from None
    return document


def at(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return what is at `path` in `document`, or None."""
    node: Any = document
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def tables(document: Mapping[str, Any], path: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the tables in the array of tables at `path`; empty where there is none."""
    found = at(document, path)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def without(text: str, name: str) -> dict[str, Any]:
    """Return what is in the document `text` beside our block. Raises Refused."""
    parse(text)
    return parse(blocks.take_out(text, name))


def merge(text: str, name: str, body: Sequence[str]) -> str:
    """Return `text` with our block, updated in place or appended. Raises Refused."""
    others = without(text, name)
    merged = blocks.update(text, name, body)
    try:
        safe = parse(merged) == _combine(others, parse("\n".join(body)))
    except (Refused, _Clash):
        safe = False
    if not safe:
        shown = "\n".join(line for line in body if "password" not in line and "auth =" not in line)
        raise Refused(
            "the section does not fit below what is in this file (a table that is closed, or one that "
            "goes on below ppctl's lines)",
            f"add it by hand where it fits:\n{shown}",
        )
    return merged


def remove(text: str, name: str) -> str:
    """Return `text` without our block. Raises Refused if that would change the meaning of other lines."""
    taken = blocks.take_out(text, name)
    if taken == text:
        return text
    ours = parse("\n".join(blocks.body(text, name)))
    try:
        safe = _combine(parse(taken), ours) == parse(text)
    except (Refused, _Clash):
        safe = False
    if not safe:
        raise Refused(
            "lines below ppctl's section belong to its table, and would change their meaning without it",
            "remove those lines, or the section, by hand",
        )
    return taken


class _Clash(Exception):
    """Two documents say different things about one key."""


def _combine(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both documents in one: tables joined, arrays of tables one after the other."""
    result = dict(first)
    for key, value in second.items():
        if key not in result:
            result[key] = value
        elif isinstance(result[key], Mapping) and isinstance(value, Mapping):
            result[key] = _combine(result[key], value)
        elif isinstance(result[key], list) and isinstance(value, list):
            result[key] = [*result[key], *value]
        else:
            raise _Clash(key)
    return result
