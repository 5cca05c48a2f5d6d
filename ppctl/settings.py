"""The settings of one index: what `ppctl.yml` may say, stated once.

The sample file (`ppctl init`), the JSON schema (`ppctl schema`), the reference page and every error
message come from the structs in this module.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from ppctl import refusals, settings_rules, yaml_text
from ppctl.errors import UsageError


class ManagerName(str, Enum):
    """What keeps the workers alive."""

    AUTO = "auto"
    SUPERVISOR = "supervisor"
    SYSTEMD = "systemd"


class Mode(str, Enum):
    """Whose index it is: one user's, or the machine's."""

    EMBEDDED = "embedded"
    SYSTEM = "system"


class Action(str, Enum):
    """What can need a login."""

    LIST = "list"
    DOWNLOAD = "download"
    UPLOAD = "upload"


class Upstream(str, Enum):
    """What happens when a project is not in this index."""

    NONE = "none"
    REDIRECT = "redirect"
    CACHE = "cache"


Port = Annotated[int, Meta(ge=1, le=65535)]
_NAME = r"^[a-z][a-z0-9-]{0,31}$"
_ACCOUNT = r"^[a-z_][a-z0-9_-]{0,31}$"
_SIZE = r"^[1-9][0-9]*(kB|MB|GB)$"
_VERSION = r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$"
_PREFIX = r"^(/[A-Za-z0-9._~-]+)*$"
_NAMES = r"^[A-Za-z0-9._*?-]+$"


class Password(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How passwords are stored."""

    bcrypt_cost: Annotated[
        int, Meta(ge=10, le=16, description="Cost of the bcrypt hashes; one more doubles the time.")
    ] = 12


class Logs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Log files (manager supervisor; under systemd the journal keeps the logs)."""

    max_size: Annotated[
        str, Meta(pattern=_SIZE, description="A log file is rotated at this size (kB, MB or GB).")
    ] = "10MB"
    keep: Annotated[int, Meta(ge=0, le=100, description="How many rotated files are kept.")] = 5


class Cache(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is fetched from upstream_url and kept (upstream: cache)."""

    max_size: Annotated[
        str, Meta(pattern=_SIZE, description="How much is kept (kB, MB or GB); what was not used goes first.")
    ] = "5GB"
    refresh: Annotated[
        int, Meta(ge=0, le=86400, description="Seconds after which a project's page is asked for anew.")
    ] = 600

    @property
    def max_bytes(self) -> int:
        """How much is kept, in bytes."""
        return size_in_bytes(self.max_size)


class Server(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The programs that the workers run, and where they are installed from."""

    versions: Annotated[
        dict[str, Annotated[str, Meta(pattern=_VERSION)]],
        Meta(
            description="Pinned versions of the server's packages, e.g. `pypiserver: 2.4.2`. "
            "Without them the versions that this ppctl was tested with, checked by hash."
        ),
    ] = field(default_factory=dict)
    python: Annotated[
        str,
        Meta(description="The releases' Python: a version such as 3.12, or a path. Default: ppctl's."),
    ] = ""
    index_url: Annotated[
        str, Meta(description="Install the server's packages from this index instead of the default one.")
    ] = ""
    find_links: Annotated[
        str, Meta(description="Install the server's packages from this directory, and from nowhere else.")
    ] = ""
    keep_releases: Annotated[int, Meta(ge=1, le=50, description="How many releases are kept.")] = 3


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one private package index."""

    name: Annotated[
        str,
        Meta(
            pattern=_NAME,
            description="Name of the index, unique on its machine: names units, links and client sections.",
        ),
    ] = "pypi"
    host: Annotated[
        str,
        Meta(
            min_length=1, description="Address to listen on. 127.0.0.1: this machine only; 0.0.0.0: everyone."
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on.")] = 3141
    manager: Annotated[
        ManagerName,
        Meta(
            description="What keeps the workers alive. auto: supervisor, or in system mode systemd where "
            "supervisor is not installed."
        ),
    ] = ManagerName.AUTO
    mode: Annotated[
        Mode,
        Meta(description="embedded: belongs to one user, no root needed. system: belongs to the machine."),
    ] = Mode.EMBEDDED
    account: Annotated[
        str, Meta(pattern=_ACCOUNT, description="System mode: the service account that the workers run as.")
    ] = "pypi"
    workers: Annotated[
        int, Meta(ge=2, le=64, description="Server processes. Two or more, so that restarts lose no request.")
    ] = 2
    threads: Annotated[int, Meta(ge=1, le=256, description="Threads of each worker.")] = 8
    stop_timeout: Annotated[
        int,
        Meta(ge=1, le=3600, description="Seconds that a stopping worker has to finish transfers in flight."),
    ] = 60
    login: Annotated[frozenset[Action], Meta(description="What needs a login: list, download, upload.")] = (
        frozenset({Action.UPLOAD})
    )
    upstream: Annotated[
        Upstream,
        Meta(
            description="A project that is not here and never was is not found (none), looked for at "
            "upstream_url by the client (redirect), or fetched from there and kept (cache)."
        ),
    ] = Upstream.NONE
    upstream_url: Annotated[
        str, Meta(pattern=settings_rules.URL, description="The simple index that `upstream` is about.")
    ] = "https://pypi.org/simple/"
    private: Annotated[
        tuple[Annotated[str, Meta(pattern=_NAMES)], ...],
        Meta(
            description="Patterns of project names (* and ?) that are never looked for upstream, e.g. "
            "[corp-*]. Names that were ever in this index never are."
        ),
    ] = ()
    cache: Annotated[Cache, Meta(description="What `upstream: cache` keeps.")] = Cache()
    overwrite: Annotated[bool, Meta(description="Whether an upload may replace a file that is there.")] = (
        False
    )
    ownership: Annotated[
        bool,
        Meta(description="Whether the first user who uploads to a new project owns it: others then cannot."),
    ] = False
    max_upload_size: Annotated[
        str, Meta(pattern=_SIZE, description="The largest file that can be uploaded (kB, MB or GB).")
    ] = "4GB"
    url_prefix: Annotated[
        str,
        Meta(pattern=_PREFIX, description="Path under which a reverse proxy shows the index, e.g. /pypi."),
    ] = ""
    public_url: Annotated[
        str,
        Meta(
            description="What clients type, e.g. https://pypi.example.com. Default: from host, port, prefix."
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of reverse proxies whose X-Forwarded-* headers are believed."
        ),
    ] = ("127.0.0.1", "::1")
    password: Annotated[Password, Meta(description="How passwords are stored.")] = Password()
    logs: Annotated[Logs, Meta(description="Log files (supervisor).")] = Logs()
    server: Annotated[Server, Meta(description="The server's programs.")] = field(default_factory=Server)

    @property
    def address(self) -> str:
        """The IP address to listen on."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def url(self) -> str:
        """The URL of the index as clients type it, without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        if ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{self.port}{self.url_prefix}"

    @property
    def simple_url(self) -> str:
        """The URL that pip and uv take as their index."""
        return f"{self.url}/simple/"

    @property
    def upload_url(self) -> str:
        """The URL that twine takes as its repository."""
        return f"{self.url}/"


_UNITS = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size such as `10MB`; a kB has 1024, as for supervisor."""
    return int(size[:-2]) * _UNITS[size[-2:]]


_KEYS = {field.name for field in msgspec.structs.fields(Settings)}


@lru_cache(maxsize=8)  # one command looks at the same file several times
def load(path: Path, content: bytes) -> Settings:
    """Return the settings in `content`, the bytes of the file `path`.

    Raises UsageError naming the file, the key and the accepted values.
    """
    data = yaml_text.parse(path, content)
    return from_data(data if data is not None else {}, str(path))


def from_data(data: Any, where: str) -> Settings:
    """Return the settings made of plain `data`; errors name `where` and the key. Raises UsageError."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected keys and values, such as `port: 3141`")
    settings_rules.check_texts(data, where)
    # `server:` with everything under it commented out: YAML says null, and the operator means the defaults.
    given = {key: value for key, value in data.items() if value is not None or key not in _KEYS}
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as e:
        raise UsageError(
            f"{where}: {refusals.explain(e, json_schema())}", "`ppctl schema` shows every key"
        ) from e
    settings_rules.check(settings, where)
    return settings


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of `ppctl.yml`."""
    schema = msgspec.json.schema(Settings)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
