"""What a worker is told: `server.json`, written by `ppctl up`, and its environment, set by `run-pypi.sh`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppctl.server.permissions import check_pattern
from ppctl.server.upstream import POLICIES

CONFIG_NAME = "server.json"
ACTIONS = frozenset({"list", "download", "upload"})


class ConfigError(Exception):
    """`server.json` or the environment does not say what a worker needs. The message says where."""


@dataclass(frozen=True)
class ServerConfig:
    """One index as its workers see it. What is left out of `server.json` has the safe value."""

    packages: Path
    htpasswd: Path
    permissions: Path
    run: Path
    name: str = "pypi"
    login: frozenset[str] = ACTIONS
    upstream: str = "none"
    upstream_url: str = ""
    private: tuple[str, ...] = ()
    cache: Path | None = None
    overwrite: bool = False
    ownership: bool = False
    max_upload_size: int = 4 << 30
    url_prefix: str = ""
    public_url: str = ""
    threads: int = 8
    stop_timeout: int = 60
    trusted_proxies: str = "127.0.0.1,::1"


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker this is. `generation` and `unit` are digests that `ppctl up` compares with its own."""

    number: int = 1
    generation: str = ""
    unit: str = ""
    release: str = ""
    started: float = field(default_factory=time.time)


def worker_info(environ: Mapping[str, str]) -> WorkerInfo:
    """Return what the environment says about this worker. Raises ConfigError."""
    number = environ.get("PPCTL_WORKER", "")
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(f"PPCTL_WORKER: expected a number from 1, found {number!r}")
    return WorkerInfo(
        number=int(number),
        generation=environ.get("PPCTL_GENERATION", ""),
        unit=environ.get("PPCTL_UNIT", ""),
        release=environ.get("PPCTL_RELEASE", ""),
    )


def config_path(environ: Mapping[str, str]) -> Path:
    """Return where the `server.json` of the home in the environment is. Raises ConfigError."""
    home = environ.get("PPCTL_HOME", "")
    if not home.startswith("/"):
        raise ConfigError(f"PPCTL_HOME: expected an absolute path, found {home!r}")
    return Path(home) / CONFIG_NAME


def load(path: Path) -> ServerConfig:
    """Return the configuration in the file `path`. Raises ConfigError.

    Unknown keys are ignored: a release may be older than the ppctl that wrote the file.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"{path}: not valid JSON: {e}") from e
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object")
    try:
        return _from_data(data, path.parent)
    except ValueError as e:
        raise ConfigError(f"{path}: {e}") from e


def _from_data(data: dict[str, Any], home: Path) -> ServerConfig:
    login = frozenset(_get(data, "login", list, sorted(ACTIONS)))
    if not login <= ACTIONS:
        raise ValueError(f"login: expected some of {', '.join(sorted(ACTIONS))}")
    prefix = _get(data, "url_prefix", str, "").rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise ValueError("url_prefix: expected a path such as /pypi")
    return ServerConfig(
        packages=Path(_get(data, "packages", str, str(home / "packages"))),
        htpasswd=Path(_get(data, "htpasswd", str, str(home / "htpasswd"))),
        permissions=Path(_get(data, "permissions", str, str(home / "permissions.json"))),
        run=Path(_get(data, "run", str, str(home / "run"))),
        name=_get(data, "name", str, ServerConfig.name),
        login=login,
        upstream=_upstream(data),
        upstream_url=_get(data, "upstream_url", str, ""),
        private=tuple(check_pattern(str(each)) for each in _get(data, "private", list, [])),
        cache=Path(_get(data, "cache", str, "")) if data.get("cache") else None,
        overwrite=_get(data, "overwrite", bool, ServerConfig.overwrite),
        ownership=_get(data, "ownership", bool, ServerConfig.ownership),
        max_upload_size=_positive(data, "max_upload_size", ServerConfig.max_upload_size),
        url_prefix=prefix,
        public_url=_get(data, "public_url", str, "").rstrip("/"),
        threads=_positive(data, "threads", ServerConfig.threads),
        stop_timeout=_positive(data, "stop_timeout", ServerConfig.stop_timeout),
        trusted_proxies=_get(data, "trusted_proxies", str, ServerConfig.trusted_proxies),
    )


def _get(data: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    found = data.get(key)
    if found is None:
        return default
    # A bool is an int for Python, not for people.
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise ValueError(f"{key}: expected a value of type {kind.__name__}")
    return found


def _upstream(data: dict[str, Any]) -> str:
    policy: str = _get(data, "upstream", str, ServerConfig.upstream)
    if policy not in POLICIES:
        raise ValueError(f"upstream: expected one of {', '.join(POLICIES)}")
    if policy == "cache" and not data.get("cache"):
        raise ValueError("cache: needed for upstream cache")
    if policy != "none" and not data.get("upstream_url"):
        raise ValueError(f"upstream_url: needed for upstream {policy}")
    return policy


def _positive(data: dict[str, Any], key: str, default: int) -> int:
    found: int = _get(data, key, int, default)
    if found < 1:
        raise ValueError(f"{key}: expected a number from 1")
    return found
