"""What `ppctl packages` asks of a worker, on the worker's own UNIX socket: list, yank, remove, mark."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from ppctl.server import drafts, kept, marks
from ppctl.server.catalogue import Catalogue, File
from ppctl.server.known import Known
from ppctl.server.marks import STATUSES, Marks
from ppctl.server.names import normalize, release_of
from ppctl.server.owners import Owners
from ppctl.server.spelling import SIDECARS

log = logging.getLogger("ppctl.server.control")

PACKAGES_PATH = "/_ppctl/packages"

_MAX_BODY = 1 << 16
_MAX_REASON = 1000


class Refused(Exception):
    """The request cannot be done. The message says why; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PackageControl:
    """Does what operators want with packages."""

    def __init__(self, catalogue: Catalogue, owners: Owners, known: Known) -> None:
        self._catalogue = catalogue
        self._owners = owners
        self._known = known
        self._marks = kept.Twice(
            catalogue.packages / marks.FILE_NAME, catalogue.path.with_name(marks.COPY_NAME)
        )
        self._lock = catalogue.path.with_name("marks.lock")
        self._actions: dict[str, Callable[[str, dict[str, str]], dict[str, Any]]] = {
            "yank": self._yank,
            "unyank": self._unyank,
            "status": self._status,
            "remove": self._remove,
            "owner": self._owner,
        }

    def begin(self) -> None:
        """Bring the file of marks back where it is gone. Raises OSError."""
        with kept.alone(self._lock):
            self._marks.mend()

    def __call__(self, environ: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of an answer. GET lists, POST changes."""
        try:
            if environ["REQUEST_METHOD"] == "GET":
                query = parse_qs(environ.get("QUERY_STRING", ""))
                return 200, self._list(*(query.get(key, [""])[0] for key in ("project", "version")))
            asked = _body(environ)
            if asked.get("action") == "forget":
                return 200, self._forget(normalize(asked.get("project", "")))
            action = self._actions.get(asked.get("action", ""))
            if action is None:
                raise Refused(400, "no such action")
            return 200, action(self._project(asked), asked)
        except Refused as e:
            return e.status, {"error": str(e)}

    def _list(self, project: str, version: str) -> dict[str, Any]:
        if not project:
            there = self._catalogue.projects()
            return {"projects": there, "former": self._former(there)}
        name = self._project({"project": project})
        with kept.alone(self._lock):
            said = self._read().get(name, Marks())
        files = self._release(name, {"version": version}) if version else self._catalogue.files(name)
        return {
            "project": name,
            "status": said.status or "active",
            "reason": said.reason,
            "owner": self._owners.of(name),
            "files": [_describe(file, said) for file in files],
        }

    def _yank(self, project: str, asked: dict[str, str]) -> dict[str, Any]:
        found = self._release(project, asked)
        release, reason = found[0].release, asked.get("reason", "")[:_MAX_REASON]
        with self._changing(project) as change:
            changed = change(lambda said: replace(said, yanked={**said.yanked, release: reason}))
        log.info("yanked %s %s: %s", project, release, reason or "no reason")
        return {"changed": changed, "files": [file.path for file in found]}

    def _unyank(self, project: str, asked: dict[str, str]) -> dict[str, Any]:
        release = release_of(asked.get("version", ""))
        with self._changing(project) as change:
            changed = change(
                lambda said: replace(said, yanked={r: why for r, why in said.yanked.items() if r != release})
            )
        log.info("no longer yanked: %s %s", project, release)
        files = [file.path for file in self._catalogue.files(project) if file.release == release]
        return {"changed": changed, "files": files}

    def _status(self, project: str, asked: dict[str, str]) -> dict[str, Any]:
        status, reason = asked.get("status", ""), asked.get("reason", "")[:_MAX_REASON]
        if status not in STATUSES:
            raise Refused(400, f"no such status: {status}")
        wanted, why = (None, "") if status == "active" else (status, reason)
        with self._changing(project) as change:
            changed = change(lambda said: replace(said, status=wanted, reason=why))
        log.info("%s is %s: %s", project, status, reason or "no reason")
        return {"changed": changed, "files": [file.path for file in self._catalogue.files(project)]}

    def _remove(self, project: str, asked: dict[str, str]) -> dict[str, Any]:
        found = [file.path for file in self._release(project, asked)]
        for path in found:
            drafts.remove(self._catalogue.packages / path, self._catalogue.path.with_name(drafts.LOCK_NAME))
        self._catalogue.remove(f"{path}{ending}" for path in found for ending in ("", *SIDECARS))
        log.info("removed %s", ", ".join(found))
        return {"changed": True, "files": found}

    def _owner(self, project: str, asked: dict[str, str]) -> dict[str, Any]:
        user = asked.get("user") or None
        try:
            changed = self._owners.put(project, user)
        except ValueError as e:
            raise Refused(409, f"the file of owners is broken: {e}") from e
        log.info("%s belongs to %s", project, user or "nobody")
        return {"changed": changed, "files": []}

    def _former(self, there: list[str]) -> list[str]:
        try:
            return sorted(self._known.all().difference(there))
        except (OSError, ValueError):
            return []  # `ppctl doctor` tells of it

    def _forget(self, project: str) -> dict[str, Any]:
        if self._catalogue.has(project):
            raise Refused(409, f"{project} is here: what is here never comes from elsewhere")
        try:
            changed = self._known.forget(project)
        except (OSError, ValueError) as e:
            raise Refused(409, f"{self._known.path} is broken: {e}") from e
        log.info("%s may be asked about elsewhere", project)
        return {"changed": changed, "files": []}

    def _project(self, asked: dict[str, str]) -> str:
        """Return the project that is meant: one with files, or of which something is said."""
        name = normalize(asked.get("project", ""))
        if self._catalogue.has(name) or self._owners.of(name):
            return name
        with kept.alone(self._lock):
            if name not in self._read():
                raise Refused(404, f"there is no project {name}")
        return name

    def _release(self, project: str, asked: dict[str, str]) -> list[File]:
        wanted = release_of(asked.get("version", ""))
        files = self._catalogue.files(project)
        found = [file for file in files if file.release == wanted]
        if not found:
            there = ", ".join(dict.fromkeys(file.release for file in files))
            raise Refused(404, f"{project} has no version {wanted}; it has {there or 'no files'}")
        return found

    def _read(self) -> dict[str, Marks]:
        content = self._marks.read()
        try:
            return {} if content is None else marks.parse(content)
        except ValueError as e:
            raise Refused(409, f"{self._marks.path} is broken: {e}") from e

    @contextmanager
    def _changing(self, project: str) -> Iterator[Callable[[Callable[[Marks], Marks]], bool]]:
        """Give a function that changes a project's marks; alone among all workers."""
        with kept.alone(self._lock):
            known = self._read()

            def change(work: Callable[[Marks], Marks]) -> bool:
                before = known.get(project, Marks())
                after = work(before)
                if before != after:
                    self._marks.write(marks.serialise({**known, project: after}))
                return before != after

            yield change


def _body(environ: dict[str, Any]) -> dict[str, str]:
    try:
        length = min(int(environ.get("CONTENT_LENGTH") or 0), _MAX_BODY)
        found = json.loads(environ["wsgi.input"].read(length))
    except ValueError as e:
        raise Refused(400, "not valid JSON") from e
    if not isinstance(found, dict):
        raise Refused(400, "expected an object")
    return {str(name): str(value) for name, value in found.items()}


def _describe(file: File, said: Marks) -> dict[str, Any]:
    return {
        "path": file.path,
        "version": file.release,
        "size": file.size,
        "sha256": file.sha256,
        "yanked": said.yanked.get(file.release),
        "signature": bool(file.has_signature),
        "provenance": bool(file.has_provenance),
    }
