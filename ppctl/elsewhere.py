"""Which projects another index has: asked for as a whole, so that no name of ours is told to it."""

from __future__ import annotations

import base64
import http.client
import json
import netrc
import re
import urllib.error
import urllib.request
from html import unescape
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from ppctl import __version__
from ppctl.errors import PpctlError
from ppctl.server.spelling import normal

TIMEOUT = 60.0
MAX_BYTES = 512 << 20

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_ANCHOR = re.compile(rb"<a\b[^>]*>([^<]+)</a>", re.IGNORECASE)


def names_at(url: str, login: bytes | None) -> frozenset[str]:
    """Return the normalised names of all projects of the simple index at `url` (PEP 503, PEP 691).

    `login`: the content of a .netrc, for an index that wants one. Raises PpctlError.
    """
    headers = {"Accept": _ACCEPT, "User-Agent": f"ppctl/{__version__}", **_authorization(url, login)}
    request = urllib.request.Request(url.rstrip("/") + "/", headers=headers)  # noqa: S310 - settings.py checks it
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            kind = answer.headers.get_content_type()
            content = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as e:
        raise PpctlError(f"{url} has no list of its projects: it answers {e.code}") from e
    except (OSError, http.client.HTTPException) as e:
        reason = getattr(e, "reason", None) or e
        raise PpctlError(f"{url} cannot be reached: {reason or type(e).__name__}") from e
    if len(content) > MAX_BYTES:
        raise PpctlError(f"{url}: the list of its projects is too large")
    try:
        return frozenset(_from_json(content) if kind.endswith("json") else _from_html(content))
    except (ValueError, KeyError, TypeError) as e:
        raise PpctlError(f"{url}: not a list of projects") from e


def _from_json(content: bytes) -> list[str]:
    return [normal(project["name"]) for project in json.loads(content)["projects"]]


def _from_html(content: bytes) -> list[str]:
    return [normal(unescape(found.decode("utf-8", "replace")).strip()) for found in _ANCHOR.findall(content)]


def _authorization(url: str, login: bytes | None) -> dict[str, str]:
    """Return the header with the login that a .netrc has for the host of `url`. Raises PpctlError."""
    if login is None:
        return {}
    with NamedTemporaryFile(suffix=".netrc") as file:  # mode 0600, which is all that netrc can read from
        Path(file.name).write_bytes(login)
        try:
            found = netrc.netrc(file.name).authenticators(urlsplit(url).hostname or "")
        except netrc.NetrcParseError as e:
            raise PpctlError(f"upstream.netrc: cannot be understood (line {e.lineno})") from None
    if not found:
        return {}
    user, _, password = found
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()}
