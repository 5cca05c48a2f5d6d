"""`~/.pypirc`: where twine, flit and hatch find repositories to upload to.

Format: https://packaging.python.org/specifications/pypirc/. Two things that programs make of it:

- twine always knows `pypi`, and `testpypi` only if `index-servers` lists it or there is no such list
  (twine 6.2 `utils.get_config`); it reads the login of a repository only if it is listed. So a first
  list must name both, or what worked before would stop working.
- flit takes a listed repository without URL for the public PyPI (flit 3.12 `upload.get_repositories`).
  So the `testpypi` that we list gets its URL, or `flit publish --repository testpypi` would
  publish for good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppctl.clients import blocks, ini
from ppctl.clients.base import Entry, Format, Refused, check_login

_PUBLIC = ["pypi", "testpypi"]
_TESTPYPI = ["", "[testpypi]", "repository = https://test.pypi.org/legacy/"]
_LISTED = "# (the name was in index-servers already)"


@dataclass(frozen=True)
class Pypirc(Format):
    """The format of `~/.pypirc`."""

    name: str = "pypirc"
    description: str = "repository for twine, flit and hatch: upload"

    @property
    def private(self) -> bool:
        """Whether it is only for its owner's eyes: always."""
        return True

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:  # noqa: ARG002
        """Return `~/.pypirc` (the specification knows no other place)."""
        return home / ".pypirc"

    def has_secret(self, entry: Entry) -> bool:
        """Return whether there is a password to write."""
        return bool(entry.password)

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with the section of `entry`, listed in `index-servers`. Raises Refused."""
        before = ini.parse(text)
        if blocks.has(text, entry.name):
            noted = [_LISTED] if _LISTED in blocks.body(text, entry.name) else []
            merged = blocks.update(text, entry.name, [*noted, *_section(entry)])
            if entry.name not in (_listed(ini.parse(merged)) or []):
                merged = _enlist(merged, entry.name)
        else:
            merged = _add(text, entry, before)
        _verify(before, ini.parse(merged), entry)
        return merged

    def remove(self, text: str, name: str) -> str:
        """Return `text` without the section `name`, its name in the list, and a list only made for it."""
        if not blocks.has(text, name):
            return text
        was_listed = _LISTED in blocks.body(text, name)
        text = ini.take_out(text, name)
        if not was_listed:
            text = _unlist(text, name)
        if blocks.has(text, blocks.SHARED) and _listed(ini.parse(text)) == _PUBLIC:
            text = ini.take_out(text, blocks.SHARED)
        return text

    def cautions(self, text: str, entry: Entry) -> list[str]:
        """Return warnings for old logins that apply to every repository, and for hatch's interpolation."""
        found = []
        if ini.section(blocks.split(text), "server-login") and not (entry.user and entry.password):
            found.append(
                "[server-login] in this file gives its login to every repository without one, so twine "
                "would send it to this index too: move it into [pypi]"
            )
        if "%" in entry.user + entry.password:
            found.append(
                "hatch does not understand % in a login in this file (twine does): see ppctl client hatch"
            )
        return found

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return how to upload with it, and how to keep the password in a keyring."""
        config = "" if path.name == ".pypirc" else f" --config-file {path}"
        notes = [f"twine upload{config} --repository {entry.name} dist/*"]
        if not entry.password:
            user = entry.user or "USER"
            notes.append(f"twine asks for the password, or keeps it: keyring set {entry.upload_url} {user}")
        return notes


def _section(entry: Entry) -> list[str]:
    check_login(entry.user, entry.password)
    if entry.password != entry.password.strip():
        raise Refused(
            "a password that begins or ends with a blank cannot stand in .pypirc (the blank is lost)",
            "leave out --with-password and keep it in a keyring",
        )
    lines = [f"[{entry.name}]", f"repository = {entry.upload_url}"]
    if entry.user:
        lines.append(f"username = {entry.user}")
    if entry.password:
        lines.append(f"password = {entry.password}")
    return lines


def _listed(parsed: ini.Parsed) -> list[str] | None:
    servers = parsed.get("distutils", {}).get("index-servers")
    return None if servers is None else servers.split()


def _add(text: str, entry: Entry, before: ini.Parsed) -> str:
    lines = blocks.split(text)
    old = ini.section(lines, entry.name)
    if old and not entry.replace:
        raise Refused(
            f"there is a section [{entry.name}] already that ppctl did not write",
            "put it aside with --replace (--remove brings it back), or choose another: --name NAME",
        )
    listed = _listed(before)
    noted = [_LISTED] if listed and entry.name in listed else []
    body = [*noted, *_section(entry)]
    if old:
        inside = range(old.start, old.end)
        if any(block.start in inside or block.end in inside for block in blocks.find(lines)):
            raise Refused(f"the section [{entry.name}] has ppctl's own lines in it", "remove those first")
        text = "".join(blocks.insert(lines, old.start, entry.name, body, replaced=old.end - old.start))
    if listed is None:
        text = _add_list(text, before)
    if not noted:
        text = _enlist(text, entry.name)
    return text if old else blocks.append(text, entry.name, body)


def _add_list(text: str, before: ini.Parsed) -> str:
    """Make the list that programs took for granted so far, in a block that all indexes share."""
    lines = blocks.split(text)
    servers = ["index-servers =", *(f"    {name}" for name in _PUBLIC)]
    existing = ini.section(lines, "distutils")
    testpypi = [] if "testpypi" in before else _TESTPYPI
    if existing is None:
        return blocks.append(text, blocks.SHARED, ["[distutils]", *servers, *testpypi])
    indent = ini.first_indentation(lines, existing)
    text = "".join(blocks.insert(lines, existing.start + 1, blocks.SHARED, servers, indent=indent))
    return blocks.append(text, blocks.SHARED, testpypi[1:]) if testpypi else text


def _enlist(text: str, name: str) -> str:
    """Add `name` to `index-servers`: on a line of its own if the others have such lines."""
    lines = blocks.split(text)
    option = _servers(lines)
    last = option.words[-1][0] if option.words else option.start
    content = blocks.without_ending(lines[last]).rstrip()
    rest = lines[last][len(content) :]
    if last == option.start:
        lines[last] = f"{content} {name}{rest}"
    elif blocks.without_ending(lines[last]) == lines[last]:
        lines[last] += blocks.newline(lines) + ini.indentation(lines[last]) + name
    else:
        lines.insert(last + 1, ini.indentation(lines[last]) + name + blocks.newline(lines))
    return "".join(lines)


def _unlist(text: str, name: str) -> str:
    """Undo `_enlist`."""
    lines = blocks.split(text)
    if ini.section(lines, "distutils") is None:
        return text
    option = _servers(lines)
    at = max((number for number, word in option.words if word == name), default=None)
    if at is None:
        return text
    if lines[at].strip() == name and at != option.start:
        if at == len(lines) - 1 and blocks.without_ending(lines[at]) == lines[at]:
            lines[at - 1] = blocks.without_ending(lines[at - 1])
        del lines[at]
        return "".join(lines)
    word = list(re.finditer(rf"(?<!\S){name}(?!\S)", lines[at]))[-1]
    lines[at] = lines[at][: word.start() - 1] + lines[at][word.end() :]
    return "".join(lines)


def _servers(lines: list[str]) -> ini.Option:
    found = ini.section(lines, "distutils")
    option = found.get("index-servers") if found else None
    if option is None:
        raise Refused("[distutils] has no index-servers any more: remove ppctl's lines by hand")
    return option


def _verify(before: ini.Parsed, after: ini.Parsed, entry: Entry) -> None:
    """Check with the reader's own parser that nothing but our section has changed. Raises Refused."""
    now: dict[str, dict[str, Any]] = {name: dict(options) for name, options in after.items()}
    expected: dict[str, dict[str, Any]] = {name: dict(options) for name, options in before.items()}
    listed = _listed(before)
    if listed is None:
        expected.setdefault("testpypi", {"repository": _TESTPYPI[-1].partition(" = ")[2]})
    names = _PUBLIC if listed is None else listed
    expected.setdefault("distutils", {})["index-servers"] = names + [entry.name] * (entry.name not in names)
    now["distutils"]["index-servers"] = _listed(after)
    ours = {"repository": entry.upload_url, "username": entry.user, "password": entry.password}
    written = {**after["DEFAULT"], **now.pop(entry.name, {})}
    expected.pop(entry.name, None)
    if now != expected or any(written.get(key) != value for key, value in ours.items() if value):
        raise _unsafe(entry)


def _unsafe(entry: Entry) -> Refused:
    lines = "\n".join(_section(replace(entry, password="")))
    return Refused(
        "the section cannot be put into this file without changing the meaning of something else",
        f"add it by hand, and the name {entry.name} to index-servers:\n{lines}",
    )
