"""The access log: a line is a line, whatever a client sends."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger


class AccessLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger. Of what comes from the client, control characters are escaped.

    A path with `%0a` in it would begin a new line, with whatever the client wants others to read there.
    """

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """Return what a line can be made of."""
        found: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return {
            name: value if not isinstance(value, str) or value.isprintable() else printable(value)
            for name, value in found.items()
        }


def printable(text: str) -> str:
    """Return a text with all that is not printable escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
