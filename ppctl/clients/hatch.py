"""hatch: a repository to publish to, in the user's `config.toml`.

Format: https://hatch.pypa.io/latest/publish/ and https://hatch.pypa.io/latest/config/hatch/. hatch
installs with pip or uv, which have files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl import xdg
from ppctl.clients import tomls
from ppctl.clients.base import Entry, Format, Refused, check_login

_REPOSITORIES = ("publish", "index", "repos")


@dataclass(frozen=True)
class Hatch(Format):
    """The format of hatch's `config.toml`."""

    name: str = "hatch"
    description: str = "repository for hatch: publish"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the user's `config.toml` (platformdirs), or `HATCH_CONFIG`."""
        if env.get("HATCH_CONFIG"):
            return Path(env["HATCH_CONFIG"])
        return xdg.config(env, home) / "hatch" / "config.toml"

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our repository. Raises Refused."""
        check_login(entry.user, entry.password)
        if entry.name in (tomls.at(tomls.without(text, entry.name), _REPOSITORIES) or {}):
            raise Refused(
                f"there is a repository {entry.name} already that ppctl did not write",
                "remove it first, or choose another name: --name NAME",
            )
        lines = [f"[{'.'.join(_REPOSITORIES)}.{entry.name}]", f"url = {tomls.quote(entry.upload_url)}"]
        if entry.user:
            lines.append(f"user = {tomls.quote(entry.user)}")
        if self.has_secret(entry):
            lines.append(f"auth = {tomls.quote(entry.password)}")
        return tomls.merge(text, entry.name, lines)

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our repository."""
        return tomls.remove(text, name)

    def notes(self, entry: Entry, path: Path) -> list[str]:  # noqa: ARG002
        """Return how to publish with it, and what hatch's environments install from."""
        notes = [f"hatch publish --repo {entry.name}"]
        if not entry.password:
            user = entry.user or "USER"
            notes.append(f"hatch asks for the password, or finds it: keyring set {entry.upload_url} {user}")
        notes.append("hatch installs with pip or uv: ppctl client pip, ppctl client uv")
        return notes
