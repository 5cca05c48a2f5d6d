"""pdm: the index and the repository in the user's `config.toml`, or a source in a project.

Formats: https://pdm-project.org/latest/usage/config/. pdm treats every source beside `pypi` as pip
treats an extra index, so ours takes the place and the name of `pypi` in both files. pdm knows no
explicit sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl import xdg
from ppctl.clients import tomls
from ppctl.clients.base import Entry, FormatWithProjects, Priority, Refused, check_login

_SOURCE = ("tool", "pdm", "source")


@dataclass(frozen=True)
class Pdm(FormatWithProjects):
    """The format of pdm's `config.toml` and, `in_project`, of `pyproject.toml`."""

    name: str = "pdm"
    description: str = "index and repository for pdm: install, publish"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the user's `config.toml` (platformdirs: XDG base directory specification)."""
        if env.get("PDM_CONFIG_FILE"):
            return Path(env["PDM_CONFIG_FILE"])
        return xdg.config(env, home) / "pdm" / "config.toml"

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our section. Raises Refused."""
        check_login(entry.user, entry.password)
        if entry.priority is not Priority.PRIMARY:
            raise Refused(
                f"pdm knows no {entry.priority.value} sources: it would mix this index with the public one",
                "leave the option out: the index then takes the place of the public one",
            )
        if self.in_project and entry.password:
            raise Refused(
                "no password is written into a project's file, which all its people share",
                "leave out --with-password, and run ppctl client pdm --write --with-password for config.toml",
            )
        others = tomls.without(text, entry.name)
        taken = {each.get("name") for each in tomls.tables(others, _SOURCE)} if self.in_project else others
        clash = "pypi" if "pypi" in taken else ""
        if entry.name in (tomls.at(others, ("repository",)) or {}):
            clash = f"repository.{entry.name}"
        if clash:
            raise Refused(
                f"the file says something about {clash} already that ppctl did not write",
                "remove it first (pdm takes one index in that place)",
            )
        return tomls.merge(text, entry.name, self._body(entry))

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our section."""
        return tomls.remove(text, name)

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return how to install and publish with it."""
        if self.in_project:
            return ["pdm add PACKAGE", "for publishing: ppctl client pdm --write (the user's config.toml)"]
        notes = ["pdm add PACKAGE", f"pdm publish --repository {entry.name}"]
        if not entry.password:
            notes.append(
                f"for the login: pdm config repository.{entry.name}.password (or PDM_PUBLISH_PASSWORD)"
            )
        notes.append(
            f"`pdm config KEY VALUE` writes {path.name} anew, without comments: then --remove finds nothing"
        )
        return notes

    def _body(self, entry: Entry) -> list[str]:
        if self.in_project:
            return [
                "[[tool.pdm.source]]",
                'name = "pypi"  # in the place of the public one',
                f"url = {tomls.quote(entry.simple_url)}",
            ]
        login = [f"username = {tomls.quote(entry.user)}"] if entry.user else []
        login += [f"password = {tomls.quote(entry.password)}"] if entry.user and entry.password else []
        return [
            "[pypi]",
            f"url = {tomls.quote(entry.simple_url)}",
            *(login if entry.read_login else []),
            f"[repository.{entry.name}]",
            f"url = {tomls.quote(entry.upload_url)}",
            *login,
        ]
