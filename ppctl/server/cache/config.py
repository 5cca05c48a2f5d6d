"""What the cache program is told: `cache.json`, written by `ppctl up`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ppctl.server.config import ConfigError

CONFIG_NAME = "cache.json"


@dataclass(frozen=True)
class CacheConfig:
    """The cache of one index. `refresh`: seconds after which a page is asked for anew."""

    directory: Path
    run: Path
    netrc: Path
    url: str
    max_bytes: int
    refresh: int


def load(path: Path) -> CacheConfig:
    """Return the configuration in the file `path`. Raises ConfigError."""
    try:
        data = json.loads(path.read_bytes())
        return CacheConfig(
            directory=Path(data["directory"]),
            run=Path(data["run"]),
            netrc=Path(data["netrc"]),
            url=str(data["url"]).rstrip("/") + "/",
            max_bytes=int(data["max_bytes"]),
            refresh=int(data["refresh"]),
        )
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise ConfigError(f"{path}: not a configuration of the cache: {e}") from e
