"""The few HTTP requests that `ppctl client check` makes, and reasons that people understand."""

from __future__ import annotations

import base64
import http.client
import secrets
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from ppctl.clients.base import Entry, is_loopback
from ppctl.errors import PpctlError

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Response:
    """An answer of the index, whatever its status."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(PpctlError):
    """There was no HTTP answer at all; the message says why, the hint what to look at."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are shown, not followed: following one to the public index would prove nothing."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Session:
    """Requests to the index of `entry`, with its login (RFC 7617) on the index's own origin only."""

    entry: Entry
    timeout: float = 15.0

    def get(self, url: str) -> Response:
        """Return the answer to GET `url`. Raises NoAnswer."""
        return self._send(urllib.request.Request(url, headers={"Accept": "text/html"}))  # noqa: S310

    def post(self, fields: Mapping[str, str], file: tuple[str, bytes] | None = None) -> Response:
        """Return the answer to the form `fields` (and the file as `content`) at the upload URL.

        The form is the one of the upload API: https://docs.pypi.org/api/upload/. Raises NoAnswer.
        """
        boundary = secrets.token_hex(16)
        parts = []
        for name, value in fields.items():
            parts.append(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            )
        if file:
            head = f'Content-Disposition: form-data; name="content"; filename="{file[0]}"'
            kind = "Content-Type: application/octet-stream"
            parts.append(f"--{boundary}\r\n{head}\r\n{kind}\r\n\r\n".encode() + file[1] + b"\r\n")
        parts.append(f"--{boundary}--\r\n".encode())
        request = urllib.request.Request(  # noqa: S310 - http and https only, from_url and settings see to it
            self.entry.upload_url,
            data=b"".join(parts),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        return self._send(request)

    def _send(self, request: urllib.request.Request) -> Response:
        if self.entry.user and _origin(request.full_url) == _origin(self.entry.simple_url):
            login = f"{self.entry.user}:{self.entry.password}".encode()
            request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login).decode()}")
        request.add_header("User-Agent", "ppctl-check")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(self.entry.host):
            handlers.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                return self._response(request.full_url, answer)
        except urllib.error.HTTPError as e:
            with e:
                return self._response(request.full_url, e)
        except (OSError, http.client.HTTPException) as e:
            raise self._no_answer(e) from e

    def _response(self, url: str, answer: Any) -> Response:
        body = answer.read(_MAX_BYTES)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(url, answer.status, headers, body)

    def _no_answer(self, error: Exception) -> NoAnswer:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        parts = urlsplit(self.entry.simple_url)
        where = parts.netloc
        what, hint = f"{where} cannot be reached: {cause}", "look at the URL and at the network"
        if isinstance(cause, socket.gaierror):
            what = f"the name {parts.hostname} is not known"
            hint = "look at the URL, and at the DNS of this machine"
        elif isinstance(cause, ConnectionRefusedError):
            what, hint = f"nothing listens on {where}", "is the index up? On its host: ppctl status"
        elif isinstance(cause, TimeoutError):
            what = f"{where} does not answer within {self.timeout:g} s"
            hint = "look at firewalls; on the host of the index: ppctl status"
        elif isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the certificate of {where} is not trusted: {cause.verify_message}"
            hint = "install its CA on this machine, or name it: SSL_CERT_FILE=…"
        elif isinstance(cause, ssl.SSLError):
            what, hint = f"{where} does not speak TLS", "look at the URL: should it begin with http://?"
        elif isinstance(cause, http.client.HTTPException | ConnectionError):
            what = f"{where} closed the connection without an HTTP answer"
            hint = "look at the URL (https instead of http?); on the host of the index: ppctl logs"
        return NoAnswer(what, hint)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.found.append(target)


def links(page: Response) -> list[str]:
    """Return the absolute URLs that the simple page links to (PEP 503), with their fragments."""
    parser = _Links()
    parser.feed(page.body.decode(errors="replace"))
    return [urljoin(page.url, target) for target in parser.found]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
