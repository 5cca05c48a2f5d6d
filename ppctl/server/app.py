"""The WSGI application of a worker: pypiserver through its Python API, with our backend and our logins.

gunicorn loads `ppctl.server.app:application`, which is made when it is first asked for.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pypiserver

from ppctl import __version__
from ppctl.server import stock, store, unix
from ppctl.server.access import Access
from ppctl.server.accounts import Accounts
from ppctl.server.auth import Users
from ppctl.server.catalogue import Catalogue
from ppctl.server.config import ServerConfig, WorkerInfo, config_path, load, worker_info
from ppctl.server.control import PACKAGES_PATH, PackageControl
from ppctl.server.downloads import Downloads
from ppctl.server.front import Application, Front, describe_process
from ppctl.server.known import Known
from ppctl.server.marks import MarksFile
from ppctl.server.owners import Owners
from ppctl.server.pages import Pages
from ppctl.server.routes import Routes
from ppctl.server.through import PullThrough
from ppctl.server.upstream import Upstream
from ppctl.server.watch import Watcher

if TYPE_CHECKING:
    application: Application


def create_application(config: ServerConfig, worker: WorkerInfo) -> Front:
    """Return the WSGI application (PEP 3333) that serves the index `config`."""
    description = _description(worker)
    packages = config.packages.resolve()
    known = Known(packages, config.run)
    catalogue = Catalogue(config.run, packages, known.remember)
    access = Access(
        config.login, Accounts(Users(config.htpasswd, config.run), config.permissions, config.run)
    )
    owners = Owners(packages, config.run)
    marks = MarksFile(packages)
    routes = Routes(
        stock.create(config, catalogue, marks, access, owners if config.ownership else None),
        catalogue,
        Pages(catalogue, marks, config.url_prefix, config.run, public_url=config.public_url),
        Downloads(catalogue, immutable=not config.overwrite, private=not access.is_public("download")),
        access,
        through=_through(config, access),
        elsewhere=Upstream(config.upstream, config.upstream_url, config.private, known),
    )
    front = Front(routes, config, lambda: {**description, **describe_process()}, routes.at_once)
    own = unix.of_worker(config.run, worker.number)
    watcher = Watcher(catalogue, config.run / f"watch-{store.VERSION}.lock", own)
    control = front.controls[PACKAGES_PATH] = PackageControl(catalogue, owners, known)
    front.on_start += [owners.begin, control.begin, catalogue.open]
    front.on_start += [lambda: known.begin(catalogue.projects()), watcher.start]
    front.on_stop.append(watcher.stop)
    return front


def _through(config: ServerConfig, access: Access) -> PullThrough | None:
    if config.upstream != "cache" or config.cache is None:
        return None
    lists, downloads = access.is_public("list"), access.is_public("download")
    return PullThrough(config.cache, config.run, private=not lists, private_files=not downloads)


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
