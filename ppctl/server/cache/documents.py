"""A page of another index made one of ours: links lead to this index, and are noted by their hash. Pure.

JSON (PEP 691) is passed on as it is but for the links, so that what newer standards add survives; HTML (PEP
503) is read by simple-repository's parser.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from simple_repository.parser import parse_html_project_page

from ppctl.server import simple
from ppctl.server.through import PREFIX

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.!+~-]*")
_DROPPED = ("url", "provenance", "gpg-sig", "dist-info-metadata")


@dataclass(frozen=True)
class Document:
    """What is kept of a page: both representations, gzipped, and where each file is, by its key."""

    json: bytes
    html: bytes
    files: dict[str, Any]


def convert(project: str, content: bytes, content_type: str, url: str) -> Document:
    """Return our form of the page that was found at `url`. Raises ValueError when it makes no sense."""
    try:
        page = json.loads(content) if "json" in content_type else _from_html(project, content)
        found = [file for file in page["files"] if _FILE_NAME.fullmatch(file["filename"])]
        files: dict[str, Any] = {}
        links = [link for file in found if (link := _link(project, file, url, files))]
        page = {**_top(page, links), "name": project, "files": links}
        return Document(
            json=gzip.compress(json.dumps(page, separators=(",", ":")).encode(), 6, mtime=0),
            html=gzip.compress(_html(project, page), 6, mtime=0),
            files=files,
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"not a page of a project: {e!r}") from e


def _from_html(project: str, content: bytes) -> dict[str, Any]:
    files = []
    for file in parse_html_project_page(content.decode("utf-8", "replace"), project).files:
        found: dict[str, Any] = {
            "filename": file.filename.strip(),
            # The parser escapes once more what is escaped already.
            "url": unquote(file.url),
            "hashes": file.hashes,
        }
        said = {
            "requires-python": file.requires_python,
            "core-metadata": file.dist_info_metadata,
            "yanked": file.yanked,
        }
        files.append({**found, **{key: value for key, value in said.items() if value is not None}})
    return {"files": files}


def _top(page: dict[str, Any], links: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the page says besides its files: of the version that it can keep the promises of."""
    kept = {"project-status": page["project-status"]} if "project-status" in page else {}
    has_all = "versions" in page and all(isinstance(link.get("size"), int) for link in links)
    if has_all:
        return {"meta": {"api-version": simple.API_VERSION}, **kept, "versions": page["versions"]}
    return {"meta": {"api-version": "1.0"}}


def _link(project: str, file: dict[str, Any], base: str, files: dict[str, Any]) -> dict[str, Any]:
    """Return a file with a link to this index, and note in `files` where it is; {} for one out of reach."""
    name, url = file["filename"], urljoin(base, file["url"]).partition("#")[0]
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https") or (base.startswith("https:") and scheme != "https"):
        return {}
    hashes = {str(kind): str(value).lower() for kind, value in file.get("hashes", {}).items()}
    sha256 = hashes.get("sha256", "")
    key = sha256 if _SHA256.fullmatch(sha256) else f"u{hashlib.sha256(url.encode()).hexdigest()}"
    metadata = file.get("core-metadata", file.get("dist-info-metadata", False))
    files[key] = {"url": url, "hashes": hashes, "size": file.get("size"), "metadata": metadata}
    kept = {name: value for name, value in file.items() if name not in _DROPPED}
    if metadata:
        kept["core-metadata"] = kept["dist-info-metadata"] = metadata
    # Relative to /simple/NAME/, under whatever path the index is mounted.
    return {**kept, "hashes": hashes, "url": f"../..{PREFIX}{project}/{key}/{quote(name)}"}


def _html(project: str, page: dict[str, Any]) -> bytes:
    status = page.get("project-status") or {}
    meta = simple.meta("project-status", str(status["status"])) if status.get("status") else ""
    lines = "".join(_anchor(file) for file in page["files"])
    return simple.page_html(f"Links for {project}", lines, meta, version=page["meta"]["api-version"])


def _anchor(file: dict[str, Any]) -> str:
    said = {"href": file["url"] + _hash("#", file["hashes"])}
    if file.get("requires-python"):
        said["data-requires-python"] = str(file["requires-python"])
    metadata = file.get("core-metadata")
    if metadata:
        value = _hash("", metadata) if isinstance(metadata, dict) else "true"
        said["data-core-metadata"] = said["data-dist-info-metadata"] = value
    yanked = file.get("yanked")
    if yanked:
        said["data-yanked"] = yanked if isinstance(yanked, str) else ""
    attributes = " ".join(f'{key}="{escape(value)}"' for key, value in said.items())
    return f"            <a {attributes}>{escape(file['filename'])}</a><br>\n"


def _hash(before: str, hashes: dict[str, str]) -> str:
    kind = "sha256" if "sha256" in hashes else next(iter(hashes), "")
    return f"{before}{kind}={hashes[kind]}" if kind else ""
