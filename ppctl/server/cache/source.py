"""The other index, over HTTP."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import certifi
import httpx

from ppctl import __version__

MAX_PAGE = 64 << 20
PAUSE_SECONDS = 30.0
"""So long an index that does not answer is left alone, so that not everybody waits for it."""

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
# Together less than the 15 seconds that pip waits: it gets the reason, or the page of before.
_TIMEOUT = httpx.Timeout(connect=5.0, read=9.0, write=9.0, pool=30.0)


class UpstreamError(Exception):
    """The other index cannot be had. `status` is what a gateway answers then, the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Fetched:
    """A page as the other index has it. `url` is where it is, after redirects."""

    content: bytes
    content_type: str
    url: str
    etag: str


def client(netrc: Path) -> httpx.AsyncClient:
    """Return a client that logs in with what `netrc` says, if it is there. Raises OSError, NetrcParseError.

    Certificates are checked against the machine's authorities, which may include a company's own, and the
    public ones. Proxies are those of the environment.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return httpx.AsyncClient(
        auth=httpx.NetRCAuth(str(netrc)) if netrc.exists() else None,
        follow_redirects=True,
        timeout=_TIMEOUT,
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        verify=context,
        headers={"User-Agent": f"ppctl/{__version__}"},
    )


class Source:
    """The index at `url`."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self.url = url
        self.problem = ""
        self._paused: dict[str, tuple[float, UpstreamError]] = {}

    async def page(self, project: str, etag: str) -> Fetched | None:
        """Return a project's page; None when it is the one with this `etag` still. Raises UpstreamError."""
        headers = {"Accept": _ACCEPT, **({"If-None-Match": etag} if etag else {})}
        async with self._get(f"{self.url}{project}/", headers) as answer:
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                return None
            content = bytearray()
            async for block in answer.aiter_bytes(1 << 16):
                content += block
                if len(content) > MAX_PAGE:
                    raise UpstreamError(502, f"the page of {project} at {self.url} is too large")
            kind = answer.headers.get("Content-Type", "")
            return Fetched(bytes(content), kind, str(answer.url), answer.headers.get("ETag", ""))

    @contextlib.asynccontextmanager
    async def file(self, url: str) -> AsyncIterator[httpx.Response]:
        """Give the answer with a file, to be read in pieces. Raises UpstreamError."""
        async with self._get(url, {"Accept-Encoding": "identity"}) as answer:
            yield answer

    @contextlib.asynccontextmanager
    async def _get(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        host, has_begun = httpx.URL(url).host, False
        until, error = self._paused.get(host, (0.0, None))
        if error and time.monotonic() < until:
            raise UpstreamError(error.status, str(error))  # the same one would keep who was refused before
        try:
            async with self._http.stream("GET", url, headers=headers) as answer:
                self._check(answer, host)
                has_begun = True
                yield answer
        except httpx.TimeoutException as e:
            raise self._away(host, 504, "does not answer in time", pause=not has_begun) from e
        except httpx.TransportError as e:
            reason = f"cannot be reached: {e or type(e).__name__}" if not has_begun else "broke off"
            raise self._away(host, 502, reason, pause=not has_begun) from e
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise UpstreamError(502, f"{host}: {type(e).__name__}") from e

    def _away(self, host: str, status: int, reason: str, *, pause: bool) -> UpstreamError:
        error = UpstreamError(status, f"{host} {reason}")
        if pause:
            self.problem = str(error)
            self._paused[host] = (time.monotonic() + PAUSE_SECONDS, error)
        return error

    def _check(self, answer: httpx.Response, host: str) -> None:
        status = answer.status_code
        self._paused.pop(host, None)
        if status in (httpx.codes.OK, httpx.codes.NOT_MODIFIED):
            self.problem = ""
        elif status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            self.problem = ""
            raise UpstreamError(404, f"it is neither here nor at {self.url}")
        elif status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            self.problem = f"{self.url} wants a login, or another one: {status}"
            raise UpstreamError(502, self.problem)
        elif status == httpx.codes.TOO_MANY_REQUESTS:
            raise UpstreamError(503, f"{self.url} has had too many requests")
        else:
            self.problem = f"{self.url} answers {status}"
            raise UpstreamError(502, self.problem)
