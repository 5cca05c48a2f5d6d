"""pypiserver's own application, given our backend and our logins through its Python API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pypiserver
from pypiserver.bottle_wrapper import HTTPError, request, response
from pypiserver.config import Config

from ppctl.server.access import Access, Refusal
from ppctl.server.answers import status_line
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue
from ppctl.server.config import ServerConfig
from ppctl.server.front import Application
from ppctl.server.guarded import GuardedBackend, http_error
from ppctl.server.marks import MarksFile
from ppctl.server.owners import Owners
from ppctl.server.uploads import Uploads

_ACTIONS = {"list": "list", "download": "download", "upload": "update"}


def create(
    config: ServerConfig, catalogue: Catalogue, marks: MarksFile, allowed: Access, owners: Owners | None
) -> Application:
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
    guarded = GuardedBackend(backend, catalogue, marks, owners, overwrite=config.overwrite)
    run_config.backend = guarded
    app: Any = pypiserver.setup_routes_from_config(pypiserver.app_from_config(run_config), run_config)
    # Unexpected errors come out to Front, which knows what they mean.
    app.catchall = False
    app.default_error_handler = _plain_error
    app.install(_refuse_no_calls)
    return Uploads(app, guarded, allowed, max_size=config.max_upload_size)


def _auther(allowed: Access) -> Any:
    """Return pypiserver's `auther`: (user, password) -> True. It never returns False, but raises.

    pypiserver does not say what the login is for; its only route that changes anything is `POST /`.
    """

    def check(user: str, password: str) -> bool:
        changes = request.method == "POST" and request.route.rule == "/"
        try:
            allowed.authorise(request.environ, user, password, "upload" if changes else "list")
        except Refusal as e:
            raise http_error(e) from None
        return True

    return check


def _refuse_no_calls(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a route. XML that is no call of XML-RPC is the client's fault: no traceback in the log."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except IndexError:
            if request.route.rule != "/RPC2":
                raise
            raise HTTPError(400, "Not a call of XML-RPC") from None

    return answer


def _plain_error(error: Any) -> str:
    """Return an error's page: plain text, since uv shows it to people as it is.

    Its first line is also the status line's reason, which is all that twine and pip show.
    """
    message = str(error.body or "").strip()
    if message:
        response.status = status_line(error.status_code, message)
    response.content_type = "text/plain; charset=utf-8"
    return f"{message or error.status_line}\n"
