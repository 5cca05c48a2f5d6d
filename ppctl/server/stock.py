"""pypiserver's own application, given our backend and our logins through its Python API."""

from __future__ import annotations

from typing import Any, BinaryIO

import pypiserver
from pypiserver.backend import BackendProxy
from pypiserver.bottle_wrapper import HTTPError, request, response
from pypiserver.config import Config
from pypiserver.core import PkgFile

from ppctl.server import access, names
from ppctl.server.access import IDENTITY, Access, Refusal
from ppctl.server.answers import status_line
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue
from ppctl.server.config import ServerConfig
from ppctl.server.front import Application
from ppctl.server.owners import THROW_AWAY, Owners
from ppctl.server.permissions import Identity

_ACTIONS = {"list": "list", "download": "download", "upload": "update"}


def create(config: ServerConfig, catalogue: Catalogue, allowed: Access, owners: Owners | None) -> Application:
    """Return pypiserver's application. `owners`: None where projects are not owned."""
    run_config = Config.default_with_overrides(
        roots=[config.packages],
        backend_arg="simple-dir",
        hash_algo="sha256",
        authenticate=sorted(_ACTIONS[action] for action in config.login),
        password_file=str(config.htpasswd) if config.login else ".",
        auther=_auther(allowed),
        disable_fallback=True,  # where unknown names lead to is decided in ppctl.server.upstream
        overwrite=config.overwrite,
    )
    backend = FileBackend(run_config, catalogue, overwrite=config.overwrite)
    run_config.backend = GuardedBackend(backend, catalogue, owners)
    app: Any = pypiserver.setup_routes_from_config(pypiserver.app_from_config(run_config), run_config)
    # Unexpected errors come out to Front, which knows what they mean.
    app.catchall = False
    app.default_error_handler = _plain_error
    serve: Application = app
    return serve


class GuardedBackend(BackendProxy):  # type: ignore[misc]
    """The backend for requests: what changes a project is done for those who may."""

    def __init__(self, backend: FileBackend, catalogue: Catalogue, owners: Owners | None) -> None:
        super().__init__(backend)
        self._catalogue = catalogue
        self._owners = owners

    def add_package(self, filename: str, fh: BinaryIO) -> None:
        """Store a file. Raises HTTPError 403, and what FileBackend raises."""
        found, identity = names.parse(filename), _identity()
        if found is None or identity is None:
            super().add_package(filename, fh)
            return
        owner = self._owners.of(found.project) if self._owners else None
        _check(access.check_upload, identity, found.project, owner)
        is_new = (
            owner is None
            and not found.project.startswith(THROW_AWAY)
            and not self._catalogue.files(found.project)
        )
        if is_new and self._owners:
            # Before the file is there: of two who are the first at once, one stores nothing.
            owner = self._owners.claim(found.project, identity.user)
            _check(access.check_upload, identity, found.project, owner)
        try:
            super().add_package(filename, fh)
        except BaseException:
            if is_new and self._owners and not self._catalogue.files(found.project):
                self._owners.put(found.project, None)  # a name is not taken by an upload that failed
            raise
        if is_new and self._owners:
            self._owners.claim(found.project, identity.user)  # if a failed upload beside this one gave it up

    def remove_package(self, pkg: PkgFile) -> None:
        """Remove a file. Raises HTTPError 403, and what FileBackend raises."""
        project = names.normalize(pkg.pkgname)
        owner = self._owners.of(project) if self._owners else None
        _check(access.check_removal, _identity(), project, owner)
        super().remove_package(pkg)


def _identity() -> Identity | None:
    found: Identity | None = request.environ.get(IDENTITY)
    return found


def _check(rule: Any, identity: Identity | None, project: str, owner: str | None) -> None:
    try:
        rule(identity, project, owner)
    except Refusal as e:
        raise _http(e) from None


def _auther(allowed: Access) -> Any:
    """Return pypiserver's `auther`: (user, password) -> True. It never returns False, but raises.

    pypiserver does not say what the login is for; its only route that changes anything is `POST /`.
    """

    def check(user: str, password: str) -> bool:
        changes = request.method == "POST" and request.route.rule == "/"
        try:
            allowed.authorise(request.environ, user, password, "upload" if changes else "list")
        except Refusal as e:
            raise _http(e) from None
        return True

    return check


def _http(refusal: Refusal) -> HTTPError:
    return HTTPError(refusal.status, str(refusal), headers=dict(refusal.headers))


def _plain_error(error: Any) -> str:
    """Return an error's page: plain text, since uv shows it to people as it is.

    Its first line is also the status line's reason, which is all that twine and pip show.
    """
    message = str(error.body or "").strip()
    if message:
        response.status = status_line(error.status_code, message)
    response.content_type = "text/plain; charset=utf-8"
    return f"{message or error.status_line}\n"
