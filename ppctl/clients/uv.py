"""`uv.toml` and `pyproject.toml`: indexes that uv installs from and publishes to.

Format: https://docs.astral.sh/uv/concepts/indexes/. uv asks its indexes in order and takes a project
from the first that has it; `default = true` puts ours in the place of the public one, `explicit` uses
it only for projects that say so in `[tool.uv.sources]`: neither leaves room for dependency confusion.
`authenticate = "always"`: uv fails for want of a login instead of silently asking without, which an
index may answer with 404, and uv with the next index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl import xdg
from ppctl.clients import tomls
from ppctl.clients.base import Entry, FormatWithProjects, Priority, Refused, check_login


@dataclass(frozen=True)
class Uv(FormatWithProjects):
    """The format of `uv.toml` and, `in_project`, of `pyproject.toml`."""

    name: str = "uv"
    description: str = "index for uv: install, lock, publish"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the user's `uv.toml` (XDG base directory specification), or `UV_CONFIG_FILE`."""
        if env.get("UV_CONFIG_FILE"):
            return Path(env["UV_CONFIG_FILE"])
        return xdg.config(env, home) / "uv" / "uv.toml"

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our `[[index]]`. Raises Refused."""
        check_login(entry.user, entry.password)
        if self.in_project and entry.password:
            raise Refused(
                "no password is written into a project's file, which all its people share",
                f"leave out --with-password; then: uv auth login {entry.simple_url} --username {entry.user}",
            )
        self._check(tomls.tables(tomls.without(text, entry.name), self._path), entry)
        return tomls.merge(text, entry.name, self._body(entry))

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our `[[index]]`."""
        return tomls.remove(text, name)

    def cautions(self, text: str, entry: Entry) -> list[str]:
        """Return warnings for the older keys, which bring other indexes in."""
        settings = tomls.at(tomls.parse(text), self._path[:-1]) or {}
        places = [settings, settings.get("pip", {})]
        old = {key for place in places for key in ("index-url", "extra-index-url") if key in place}
        if entry.is_plain_http:
            old_note = [
                f"{entry.host} is asked over plain http, which anybody on the way can read and change"
            ]
        else:
            old_note = []
        return [
            f"{key} is set too and brings in another index: say it with [[index]], or remove it"
            for key in sorted(old)
        ] + old_note

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return how to install and publish with it, and where the login comes from."""
        default = self.in_project or path.parts[-2:] == ("uv", "uv.toml") or path.name == "uv.toml"
        option = "" if default else f" --config-file {path}"
        notes = []
        if entry.priority is Priority.EXPLICIT:
            notes.append(
                "each project that comes from here says so in its pyproject.toml: [tool.uv.sources] "
                f'NAME = {{ index = "{entry.name}" }}'
            )
        else:
            notes.append(f"uv pip install{option} PACKAGE")
        if self.has_secret(entry):
            # Without the option uv spends about ten seconds asking for a kind of login that only the
            # public index has.
            notes.append(f"uv publish{option} --trusted-publishing never --index {entry.name}")
            return notes
        user = entry.user or "USER"
        notes.append(f"uv publish{option} --index {entry.name} --username {user}")
        if entry.read_login:
            notes.append(f"the login: uv auth login {entry.simple_url} --username {user}")
            prefix = f"UV_INDEX_{entry.environment_name}"
            notes.append(f"or, in a CI job, {prefix}_USERNAME and {prefix}_PASSWORD")
        return notes

    @property
    def _path(self) -> tuple[str, ...]:
        return ("tool", "uv", "index") if self.in_project else ("index",)

    def _names_login(self, entry: Entry) -> bool:
        """Return whether the login goes into the URL: the name alone only where it is needed to read."""
        return not self.in_project and bool(entry.password or entry.read_login)

    def _body(self, entry: Entry) -> list[str]:
        url = entry.with_login(entry.simple_url) if self._names_login(entry) else entry.simple_url
        lines = [
            f"[[{'.'.join(self._path)}]]",
            f"name = {tomls.quote(entry.name)}",
            f"url = {tomls.quote(url)}",
            # Without the login: `uv publish` takes the one of `url`, and one in here it would send
            # percent-encoded, as it stands (measured with uv 0.13.9).
            f"publish-url = {tomls.quote(entry.upload_url)}",
        ]
        if entry.priority is Priority.PRIMARY:
            lines.append("default = true")
        if entry.priority is Priority.EXPLICIT:
            lines.append("explicit = true")
        if entry.read_login:
            lines.append('authenticate = "always"')
        return lines

    def _check(self, others: list[Mapping[str, object]], entry: Entry) -> None:
        for each in others:
            if each.get("name") == entry.name:
                raise Refused(
                    f"there is an index {entry.name} already that ppctl did not write",
                    "remove it first, or choose another name: --name NAME",
                )
            if each.get("default") and entry.priority is Priority.PRIMARY:
                raise Refused(
                    f"the index {each.get('name', '')} is the default already, and uv takes one",
                    "remove its `default = true`, or add this index with --explicit",
                )
