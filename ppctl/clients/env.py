"""Environment variables, as lines for a shell: for CI jobs and containers.

Names: https://pip.pypa.io/en/stable/topics/configuration/#environment-variables,
https://docs.astral.sh/uv/reference/environment/, https://twine.readthedocs.io/en/stable/#environment-variables,
https://python-poetry.org/docs/configuration/#using-environment-variables,
https://pdm-project.org/latest/reference/configuration/ and https://hatch.pypa.io/latest/how-to/publish/auth/.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl import xdg
from ppctl.clients import blocks
from ppctl.clients.base import Entry, Format, Refused, check_login


@dataclass(frozen=True)
class Env(Format):
    """Lines for a POSIX shell: all clients' variables, or those of twine alone."""

    name: str = "env"
    description: str = "variables for pip, uv, twine, poetry, pdm, hatch: read, upload"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return a file of our own, to be sourced (XDG base directory specification)."""
        return xdg.config(env, home) / "ppctl" / f"{self.name}.sh"

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our lines, updated in place or appended. Raises Refused."""
        check_login(entry.user, entry.password)
        if blocks.without_ending(text).endswith("\\"):
            raise Refused(
                "the last line of the file ends with a backslash, so the next one would belong to it",
                "mend that line first; nothing was changed",
            )
        variables = _twine(entry) if self.name == "twine" else _all(entry)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return blocks.update(text, entry.name, lines)

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our lines."""
        return blocks.take_out(text, name)

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return how to load the file."""
        notes = [f". {shlex.quote(str(path))}"]
        if self.name == "twine":
            notes.append("twine upload dist/*")
        if not entry.password:
            notes.append(
                f"for twine, a keyring has the password: keyring set {entry.upload_url} "
                f"{entry.user or 'USER'}"
            )
        return notes


def _login(prefix: str, entry: Entry, names: tuple[str, str] = ("USERNAME", "PASSWORD")) -> dict[str, str]:
    if not entry.user:
        return {}
    found = {f"{prefix}_{names[0]}": entry.user}
    return {**found, f"{prefix}_{names[1]}": entry.password} if entry.password else found


def _twine(entry: Entry) -> dict[str, str]:
    return {"TWINE_REPOSITORY_URL": entry.upload_url, **_login("TWINE", entry)}


def _all(entry: Entry) -> dict[str, str]:
    name = entry.environment_name
    reading = entry if entry.read_login else None
    return {
        "PIP_INDEX_URL": entry.reading_url,
        **({"PIP_TRUSTED_HOST": entry.host} if entry.is_plain_http else {}),
        # With its name before it, the index takes the login of the UV_INDEX_<NAME>_… variables.
        "UV_DEFAULT_INDEX": f"{entry.name}={entry.simple_url}",
        **(_login(f"UV_INDEX_{name}", reading) if reading else {}),
        "UV_PUBLISH_URL": entry.upload_url,
        **_login("UV_PUBLISH", entry),
        **_twine(entry),
        f"POETRY_REPOSITORIES_{name}_URL": entry.upload_url,
        **_login(f"POETRY_HTTP_BASIC_{name}", entry),
        "PDM_PYPI_URL": entry.simple_url,
        **(_login("PDM_PYPI", reading) if reading else {}),
        "PDM_PUBLISH_REPO": entry.upload_url,
        **_login("PDM_PUBLISH", entry),
        "HATCH_INDEX_REPO": entry.upload_url,
        **_login("HATCH_INDEX", entry, ("USER", "AUTH")),
    }
