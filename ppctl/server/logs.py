"""The access log: a line is a line, whatever a client sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gunicorn.glogging import Logger

from ppctl.server.access import IDENTITY
from ppctl.server.permissions import Identity
from ppctl.server.text import printable


class AccessLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger. Of what comes from the client, control characters are escaped.

    A path with `%0a` in it would begin a new line, with whatever the client wants others to read there.
    """

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """Return what a line can be made of."""
        found: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return {name: printable(value) if isinstance(value, str) else value for name, value in found.items()}

    def _get_user(self, environ: Any) -> str | None:
        """Return who has logged in. Other names are often passwords that were typed into the wrong field."""
        return user_of(environ)


def user_of(environ: Mapping[str, Any]) -> str | None:
    """Return who has logged in with a request, None for nobody."""
    identity: Identity | None = environ.get(IDENTITY)
    return identity.label if identity else None
