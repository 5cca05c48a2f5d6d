"""Does the index work for a developer on this machine? Found out by doing it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urldefrag, urlsplit

from ppctl.clients.base import Entry
from ppctl.clients.http import NoAnswer, Response, Session, links
from ppctl.output import counted
from ppctl.server.owners import THROW_AWAY

VERSION = "0"


@dataclass(frozen=True)
class Step:
    """One thing that was tried. `ok` None: it was not tried, `detail` says why."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""

    def to_data(self) -> dict[str, object]:
        """Return the step for the JSON envelope."""
        return {"step": self.name, "ok": self.ok, "detail": self.detail, "hint": self.hint}


class _Failed(Exception):
    """A step that does not work: the rest makes no sense."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


@dataclass(frozen=True)
class _Package:
    """A wheel that is made to be thrown away (PEP 427)."""

    name: str
    filename: str
    content: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the wheel."""
        return hashlib.sha256(self.content).hexdigest()


def run(entry: Entry, tell: Callable[[Step], None], timeout: float = 15.0) -> list[Step]:
    """Try listing, uploading (with a login), downloading and removing; return every step, told as it ends."""
    checker = _Checker(entry, tell, Session(entry, timeout))
    checker.run()
    return checker.steps


class _Checker:
    def __init__(self, entry: Entry, tell: Callable[[Step], None], session: Session) -> None:
        self.entry = entry
        self.tell = tell
        self.session = session
        self.steps: list[Step] = []
        self.may_be_there = False
        """Whether the index may have the throw-away package: it has said so, or it has not answered."""

    def run(self) -> None:
        listed = self._try("list", self._list)
        if listed is None:
            for name in ["upload", "download", "remove"] if self.entry.user else ["download"]:
                self._add(Step(name, None, "not tried: listing does not work"))
        elif self.entry.user:
            self._with_package(_make_package())
        else:
            self._try("download", lambda: self._download_any(listed))
            self._add(Step("upload", None, "not tried: it takes a login (--user NAME)"))

    def _with_package(self, package: _Package) -> None:
        uploaded = False
        try:
            uploaded = self._try("upload", lambda: self._upload(package)) is not None
            if uploaded:
                self._try("download", lambda: self._download(package))
            else:
                self._add(Step("download", None, "not tried: there is no package to download"))
        finally:  # also after Ctrl-C: nothing of ours may stay in the index
            if uploaded:
                self._try("remove", lambda: self._remove(package))
            elif self.may_be_there:
                with contextlib.suppress(_Failed, NoAnswer):
                    self._remove(package)

    def _try(self, name: str, action: Callable[[], tuple[str, list[str]]]) -> list[str] | None:
        """Run one step. Returns the links that it found, or None if it does not work."""
        try:
            detail, found = action()
        except (_Failed, NoAnswer) as e:
            self._add(Step(name, False, e.detail if isinstance(e, _Failed) else e.message, e.hint))
            return None
        self._add(Step(name, True, detail))
        return found

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.tell(step)

    def _list(self) -> tuple[str, list[str]]:
        page = self.session.get(self.entry.simple_url)
        self._expect(page, "list")
        if "html" not in page.headers.get("content-type", ""):
            raise _Failed(
                f"{self.entry.simple_url} is no package index: it answers with "
                f"{page.headers.get('content-type', 'something without a type')}",
                "look at the URL",
            )
        projects = links(page)
        return f"{counted(len(projects), 'project')} at {self.entry.simple_url}", projects

    def _upload(self, package: _Package) -> tuple[str, list[str]]:
        fields = {
            ":action": "file_upload",
            "protocol_version": "1",
            "metadata_version": "2.1",
            "name": package.name,
            "version": VERSION,
            "filetype": "bdist_wheel",
            "pyversion": "py3",
            "sha256_digest": package.digest,
        }
        self.may_be_there = True
        answer = self.session.post(fields, (package.filename, package.content))
        self.may_be_there = answer.status == 200
        self._expect(answer, "upload")
        return f"{package.filename} as {self.entry.user}", []

    def _download(self, package: _Package) -> tuple[str, list[str]]:
        page = self.session.get(f"{self.entry.simple_url}{package.name}/")
        self._expect(page, "list")
        files = [url for url in links(page) if urlsplit(url).path.endswith("/" + package.filename)]
        if not files:
            raise _Failed(
                f"{package.filename} was uploaded, but the index does not list it",
                "on its host: ppctl doctor, ppctl logs",
            )
        answer = self._fetch(files[0])
        if answer.body != package.content:
            raise _Failed(f"{package.filename} comes back with other content", "look for a proxy on the way")
        return f"{package.filename}, every byte right", files

    def _download_any(self, projects: list[str]) -> tuple[str, list[str]]:
        """Download the first file of the index: without a login there is no throw-away package."""
        for project in projects[:20]:
            page = self.session.get(project)
            self._expect(page, "list")
            for url in links(page)[:1]:
                answer = self._fetch(url)
                name = urlsplit(url).path.rpartition("/")[2]
                return f"{name}, {len(answer.body)} bytes", [url]
        return "nothing to download: the index is empty", []

    def _fetch(self, url: str) -> Response:
        address, fragment = urldefrag(url)
        answer = self.session.get(address)
        self._expect(answer, "download")
        algorithm, _, digest = fragment.partition("=")
        if algorithm == "sha256" and hashlib.sha256(answer.body).hexdigest() != digest:
            raise _Failed(
                f"{address} does not match the digest on the index's page",
                "was it cut short? On the host of the index: ppctl doctor",
            )
        return answer

    def _remove(self, package: _Package) -> tuple[str, list[str]]:
        fields = {":action": "remove_pkg", "name": package.name, "version": VERSION}
        answer = self.session.post(fields)
        by_hand = f"remove it on the host of the index: packages/{package.filename}"
        if answer.status != 200:
            raise _Failed(f"{package.filename} stays in the index: {_status(answer)}", by_hand)
        page = self.session.get(f"{self.entry.simple_url}{package.name}/")
        if page.status == 200 and any(package.filename in url for url in links(page)):
            raise _Failed(f"{package.filename} is still listed after it was removed", by_hand)
        return "the throw-away package is gone", []

    def _expect(self, answer: Response, action: str) -> None:
        """Check that the index said yes. Raises _Failed with the reason and what mends it."""
        if answer.status == 200:
            return
        user = self.entry.user
        if answer.status in (401, 403):
            if not user:
                raise _Failed(f"to {action} needs a login ({_status(answer)})", "give one: --user NAME")
            raise _Failed(
                f"the index refuses {user} ({_status(answer)}): wrong password, or not allowed to {action}",
                f"on its host: ppctl users, ppctl passwd {user}",
            )
        if 300 <= answer.status < 400:
            target = answer.headers.get("location", "")
            raise _Failed(
                f"{answer.url} redirects to {target}", "use that URL, or look at `upstream` in ppctl.yml"
            )
        hints = {
            404: "look at the URL: a prefix may be missing, or too much",
            405: "look at the URL: that is no place for uploads",
            409: "uploads of the same name are refused; run the check again",
            413: "see max_upload_size in ppctl.yml, and a proxy on the way (nginx: client_max_body_size)",
            507: "the index has no room left; on its host: ppctl doctor",
        }
        hint = hints.get(answer.status, "on the host of the index: ppctl status, ppctl logs")
        raise _Failed(f"to {action} does not work: {_status(answer)} for {answer.url}", hint)


def _status(answer: Response) -> str:
    import http

    try:
        return f"HTTP {answer.status} {http.HTTPStatus(answer.status).phrase}"
    except ValueError:
        return f"HTTP {answer.status}"


def _make_package() -> _Package:
    """Return a wheel with a name that nobody else has."""
    # No - or _ in it: pypiserver removes by the name as the file has it, not by the normalized one.
    name = f"{THROW_AWAY}{secrets.token_hex(6)}"
    info = f"{name}-{VERSION}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n"
        "Summary: Made by `ppctl client check`, to be removed at once.\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: ppctl\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return _Package(name, f"{name}-{VERSION}-py3-none-any.whl", buffer.getvalue())
