"""A user's directories: the XDG base directory specification, which ignores relative paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def config(env: Mapping[str, str], home: Path) -> Path:
    """Return where a user's programs keep their configuration."""
    return _base(env.get("XDG_CONFIG_HOME", ""), home / ".config")


def data(env: Mapping[str, str], home: Path) -> Path:
    """Return where a user's programs keep their data."""
    return _base(env.get("XDG_DATA_HOME", ""), home / ".local" / "share")


def cache(env: Mapping[str, str], home: Path) -> Path:
    """Return where a user's programs keep what may be lost."""
    return _base(env.get("XDG_CACHE_HOME", ""), home / ".cache")


def _base(said: str, default: Path) -> Path:
    return Path(said) if said.startswith("/") else default
