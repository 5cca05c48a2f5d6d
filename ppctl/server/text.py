"""Text that somebody else has chosen, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with everything escaped that a terminal or a log would act on instead of showing it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return the same for a text of several lines, which stay lines; tabs become blanks."""
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))
