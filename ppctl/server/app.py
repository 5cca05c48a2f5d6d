"""The WSGI application of a worker: pypiserver through its Python API, with our backend and our logins.

gunicorn loads `ppctl.server.app:application`, which is made when it is first asked for.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pypiserver
from pypiserver.backend import BackendProxy
from pypiserver.bottle_wrapper import HTTPError, response
from pypiserver.config import Config

from ppctl import __version__
from ppctl.server import store
from ppctl.server.access import CHALLENGE, Access
from ppctl.server.answers import status_line
from ppctl.server.auth import Users
from ppctl.server.backend import FileBackend
from ppctl.server.catalogue import Catalogue
from ppctl.server.config import ServerConfig, WorkerInfo, config_path, load, worker_info
from ppctl.server.control import PACKAGES_PATH, PackageControl
from ppctl.server.downloads import Downloads
from ppctl.server.front import Application, Front, describe_process
from ppctl.server.marks import MarksFile
from ppctl.server.pages import Pages
from ppctl.server.routes import Routes
from ppctl.server.watch import Watcher

if TYPE_CHECKING:
    application: Application

_PYPISERVER_ACTIONS = {"list": "list", "download": "download", "upload": "update"}


def create_application(config: ServerConfig, worker: WorkerInfo) -> Front:
    """Return the WSGI application (PEP 3333) that serves the index `config`."""
    description = _description(worker)
    packages = config.packages.resolve()
    catalogue = Catalogue(config.run, packages)
    users = Users(config.htpasswd)
    access = Access(config.login, users.check)
    routes = Routes(
        _pypiserver(config, catalogue, users),
        catalogue,
        Pages(catalogue, MarksFile(packages), config.url_prefix),
        Downloads(catalogue, immutable=not config.overwrite, private=not access.is_public("download")),
        access,
        fallback_url=config.fallback_url,
    )
    front = Front(routes, config, lambda: {**description, **describe_process()})
    watcher = Watcher(catalogue, config.run / f"watch-{store.VERSION}.lock")
    front.on_start += [catalogue.open, watcher.start]
    front.on_stop.append(watcher.stop)
    front.controls[PACKAGES_PATH] = PackageControl(catalogue)
    return front


def _pypiserver(config: ServerConfig, catalogue: Catalogue, users: Users) -> Application:
    run_config = Config.default_with_overrides(
        roots=[config.packages],
        backend_arg="simple-dir",
        hash_algo="sha256",
        authenticate=sorted(_PYPISERVER_ACTIONS[action] for action in config.login),
        password_file=str(config.htpasswd) if config.login else ".",
        auther=_auther(users),
        disable_fallback=config.fallback_url is None,
        fallback_url=config.fallback_url or "",
        overwrite=config.overwrite,
    )
    run_config.backend = BackendProxy(FileBackend(run_config, catalogue, overwrite=config.overwrite))
    app: Any = pypiserver.setup_routes_from_config(pypiserver.app_from_config(run_config), run_config)
    # Unexpected errors come out to Front, which knows what they mean.
    app.catchall = False
    app.default_error_handler = _plain_error
    serve: Application = app
    return serve


def _plain_error(error: Any) -> str:
    """Return an error's page: plain text, since uv shows it to people as it is.

    Its first line is also the status line's reason, which is all that twine and pip show.
    """
    message = str(error.body or "").strip()
    if message:
        response.status = status_line(error.status_code, message)
    response.content_type = "text/plain; charset=utf-8"
    return f"{message or error.status_line}\n"


def _auther(users: Users) -> Any:
    """Return pypiserver's `auther`: (user, password) -> True.

    A wrong login is answered with 401 and a challenge (RFC 9110, section 15.5.2). pypiserver's own answer,
    403, means something else to clients: uv gives up on the index, pip does not ask for another password.
    """

    def check(user: str, password: str) -> bool:
        if not users.check(user, password):
            raise HTTPError(401, "Wrong user name or password", headers=dict([CHALLENGE]))
        return True

    return check


def _description(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "worker": worker.number,
        "generation": worker.generation,
        "unit": worker.unit,
        "release": worker.release,
        "started": worker.started,
        "versions": {
            "pypiserver": pypiserver.__version__,
            "gunicorn": metadata.version("gunicorn"),
            "python": platform.python_version(),
        },
        "ppctl": __version__,
    }


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    made = create_application(load(config_path(os.environ)), worker_info(os.environ))
    globals()["application"] = made
    return made
