"""The machine's own supervisord: where its configuration and its socket are, and what it includes."""

from __future__ import annotations

from pathlib import Path

from ppctl.errors import PpctlError
from ppctl.host import Host

START = "start it: systemctl start supervisor"
"""The hint where the machine's supervisord does not run: that is not ppctl's to start."""

NOT_INSTALLED = "supervisor is not installed on this machine (no supervisord.conf in /etc)"

# Debian and Ubuntu; the RHEL family; supervisor's own default. The first that exists counts.
CONFIGURATIONS = (
    Path("/etc/supervisor/supervisord.conf"),
    Path("/etc/supervisord.conf"),
)


def configuration_file(host: Host) -> Path | None:
    """Return the configuration file of the machine's supervisord, or None where there is none."""
    return next((path for path in CONFIGURATIONS if host.stat(path)), None)


def is_installed(host: Host) -> bool:
    """Return whether this machine has a supervisord of its own."""
    return configuration_file(host) is not None


def _option(host: Host, section: str, option: str) -> str:
    import configparser

    path = configuration_file(host)
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    if path:
        try:
            parser.read_string((host.read(path) or b"").decode("utf-8", "replace"))
        except configparser.Error as e:
            raise PpctlError(f"{path}: {e}", "supervisord cannot read it either: mend it first") from e
    return parser.get(section, option, fallback="")


def socket(host: Host) -> Path:
    """Return the UNIX socket of the machine's supervisord."""
    return Path(_option(host, "unix_http_server", "file") or "/var/run/supervisor.sock")


def include_file(host: Host, stem: str) -> Path:
    """Return the path under which the machine's supervisord includes a configuration named `stem`.

    Raises PpctlError where there is none, or where its configuration includes no directory.
    """
    configuration = configuration_file(host)
    if configuration is None:
        raise PpctlError(NOT_INSTALLED, "apt install supervisor")
    for pattern in _option(host, "include", "files").split():
        path = Path(pattern)
        if path.name.startswith("*."):
            return configuration.parent / path.parent / f"{stem}{path.suffix}"
    raise PpctlError(
        f"{configuration}: supervisord includes no directory of configurations ([include] files)",
        "add to it: [include] files = /etc/supervisor/conf.d/*.conf",
    )


def include_directory(host: Host) -> Path:
    """Return the directory of what the machine's supervisord includes; raises as `include_file` does."""
    return include_file(host, "x").parent
