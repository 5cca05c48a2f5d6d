"""Where everything of an index is. The only place that knows the names inside a home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETTINGS_NAME = "ppctl.yml"

# sun_path holds 108 bytes, one of them a NUL (unix(7)). supervisord appends ".<pid>" to
# `run/supervisor.sock` while it creates its socket, and a pid has up to seven digits (proc(5)).
MAX_HOME_BYTES = 79


@dataclass(frozen=True)
class Layout:
    """Paths of one index, all under its home."""

    home: Path

    def is_ours(self, names: list[str]) -> bool:
        """Return whether these names in the home are of an index: one half-made, or one made by hand."""
        own = (self.lock, self.packages, self.htpasswd, self.run_script)
        return any(path.name in names for path in own)

    @property
    def settings(self) -> Path:
        """The operator's settings."""
        return self.home / SETTINGS_NAME

    @property
    def packages(self) -> Path:
        """The packages that the index serves."""
        return self.home / "packages"

    @property
    def names(self) -> Path:
        """The names of all projects that were ever here (ppctl/server/known.py)."""
        return self.packages / ".ppctl-names"

    @property
    def names_copy(self) -> Path:
        """A copy of `packages/.ppctl-names`, which comes back from it where it is gone."""
        return self.run / "names.copy"

    @property
    def names_lost(self) -> Path:
        """There when the list of names was made of nothing but what was here."""
        return self.run / "names-lost"

    @property
    def marks(self) -> Path:
        """What is yanked, archived, … (ppctl/server/marks.py)."""
        return self.packages / ".ppctl-marks.json"

    @property
    def marks_copy(self) -> Path:
        """A copy of `packages/.ppctl-marks.json`, which comes back from it where it is gone."""
        return self.run / "marks.copy"

    @property
    def owners(self) -> Path:
        """Whose projects they are, with `ownership: true` (ppctl/server/owners.py)."""
        return self.packages / ".ppctl-owners.json"

    @property
    def owners_copy(self) -> Path:
        """A copy of `packages/.ppctl-owners.json`, which comes back from it where it is gone."""
        return self.run / "owners.copy"

    @property
    def refused_logins(self) -> Path:
        """The logins that the workers have refused; the older ones are in `.log.1`."""
        return self.run / "refused-logins.log"

    @property
    def htpasswd(self) -> Path:
        """Users and password hashes."""
        return self.home / "htpasswd"

    @property
    def permissions(self) -> Path:
        """What users may do, and their tokens (hashed)."""
        return self.home / "permissions.json"

    @property
    def audit_log(self) -> Path:
        """Who changed which user and when; append-only."""
        return self.home / "audit.log"

    @property
    def lock(self) -> Path:
        """Held by the one ppctl that changes this index."""
        return self.home / ".lock"

    @property
    def users_lock(self) -> Path:
        """Held while the users are changed: for an instant, so adduser need not wait for a long `up`."""
        return self.home / ".users.lock"

    @property
    def manifest(self) -> Path:
        """What `ppctl up` has made, so that it can take it away again."""
        return self.home / ".manifest.json"

    @property
    def verified(self) -> Path:
        """What `ppctl verify` has last found working, so that a fleet need not try it again."""
        return self.home / ".verified.json"

    @property
    def run_script(self) -> Path:
        """Starts one worker; what the manager runs."""
        return self.home / "run-pypi.sh"

    @property
    def server_config(self) -> Path:
        """The settings as the workers read them."""
        return self.home / "server.json"

    @property
    def supervisor_program(self) -> Path:
        """The supervisor configuration of this index's workers."""
        return self.home / "pypi-server.conf"

    @property
    def cache(self) -> Path:
        """What was fetched from another index (`upstream: cache`)."""
        return self.home / "cache"

    @property
    def cache_config(self) -> Path:
        """The settings as the cache program reads them."""
        return self.home / "cache.json"

    @property
    def cache_script(self) -> Path:
        """Starts the cache program; what the manager runs."""
        return self.home / "run-cache.sh"

    @property
    def cache_socket(self) -> Path:
        """The UNIX socket on which the cache program answers the workers."""
        return self.run / "cache.sock"

    @property
    def cache_log(self) -> Path:
        """The log of the cache program under supervisor."""
        return self.logs / "cache.log"

    @property
    def upstream_login(self) -> Path:
        """The login for the other index, as in a .netrc; only where it wants one."""
        return self.home / "upstream.netrc"

    @property
    def supervisor_cache(self) -> Path:
        """The supervisor configuration of the cache program."""
        return self.home / "pypi-cache.conf"

    @property
    def supervisord_conf(self) -> Path:
        """Embedded mode: the configuration of the index's own supervisord."""
        return self.home / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """Embedded mode: the socket of the index's own supervisord."""
        return self.run / "supervisor.sock"

    @property
    def logs(self) -> Path:
        """Log files (supervisor)."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Sockets, pid files, the catalogue of the packages, and rendered pages in files without a name."""
        return self.home / "run"

    @property
    def releases(self) -> Path:
        """One virtualenv for each release."""
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """The link to the release that workers start from."""
        return self.releases / "current"

    @property
    def client_files(self) -> Path:
        """Client files kept in the home by `--link`."""
        return self.home / "client"

    def worker_socket(self, number: int) -> Path:
        """The UNIX socket on which worker `number` (from 1) answers ppctl: `status`, `packages`, …"""
        return self.run / f"worker-{number}.sock"

    def worker_log(self, number: int) -> Path:
        """The log of worker `number` (from 1) under supervisor."""
        return self.logs / f"worker-{number}.log"
