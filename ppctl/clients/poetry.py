"""poetry: `[[tool.poetry.source]]` in a project, repositories and logins in the user's own files.

Formats: https://python-poetry.org/docs/repositories/. A primary source replaces the public index; an
explicit one is used only for dependencies that name it (`source = "NAME"`); a supplemental one is
asked only for what no primary source has, so the public index comes first, and anybody could shadow
a private name there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ppctl.clients import tomls
from ppctl.clients.base import Client, Entry, Format, Priority, Refused, check_login

_KINDS = {
    "pyproject.toml": ("tool", "poetry", "source"),
    "config.toml": ("repositories",),
    "auth.toml": ("http-basic",),
}


@dataclass(frozen=True)
class Poetry(Format):
    """The formats of `pyproject.toml`, `config.toml` (repositories) and `auth.toml` (logins)."""

    file: str = "pyproject.toml"
    name: str = "poetry"
    description: str = "source for poetry (of a project); config.toml, auth.toml: publish"

    @property
    def private(self) -> bool:
        """Whether it is the file with logins."""
        return self.file == "auth.toml"

    @property
    def must_exist(self) -> bool:
        """Whether it is a project's file."""
        return self.file == "pyproject.toml"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:  # noqa: ARG002
        """Return the `pyproject.toml` of the project in the working directory."""
        return Path("pyproject.toml")

    def at(self, path: Path) -> Client:
        """Return the format of `config.toml` or `auth.toml` if `path` is called so."""
        return replace(self, file=path.name if path.name in _KINDS else "pyproject.toml")

    def has_secret(self, entry: Entry) -> bool:
        """Return whether it is `auth.toml` and there is a password to write."""
        return bool(self.private and entry.password)

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our section. Raises Refused."""
        check_login(entry.user, entry.password)
        if entry.password and not self.private:
            raise Refused(
                f"no password is written into {self.file}: poetry keeps logins elsewhere",
                f"leave out --with-password; then: poetry config http-basic.{entry.name} {entry.user}",
            )
        if self.private and not (entry.user and entry.password):
            raise Refused("auth.toml holds nothing but logins", "give one: --user NAME --with-password")
        others = tomls.without(text, entry.name)
        found = tomls.at(others, _KINDS[self.file])
        names = {each.get("name") for each in tomls.tables(others, _KINDS[self.file])}
        if isinstance(found, Mapping):
            names |= set(found)
        if entry.name in names:
            raise Refused(
                f"there is a section for {entry.name} already that ppctl did not write",
                "remove it first, or choose another name: --name NAME",
            )
        return tomls.merge(text, entry.name, self._body(entry))

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our section."""
        return tomls.remove(text, name)

    def cautions(self, text: str, entry: Entry) -> list[str]:  # noqa: ARG002
        """Return a warning for a supplemental source."""
        if self.must_exist and entry.priority is Priority.SUPPLEMENTAL:
            return [
                "a supplemental source is asked only for what the public index does not have, so anybody can "
                "shadow your private projects there: explicit is safer"
            ]
        return []

    def notes(self, entry: Entry, path: Path) -> list[str]:  # noqa: ARG002
        """Return how to install, how to publish (another file), and where the login goes (a third)."""
        if self.file != "pyproject.toml":
            return [f"poetry publish --repository {entry.name}"]
        notes = [f"poetry add --source {entry.name} PACKAGE"]
        notes.append(f"for publishing: poetry config repositories.{entry.name} {entry.upload_url}")
        notes.append(f"for the login: poetry config http-basic.{entry.name} {entry.user or 'USER'}")
        notes.append(f"then: poetry publish --repository {entry.name}")
        return notes

    def _body(self, entry: Entry) -> list[str]:
        if self.file == "auth.toml":
            login = {"username": entry.user, "password": entry.password}
            return [f"[http-basic.{entry.name}]", *(f"{k} = {tomls.quote(v)}" for k, v in login.items())]
        if self.file == "config.toml":
            return [f"[repositories.{entry.name}]", f"url = {tomls.quote(entry.upload_url)}"]
        return [
            "[[tool.poetry.source]]",
            f"name = {tomls.quote(entry.name)}",
            f"url = {tomls.quote(entry.simple_url)}",
            f"priority = {tomls.quote(entry.priority.value)}",
        ]
