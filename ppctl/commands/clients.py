"""`ppctl pypirc` and `ppctl client …`: show, write, link and remove developers' client files; check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppctl.clients import CLIENTS, files
from ppctl.clients import check as checks
from ppctl.clients.base import Client, Entry, Refused, login_cautions
from ppctl.errors import EXIT_FAILED, EXIT_OK, PpctlError, UsageError
from ppctl.host import Host
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.output import Output


@dataclass(frozen=True)
class Place:
    """Whose machine it is: its host, the user's environment and home directory, and where to report."""

    host: Host
    env: Mapping[str, str]
    user_home: Path
    out: Output


def listing(place: Place) -> int:
    """Show every client, its file and what it is for. Returns the exit code."""
    rows = [
        (
            name,
            str(_shown(client.default_path(place.env, place.user_home), place.user_home)),
            client.description,
        )
        for name, client in CLIENTS.items()
    ]
    place.out.table(["client", "file", "for"], rows)
    keys = ("client", "path", "description")
    return place.out.result({"clients": [dict(zip(keys, row, strict=True)) for row in rows]})


def show(client: Client, path: Path, entry: Entry, place: Place) -> int:
    """Print our section, a valid file when alone; what to do with it goes to stderr."""
    client = client.at(path)
    text = client.render(entry)
    place.out.text(text.removesuffix("\n"))
    for note in client.notes(entry, path):
        place.out.progress(f"# {note}")
    return _report("print", client, path, files.Outcome(path, changed=False), entry=entry, place=place)


def write(client: Client, path: Path, entry: Entry, place: Place) -> int:
    """Merge our section into the file `path`. Returns the exit code; raises PpctlError, nothing changed."""
    client = client.at(path)
    if client.must_exist and place.host.stat(path) is None:
        raise PpctlError(
            f"{path}: there is no such file, and ppctl makes no project",
            "run the command in the project's directory, or name its file with --file",
        )
    cautions: list[str] = []

    def edit(text: str) -> str:
        with _naming(path):
            merged = client.merge(text, entry)
            cautions.extend(client.cautions(merged, entry))
        return merged

    with files.lock(place.host, place.env, place.user_home, f"ppctl client {client.name} --write"):
        outcome = files.update(
            place.host, path, edit, secret=client.has_secret(entry), private=client.private
        )
    return _report("write", client, path, _with(outcome, cautions), entry=entry, place=place)


def link(
    client: Client, path: Path, entry: Entry, index: Index, place: Place, *, confirm: Callable[[str], bool]
) -> int:
    """Keep the file in the index's home and make `path` a link to it. Returns the exit code."""
    client = client.at(path)
    if client.must_exist:
        raise UsageError(
            f"--link: {path.name} belongs to a project and stays in it", "merge the section in with --write"
        )
    kept = index.layout.client_files / _kept_name(client, path)
    host = place.host
    there = host.stat(path)
    if there and not (there.kind == "link" and Path(there.target) == kept):
        question = (
            f"{path} is there already; put it aside as {files.backup_of(path).name} and link to {kept}?"
        )
        if not confirm(question):
            raise PpctlError(f"{path}: left as it is", "merge the section in instead: --write")
    with files.lock(host, place.env, place.user_home, f"ppctl client {client.name} --link"):
        if host.stat(index.layout.client_files) is None:
            host.make_directory(index.layout.client_files, mode=0o700)

        def edit(text: str) -> str:
            with _naming(kept):
                return client.merge(text, entry)

        written = files.update(host, kept, edit, secret=True, private=True, keep_copy=False)
        outcome = files.put_link(host, path, kept)
    outcome = replace(outcome, changed=outcome.changed or written.changed)
    return _report("link", client, path, outcome, entry=entry, place=place)


def remove(client: Client, path: Path, name: str, place: Place) -> int:
    """Undo `write` or `link`. Returns the exit code; raises PpctlError, nothing changed."""
    client = client.at(path)
    host = place.host

    def edit(text: str) -> str:
        with _naming(path):
            return client.remove(text, name)

    with files.lock(host, place.env, place.user_home, f"ppctl client {client.name} --remove"):
        kept = _linked(host, path)
        outcome = files.undo(host, path, edit)
        if kept and outcome.removed:
            outcome = files.take_link(host, path)
    entry = Entry(name, "", "")
    return _report("remove", client, path, outcome, entry=entry, place=place)


def check(entry: Entry, place: Place, timeout: float) -> int:
    """Prove that the index works for a developer on this machine. Returns 1 if something does not."""
    out = place.out
    marks = {True: ("ok", "good"), False: ("fails", "bad"), None: ("-", "dim")}

    def tell(step: checks.Step) -> None:
        mark, style = marks[step.ok]
        line = f"{out.style(mark.ljust(5), style)}  {step.name.ljust(8)}  {step.detail}"
        (out.text if step.ok is False else out.info)(line)
        if step.hint:
            out.text(f"{' ' * 17}{step.hint}")

    steps = checks.run(entry, tell, timeout)
    failed = any(step.ok is False for step in steps)
    data = {"url": entry.simple_url, "user": entry.user, "steps": [step.to_data() for step in steps]}
    return out.result(data, exit_code=EXIT_FAILED if failed else EXIT_OK)


def find(name: str) -> Client:
    """Return the client called `name`. Raises UsageError naming the nearest."""
    if name in CLIENTS:
        return CLIENTS[name]
    import difflib

    close = difflib.get_close_matches(name, [*CLIENTS, "check"], n=1)
    meant = f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(CLIENTS)})"
    raise UsageError(f"there is no client {name!r}{meant}", "ppctl client --list")


def _report(
    action: str, client: Client, path: Path, outcome: files.Outcome, *, entry: Entry, place: Place
) -> int:
    out = place.out
    warnings = [*outcome.warnings, *login_cautions(entry)]
    for warning in warnings:
        out.warn(warning)
    notes = client.notes(entry, path) if action in ("print", "write", "link") else []
    if action != "print":
        out.info(_said(action, path, outcome, entry))
        if outcome.backup:
            out.progress(f"the file as it was: {outcome.backup}")
        for note in notes:
            out.progress(f"  {note}")
    data: dict[str, Any] = {
        "client": client.name,
        "action": action,
        "path": str(path),
        "changed": outcome.changed,
        "removed": outcome.removed,
        "backup": str(outcome.backup) if outcome.backup else None,
        "warnings": warnings,
        "notes": notes,
    }
    if action != "remove":
        data["text"] = client.render(entry.hidden())
        data["password_hidden"] = client.has_secret(entry)
    return out.result(data)


def _said(action: str, path: Path, outcome: files.Outcome, entry: Entry) -> str:
    real = f" ({outcome.path})" if outcome.path != path else ""
    if not outcome.changed:
        nothing = f"no section of {entry.name} in it" if action == "remove" else "it is so already"
        return f"{path}{real}: nothing to do, {nothing}"
    if outcome.removed:
        return f"{path}{real}: removed, there was nothing else in it"
    done = {
        "write": "has the section of",
        "link": "is a link to the file of",
        "remove": "is without the section of",
    }
    return f"{path}{real}: {done[action]} {entry.name}"


def _with(outcome: files.Outcome, warnings: list[str]) -> files.Outcome:
    return replace(outcome, warnings=[*outcome.warnings, *warnings])


def _linked(host: Host, path: Path) -> bool:
    """Return whether `path` is a link into the client files of an index's home."""
    info = host.stat(path)
    if info is None or info.kind != "link":
        return False
    target = Path(info.target)
    layout = Layout(target.parent.parent)
    return target.parent == layout.client_files and host.stat(layout.settings) is not None


def _kept_name(client: Client, path: Path) -> str:
    """Return what the file is called in the home, where several clients' `config.toml` meet."""
    name = path.name.lstrip(".")
    return name if name.startswith(client.name) else f"{client.name}-{name}"


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in which file it is that a section cannot go."""
    try:
        yield
    except Refused as e:
        raise Refused(f"{path}: {e.message}", e.hint) from e


def _shown(path: Path, home: Path) -> Path:
    return Path("~") / path.relative_to(home) if path.is_relative_to(home) else path
