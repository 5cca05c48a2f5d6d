"""`pip.conf`: which index pip installs from.

Format and places: https://pip.pypa.io/en/stable/topics/configuration/. One `index-url`, not an
`extra-index-url` beside the public index: pip gives no index priority, it takes the highest version
that it finds anywhere (pip#8606), so whoever registers the name of a private project on the public
index gets their code installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl import xdg
from ppctl.clients import blocks, ini
from ppctl.clients.base import Entry, Format, Refused, check_login

_INDEX = "index-url"
_TRUSTED = "trusted-host"


def _key(name: str) -> str:
    """Return an option's name as pip reads it (pip 26 `configuration._normalize_name`)."""
    return name.lower().replace("_", "-").removeprefix("--")


@dataclass(frozen=True)
class Pip(Format):
    """The format of `pip.conf`."""

    name: str = "pip"
    description: str = "index for pip: install, download"

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the user's `pip.conf` (XDG base directory specification), or `PIP_CONFIG_FILE`."""
        if env.get("PIP_CONFIG_FILE"):
            return Path(env["PIP_CONFIG_FILE"])
        return xdg.config(env, home) / "pip" / "pip.conf"

    def has_secret(self, entry: Entry) -> bool:
        """Return whether the URL has a password in it: only if reading needs one."""
        return bool(entry.read_login and entry.user and entry.password)

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with `index-url` in [global], where every command of pip finds it. Raises Refused."""
        check_login(entry.user, entry.password)
        replace = entry.replace or blocks.replaces(text, entry.name)
        before = ini.parse(text, _key)
        text = self.remove(text, entry.name)
        text = _set_index(text, entry, replace)
        if entry.is_plain_http:
            text = _trust(text, entry)
        _verify(before, ini.parse(text, _key), entry)
        return text

    def remove(self, text: str, name: str) -> str:
        """Return `text` as it was before, lines put aside by --replace back in place."""
        return ini.take_out(text, name)

    def cautions(self, text: str, entry: Entry) -> list[str]:
        """Return warnings for extra indexes, plain http and a name without use."""
        found = []
        extra = [s.name for s in ini.scan(blocks.split(text), _key) if s.get("extra-index-url")]
        if extra:
            found.append(
                f"extra-index-url is set in [{extra[0]}]: pip takes the highest version from any index, so "
                "anybody can shadow your private projects there (dependency confusion)"
            )
        if entry.is_plain_http:
            found.append(
                f"{entry.host} is asked over plain http, which anybody on the way can read and change; pip "
                "refuses that, so trusted-host is set: better give the index https"
            )
        if entry.user and not entry.read_login:
            found.append("the user name is not written: reading needs no login (if it does: --read-login)")
        return found

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return how to install with it, and where the password comes from."""
        default = path.name == "pip.conf" and path.parent.name in ("pip", ".pip", "etc")
        notes = ["pip install PACKAGE" if default else f"PIP_CONFIG_FILE={path} pip install PACKAGE"]
        if entry.read_login and not entry.password:
            notes.append(
                "pip asks for the password, or finds it with --keyring-provider subprocess (keyring set "
                f"{entry.simple_url} {entry.user or 'USER'}) or in ~/.netrc (ppctl client netrc)"
            )
        return notes


def _set_index(text: str, entry: Entry, replace: bool) -> str:
    lines = blocks.split(text)
    sections = ini.scan(lines, _key)
    wanted = [f"{_INDEX} = {entry.reading_url}"]
    found = [(section, option) for section in sections if (option := section.get(_INDEX))]
    others = [(section, option) for section, option in found if option.value != entry.reading_url]
    if others:
        _check_replaceable(lines, others[0][0].name, others[0][1], replace)
    glob = next((section for section in sections if section.name == "global"), None)
    own = glob.get(_INDEX) if glob else None
    # From the end of the file to its beginning, so that the numbers of the lines before stay right.
    for section, option in reversed(others):
        body = wanted if section is glob else []
        indent = ini.indentation(lines[option.start])
        count = option.end - option.start
        lines = blocks.insert(lines, option.start, entry.name, body, replaced=count, indent=indent)
    if own is not None:
        return "".join(lines)
    if glob is None:
        return blocks.append("".join(lines), entry.name, ["[global]", *wanted])
    glob = ini.section(lines, "global", _key) or glob
    indent = ini.first_indentation(lines, glob)
    return "".join(blocks.insert(lines, glob.start + 1, entry.name, wanted, indent=indent))


def _check_replaceable(lines: list[str], section: str, option: ini.Option, replace: bool) -> None:
    owner = next((b.name for b in blocks.find(lines) if b.start < option.start < b.end), None)
    if owner is not None:
        raise Refused(
            f"pip takes one index-url, and ppctl has written the one of the index {owner} here",
            f"remove that first: ppctl client pip --remove --name {owner}",
        )
    if not replace:
        raise Refused(
            f"another index-url is set already in [{section}], and pip takes only one",
            "put it aside with --replace (--remove brings it back)",
        )


def _trust(text: str, entry: Entry) -> str:
    """Make pip speak plain http to the index: it refuses unless the host is in `trusted-host`."""
    lines = blocks.split(text)
    glob = ini.section(lines, "global", _key)
    if glob is None:  # somebody's block in another section: cannot be, _set_index has made [global]
        return text
    option = glob.get(_TRUSTED)
    hosts = option.value.split() if option else []
    if entry.host in hosts:
        return text
    body = [f"{_TRUSTED} = {' '.join([*hosts, entry.host])}"]
    if option is None:
        index = glob.get(_INDEX)
        at = index.end if index else glob.end
        return "".join(_beside(lines, at, body[0], entry.name))
    indent = ini.indentation(lines[option.start])
    count = option.end - option.start
    return "".join(blocks.insert(lines, option.start, entry.name, body, replaced=count, indent=indent))


def _beside(lines: list[str], at: int, line: str, name: str) -> list[str]:
    """Put `line` into the block that ends our index-url, or into a block of its own there."""
    indent = ini.indentation(lines[at - 1])
    if any(block.start < at < block.end for block in blocks.find(lines, name)):
        return [*lines[:at], indent + line + blocks.newline(lines), *lines[at:]]
    return blocks.insert(lines, at, name, [line], indent=indent)


def _verify(before: ini.Parsed, after: ini.Parsed, entry: Entry) -> None:
    """Check with pip's own kind of parser that nothing else has changed. Raises Refused."""

    def rest(parsed: ini.Parsed) -> ini.Parsed:
        ours = (_INDEX, _TRUSTED)
        return {name: {k: v for k, v in o.items() if k not in ours} for name, o in parsed.items()}

    glob = after.get("global", {})
    trusted = after.get("global", {}).get(_TRUSTED, "").split()
    if (
        {"global": {}, **rest(before)} != {"global": {}, **rest(after)}
        or glob.get(_INDEX) != entry.reading_url
        or (entry.is_plain_http and entry.host not in trusted)
    ):
        raise Refused(
            "index-url cannot be put into this file without changing the meaning of something else",
            f"add it to [global] by hand: index-url = {entry.simple_url}",
        )
