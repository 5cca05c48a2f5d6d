"""What is believed of who asks, and by which name: of the client itself, and of the proxies before us."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

Environ = dict[str, Any]

# What any of the usual proxies would say, and only a trusted one may.
_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_FORWARDED_SCHEME",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_FORWARDED_SSL",
    "HTTP_X_REAL_IP",
    "HTTP_X_SCRIPT_NAME",
)

# Some proxies add the port; an IPv6 address has brackets, then.
_PORT = re.compile(r"^(?:\[([^\]]*)\](?::\d+)?|([\d.]+):\d+)$")
# uri-host [ ":" port ] (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
_NAME = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::\d*)?"
_HOST = re.compile(_NAME)
# pypiserver takes what follows a `/` for the path under which a proxy shows the index.
_HOST_AND_PREFIX = re.compile(_NAME + r"(?:/[A-Za-z0-9._~%!$&'()*+;=:@/-]*)?")


class Proxies:
    """The reverse proxies whose X-Forwarded-* headers are believed: addresses, networks, or `*`."""

    def __init__(self, listed: str) -> None:
        names = [name.strip() for name in listed.split(",") if name.strip()]
        self._everyone = "*" in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "*"]
        # It is asked in every request, mostly about the same few.
        self.is_listed = lru_cache(maxsize=1024)(self._look_up)

    def __contains__(self, address: object) -> bool:
        return self._everyone or self.is_listed(str(address))

    def _look_up(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        # On a socket for both, IPv4 addresses look like ::ffff:192.0.2.1 (RFC 4291, section 2.5.5.2).
        mapped = found.ipv4_mapped if found.version == 6 else None
        return any((mapped or found) in network for network in self._networks)


def has_valid_host(environ: Environ) -> bool:
    """Return whether the request says for which host it is, as it has to (RFC 9112, section 3.2)."""
    host = environ.get("HTTP_HOST")
    if host is None:
        return bool(environ.get("SERVER_PROTOCOL") == "HTTP/1.0")
    return _is_host(host)


def look_through(environ: Environ, trusted: Proxies, *, is_local: bool) -> None:
    """Make the client's address that of the real client; drop what only a trusted proxy may say.

    pypiserver builds redirects from X-Forwarded-Host and -Proto, whoever sent them, whatever they are.
    """
    if not is_local and environ.get("REMOTE_ADDR") not in trusted:
        for name in _FORWARDED:
            environ.pop(name, None)
        return
    _keep_last(environ, "HTTP_X_FORWARDED_HOST", _is_host_and_prefix)
    _keep_last(environ, "HTTP_X_FORWARDED_PROTO", _is_scheme)
    if "HTTP_X_FORWARDED_FOR" in environ:
        client = _client(environ["HTTP_X_FORWARDED_FOR"], trusted)
        environ["REMOTE_ADDR"] = client or environ.get("REMOTE_ADDR", "")


def _keep_last(environ: Environ, name: str, is_valid: Any) -> None:
    """Of several values keep the last one, which our proxy has added; drop one that makes no sense."""
    said = environ.get(name)
    if said is None:
        return
    last = said.rpartition(",")[2].strip()
    if is_valid(last):
        environ[name] = last
    else:
        del environ[name]


def _client(said: str, trusted: Proxies) -> str | None:
    """Return the address before the last trusted proxy in X-Forwarded-For; None when there is none.

    Each proxy adds at the end whom it has seen. What is before the first one that is not ours is hearsay.
    """
    client = None
    for part in reversed(said.split(",")):
        try:
            client = str(ipaddress.ip_address(_PORT.sub(r"\1\2", part.strip())))
        except ValueError:
            break
        if not trusted.is_listed(client):
            break
    return client


@lru_cache(maxsize=1024)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _is_host_and_prefix(text: str) -> bool:
    return bool(text) and _HOST_AND_PREFIX.fullmatch(text) is not None


def _is_scheme(text: str) -> bool:
    return text in ("http", "https")
