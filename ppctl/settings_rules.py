"""What no type or pattern of a single key can tell: the other rules for `ppctl.yml`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppctl.errors import UsageError

if TYPE_CHECKING:
    from ppctl.settings import Settings

URL = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"


def check_texts(node: Any, where: str, path: str = "") -> None:
    """Check what no pattern sees: `$` lets a line end pass, and keys may be numbers. Raises UsageError."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(node, dict) and not isinstance(key, str):
            raise UsageError(f"{where}: {path}{key}: keys are text", "`ppctl schema` shows every key")
        check_texts(value, where, f"{path}{key}.")
    if isinstance(node, str) and not node.isprintable():
        raise UsageError(f"{where}: {path.rstrip('.')}: there are control characters in {node!r}")


def check(settings: Settings, where: str) -> None:
    """Check what one key alone cannot tell. Raises UsageError."""
    if not _is_address(settings.host):
        raise UsageError(
            f"{where}: host: {settings.host!r} is not an IP address (nor localhost)",
            "127.0.0.1 for this machine only, 0.0.0.0 for every network; names go into public_url",
        )
    for number, proxy in enumerate(settings.trusted_proxies):
        if not _is_network(proxy):
            raise UsageError(
                f"{where}: trusted_proxies.{number}: {proxy!r} is neither an IP address nor a network",
                "for example 192.0.2.7 or 192.0.2.0/24",
            )
    if settings.public_url and not re.match(URL, settings.public_url):
        raise UsageError(
            f"{where}: public_url: expected http:// or https://, a host and a path, no login in it"
        )
    if settings.server.index_url and not re.match(r"^(https?|file)://[^\s@]+$", settings.server.index_url):
        raise UsageError(
            f"{where}: server.index_url: expected http:// or https://, a host and a path, no login in it",
            "a login for it goes into ~/.netrc",
        )
    if settings.server.index_url and settings.server.find_links:
        raise UsageError(f"{where}: server: index_url and find_links exclude each other")
    if settings.server.find_links and not Path(settings.server.find_links).is_absolute():
        raise UsageError(f"{where}: server.find_links: expected an absolute path")
    for package in settings.server.versions:
        if not re.match(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", package):
            raise UsageError(f"{where}: server.versions.{package}: not a normalized package name (PEP 503)")
    if settings.account == "root":
        raise UsageError(f"{where}: account: the workers must not run as root", "leave it out: pypi")


def _is_address(host: str) -> bool:
    # No network, and no scope (fe80::1%eth0): % means something else to both managers.
    return host == "localhost" or (not set("/%") & set(host) and _is_network(host))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
