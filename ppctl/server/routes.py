"""The routes that are answered before pypiserver is asked: pages and files, which it would scan for.

Everything else goes on to pypiserver: uploads, redirects of names that are not normalised, search, the other
JSON. So its behaviour stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

from ppctl.server import negotiate, pages, simple, upstream
from ppctl.server.access import Access
from ppctl.server.answers import Answer, Header, MustWait, plain
from ppctl.server.catalogue import Catalogue
from ppctl.server.downloads import Downloads
from ppctl.server.names import normalize
from ppctl.server.negotiate import Format
from ppctl.server.pages import INDEX, Page, Pages
from ppctl.server.through import PREFIX, PullThrough
from ppctl.server.upstream import Upstream, Verdict

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class Answering(Protocol):
    """Answers a request for a path below that of its route. None: pypiserver answers."""

    def __call__(self, environ: Environ, path: str, *, wait: bool) -> Answer | None: ...


class Route(NamedTuple):
    """What is answered here: what begins with `path`, and goes on as it `fits`.

    `action`: what somebody must be allowed to do before anything is looked at.
    """

    path: str
    fits: Callable[[str], bool]
    action: str
    answer: Answering


class Routes:
    """A WSGI application (PEP 3333) in front of `application`."""

    def __init__(
        self,
        application: Application,
        catalogue: Catalogue,
        rendered: Pages,
        downloads: Downloads,
        access: Access,
        *,
        elsewhere: Upstream,
        through: PullThrough | None,
    ) -> None:
        self._application = application
        self._catalogue = catalogue
        self._pages = rendered
        self._downloads = downloads
        self._access = access
        self._upstream = elsewhere
        self._through = through
        self.routes = (
            Route("/simple/", _one_page, "list", self._simple),
            Route("/packages/", _nothing, "list", self._list),
            Route("/packages/", _anything, "download", self._file),
            *([Route(PREFIX, _anything, "download", self._pass_on)] if through else []),
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        found = self._answer(environ) if environ["REQUEST_METHOD"] in ("GET", "HEAD") else None
        if found is None:
            return self._application(environ, start_response)
        start_response(found.status, found.headers)
        return found.content

    def at_once(self, environ: Environ) -> Answer | None:
        """Return the answer to a GET or HEAD if it is at hand; raises MustWait, or returns None, if not."""
        return self._answer(environ, wait=False)

    def _answer(self, environ: Environ, *, wait: bool = True) -> Answer | None:
        path: str = environ["PATH_INFO"]
        for begin, fits, action, answer in self.routes:
            if path.startswith(begin) and fits(rest := path[len(begin) :]):
                refused = self._access.refuse(environ, action, wait=wait)
                return refused or answer(environ, _text(rest), wait=wait)
        return None

    def _simple(self, environ: Environ, path: str, *, wait: bool) -> Answer | None:
        """Answer with the page of all projects ("") or of one; None for what pypiserver answers."""
        project = path[:-1]
        # What is at hand has been asked for by this name before.
        if wait and project != normalize(project):
            return None
        form = _format(environ)
        page = self._page(environ, project or INDEX, form or Format.HTML, wait=wait)
        if page is None:
            if not wait and self._upstream.policy != "none":
                raise MustWait
            return self._unknown(environ, project, form)
        if form is None:
            return _not_acceptable()
        private = not self._access.is_public("list")
        zipped = _accepts_gzip(environ)
        return pages.answer(environ, page, form, zipped=zipped, private=private, wait=wait)

    def _unknown(self, environ: Environ, project: str, form: Format | None) -> Answer:
        """Answer for a project that is not here."""
        verdict = self._upstream.judge(project)
        if verdict is not Verdict.ASK:
            return upstream.unknown(project, verdict)
        if self._through and form is None:
            return _not_acceptable()
        if self._through and form:
            return self._through.page(environ, project, form, zipped=_accepts_gzip(environ))
        return self._upstream.redirect(project, environ.get("SERVER_PROTOCOL", ""))

    def _file(self, environ: Environ, path: str, *, wait: bool) -> Answer:
        """Answer with a file, or with its metadata."""
        return self._downloads.answer(environ, path, zipped=_accepts_gzip(environ), wait=wait)

    def _pass_on(self, environ: Environ, path: str, *, wait: bool) -> Answer:
        """Answer with a file of the other index: NAME/KEY/FILE."""
        if not wait or self._through is None:
            raise MustWait
        project, _, rest = path.partition("/")
        key, _, name = rest.partition("/")
        # Also here, since nobody is kept from making up a link: what was uploaded meanwhile is ours.
        verdict = self._upstream.judge(project)
        if verdict is not Verdict.ASK or self._catalogue.has(project):
            return upstream.unknown(project, verdict)
        return self._through.file(environ, project, key, name)

    def _page(self, environ: Environ, project: str, form: Format, *, wait: bool) -> Page | None:
        mounted = _mounted(environ)
        if mounted is None:
            return self._pages.get(project, is_json=form.is_json, wait=wait)
        if not wait:
            raise MustWait
        return self._pages.render(project, is_json=form.is_json, base=mounted)

    def _list(self, environ: Environ, path: str, *, wait: bool) -> Answer:  # noqa: ARG002 - it is all of it
        """Answer with the page of all files."""
        if not wait:
            raise MustWait
        headers: list[Header] = [("Content-Type", Format.HTML.content_type), ("Cache-Control", "no-cache")]
        if environ["REQUEST_METHOD"] == "HEAD":
            return Answer("200 OK", headers, [])
        mounted = _mounted(environ)
        base = environ.get("SCRIPT_NAME", "") if mounted is None else mounted
        return Answer("200 OK", headers, simple.packages_html(self._catalogue.all_files(), base))


def _nothing(rest: str) -> bool:
    return not rest


def _anything(rest: str) -> bool:  # noqa: ARG001
    return True


def _one_page(rest: str) -> bool:
    """Return whether it is the page of all projects, or of one: what else there is, pypiserver answers."""
    return not rest or (rest[-1] == "/" and rest != "/" and rest.index("/") == len(rest) - 1)


def _not_acceptable() -> Answer:
    offered = ", ".join(known.value for known in Format)
    return plain(406, f"Available: {offered}", ("Vary", "Accept"))


def _text(path: str) -> str:
    """Return a part of a path as text: WSGI gives its bytes as if they were Latin-1."""
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def _format(environ: Environ) -> Format | None:
    """Return the format that the client wants, None when there is no such one."""
    query = environ.get("QUERY_STRING", "")
    if "format=" in query:
        named = parse_qs(query, max_num_fields=100).get("format")
        if named:
            return negotiate.by_name(named[-1])
    return negotiate.by_accept(environ.get("HTTP_ACCEPT", ""))


def _accepts_gzip(environ: Environ) -> bool:
    return negotiate.accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))


def _mounted(environ: Environ) -> str | None:
    """Return the path under which a proxy shows the index, if it says so as pypiserver understands it.

    pypiserver takes what follows a `/` in X-Forwarded-Host for a prefix. None: as the settings say.
    """
    host, slash, prefix = environ.get("HTTP_X_FORWARDED_HOST", "").partition("/")
    if not slash or not host:
        return None
    prefix = prefix.strip("/")
    return (f"/{prefix}" if prefix else "") + str(environ.get("SCRIPT_NAME", ""))
