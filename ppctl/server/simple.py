"""The pages of the simple API as HTML (PEP 503) and JSON (PEP 691), version 1.4 of the API.

Pure: what is known goes in, bytes come out. The HTML has pypiserver's form and links, and besides them what
newer standards have added: PEP 592 (yanked), 629 (version), 658 and 714 (metadata), 700 (versions, size,
time), 740 (provenance), 792 (status), requires-python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from html import escape
from typing import Any
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from ppctl.server.catalogue import File
from ppctl.server.marks import Marks
from ppctl.server.spelling import PROVENANCE

API_VERSION = "1.4"

# What a path may contain as it is (RFC 3986, section 3.3): such links look like pypiserver's.
_SAFE = "/!$&'()*+,;=:@~"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = datetime(9999, 12, 31, tzinfo=timezone.utc)

_HEAD = f"""<!DOCTYPE html>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="pypi:repository-version" content="{API_VERSION}">
"""
_TITLE = """        <title>{0}</title>
    </head>
    <body>
        <h1>{0}</h1>
"""
_END = """    </body>
</html>
"""


def project_html(project: str, files: Sequence[File], marks: Marks, base: str, public_url: str = "") -> bytes:
    """Return the page of a project; `base` is the path under which the index is mounted.

    `public_url`: that of the index where it is known and begins with https; provenances' URLs need it.
    """
    status = ""
    if marks.status:
        status = meta("project-status", marks.status)
        status += meta("project-status-reason", marks.reason) if marks.reason else ""
    links = "".join(_link(file, marks, base, public_url) for file in _offered(files, marks))
    return page_html(f"Links for {project}", links, status)


def project_json(project: str, files: Sequence[File], marks: Marks, base: str, public_url: str = "") -> bytes:
    """Return the same as JSON."""
    offered = list(_offered(files, marks))
    status = {"status": marks.status or "active"}
    if marks.reason and marks.status:
        status["reason"] = marks.reason
    return _json(
        {
            "meta": {"api-version": API_VERSION},
            "name": project,
            "project-status": status,
            "versions": _versions(offered),
            "files": [_file(file, marks, base, public_url) for file in offered],
        }
    )


def index_html(projects: Iterable[str]) -> bytes:
    """Return the page of all projects."""
    links = "".join(
        f'                <a href="{escape(quote(name, safe=_SAFE))}/">{escape(name)}</a><br>\n'
        for name in projects
    )
    return page_html("Simple Index", links)


def index_json(projects: Iterable[str]) -> bytes:
    """Return the same as JSON."""
    return _json({"meta": {"api-version": API_VERSION}, "projects": [{"name": name} for name in projects]})


def packages_html(files: Iterable[File], base: str) -> Iterator[bytes]:
    """Yield the page of all files, piece by piece: it is as long as the index is large."""
    yield f"{_HEAD}{_TITLE.format('Index of packages')}".encode()
    lines: list[str] = []
    for file in files:
        lines.append(f'            <a href="{escape(url(file, base))}">{escape(file.path)}</a><br>\n')
        if len(lines) == 200:
            yield "".join(lines).encode()
            lines.clear()
    yield ("".join(lines) + _END).encode()


def page_html(title: str, lines: str, head: str = "", *, version: str = API_VERSION) -> bytes:
    """Return a page of anchors, `lines`, with `head` in its head."""
    start = _HEAD if version == API_VERSION else _HEAD.replace(API_VERSION, version)
    return f"{start}{head}{_TITLE.format(escape(title))}{lines}{_END}".encode()


def url(file: File, base: str) -> str:
    """Return the link to a file, with its hash (PEP 503)."""
    digest = f"#sha256={file.sha256}" if file.sha256 else ""
    return f"{base}/packages/{quote(file.path, safe=_SAFE)}{digest}"


def _offered(files: Iterable[File], marks: Marks) -> Iterable[File]:
    # PEP 792: a quarantined project has no files for clients.
    return () if marks.status == "quarantined" else files


def meta(name: str, content: str) -> str:
    """Return a line for the head of a page."""
    return f'        <meta name="pypi:{name}" content="{escape(content)}">\n'


def _link(file: File, marks: Marks, base: str, public_url: str) -> str:
    attributes = [f'href="{escape(url(file, base))}"']
    if file.requires_python:
        attributes.append(f'data-requires-python="{escape(file.requires_python)}"')
    if file.metadata_sha256 and file.metadata_listed:
        # By both names: the second is what older clients look for (PEP 714).
        attributes += [
            f'{name}="sha256={file.metadata_sha256}"'
            for name in ("data-core-metadata", "data-dist-info-metadata")
        ]
    if file.release in marks.yanked:
        attributes.append(f'data-yanked="{escape(marks.yanked[file.release])}"')
    if file.has_signature:
        attributes.append('data-gpg-sig="true"')
    if file.has_provenance:
        attributes.append(f'data-provenance="{escape(_provenance_url(file, public_url or base))}"')
    return f"            <a {' '.join(attributes)}>{escape(file.name)}</a><br>\n"


def _file(file: File, marks: Marks, base: str, public_url: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "filename": file.name,
        "url": url(file, base).partition("#")[0],
        "hashes": {"sha256": file.sha256} if file.sha256 else {},
        "size": file.size,
        "upload-time": _time(file.mtime_ns),
    }
    if file.requires_python:
        found["requires-python"] = file.requires_python
    if file.metadata_sha256 and file.metadata_listed:
        # Not by its older name: pip 22.3 to 23.0, Debian 12's own, break off at it in JSON (PEP 714).
        found["core-metadata"] = {"sha256": file.metadata_sha256}
    if file.release in marks.yanked:
        found["yanked"] = marks.yanked[file.release] or True
    if file.has_signature:
        found["gpg-sig"] = True
    if file.has_provenance:
        found["provenance"] = _provenance_url(file, public_url or base)
    return found


def _provenance_url(file: File, base: str) -> str:
    # "A fully qualified URL" of "a secure origin" (PEP 740); an index that does not know its own has a path.
    return f"{base}/packages/{quote(file.path + PROVENANCE, safe=_SAFE)}"


def _versions(files: Iterable[File]) -> list[str]:
    return sorted({file.release for file in files if file.release}, key=_version_key)


def _version_key(release: str) -> tuple[bool, Version | str]:
    try:
        return True, Version(release)
    except InvalidVersion:
        return False, release


def _time(mtime_ns: int) -> str:
    """Return a time as PEP 700 wants it; one that no calendar knows becomes the nearest that does."""
    try:
        found = _EPOCH + timedelta(microseconds=max(0, mtime_ns) // 1000)
    except OverflowError:
        found = _LAST
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
