"""The tools that people publish and install with, old and new, against one index that wants a login for all.

Each publishes a project of its own, and each installs the same two.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xmlrpc.client
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ppctl.server import htpasswd
from tests.conftest import UV_CACHE
from tests.e2e import packages
from tests.e2e.clients import Developer
from tests.server.worker_process import Home, new_home

pytestmark = pytest.mark.e2e

USER, PASSWORD = "ci-bot", "p@ss w%rd:/"
IS_NEW = sys.version_info >= (3, 12)
# The last one of its kind; on Pythons that it does not know, the oldest that starts.
OLD_PIP = "pip==23.2.1" if IS_NEW else "pip==20.3.4"
# The last one with the command; newer Pythons have it from the distutils that is in setuptools.
OLD_SETUPTOOLS = "setuptools==71.1.0" if IS_NEW else "setuptools==41.6.0"
OLD_SETUP = "distutils.core" if IS_NEW else "setuptools"

# hishel 2 has not the names that pdm asks it for.
PDM = ("pdm>=2.20,<3", "hishel<2")

Tool = Callable[..., Path]


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """A function that installs requirements into a virtualenv, once, and returns where its programs are."""
    folder = tmp_path_factory.mktemp("tools")
    made: dict[tuple[str, ...], Path] = {}

    def install(*requirements: str) -> Path:
        if requirements not in made:
            path = folder / str(len(made))
            env = {**os.environ, "UV_CACHE_DIR": UV_CACHE}
            uv = [sys.executable, "-m", "uv"]
            for command in (
                [*uv, "venv", "--quiet", "--python", sys.executable, str(path)],
                [*uv, "pip", "install", "--quiet", "--python", str(path / "bin" / "python"), *requirements],
            ):
                subprocess.run(command, env=env, check=True, timeout=600)
            made[requirements] = path / "bin"
        return made[requirements]

    return install


@pytest.fixture(scope="module")
def index() -> Iterator[Home]:
    """An index with two workers, and two projects in it."""
    with new_home(login=["list", "download", "upload"]) as home:
        home.htpasswd.write_text(f"{USER}:{htpasswd.hash_password(PASSWORD, 4)}\n")
        packages.wheel(home.packages, "alpha-one", "1.0")
        packages.sdist(home.packages, "beta-two", "2.0")
        home.start(1)
        home.start(2)
        yield home


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture
def developer(folder: Path, request: pytest.FixtureRequest) -> Developer:
    """Somebody with a home of their own for each test."""
    own = folder / request.node.name.replace("[", "-").rstrip("]")
    own.mkdir()
    return Developer(own)


def address(index: Home) -> str:
    return f"http://127.0.0.1:{index.port}/"


def simple(index: Home) -> str:
    """Return the URL that packages are installed from, with the login in it."""
    return f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{index.port}/simple/"


def project(developer: Developer, name: str, more: str = "") -> Path:
    """Make a project with a wheel and an sdist in `dist`, and go there."""
    (developer.home / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.10"\n'
        f'description = "x"\nauthors = [{{ name = "x", email = "x@example.com" }}]\n{more}'
    )
    dist = developer.home / "dist"
    dist.mkdir()
    packages.wheel(dist, name, "1.0")
    packages.sdist(dist, name, "1.0")
    return dist


# --- publish


def by_twine(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    developer.twine(*("--repository-url", address(index), "-u", USER, "-p", PASSWORD), *dist.iterdir())


def by_uv(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    developer.uv_publish(address(index), USER, PASSWORD, *dist.iterdir())


def by_poetry(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    developer.run(
        *(tool("poetry>=2,<3") / "poetry", "publish", "--repository", "here", "--no-interaction"),
        POETRY_REPOSITORIES_HERE_URL=address(index),
        POETRY_HTTP_BASIC_HERE_USERNAME=USER,
        POETRY_HTTP_BASIC_HERE_PASSWORD=PASSWORD,
        POETRY_KEYRING_ENABLED="0",
    )


def by_hatch(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    developer.run(
        *(tool("hatch>=1.14,<2") / "hatch", "publish", "--no-prompt", *dist.iterdir()),
        HATCH_INDEX_REPO=address(index),
        HATCH_INDEX_USER=USER,
        HATCH_INDEX_AUTH=PASSWORD,
    )


def by_pdm(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    developer.run(
        *(tool(*PDM) / "pdm", "publish", "--no-build", "--repository", address(index)),
        PDM_PUBLISH_USERNAME=USER,
        PDM_PUBLISH_PASSWORD=PASSWORD,
        PDM_CHECK_UPDATE="0",
    )


def by_setup_py(developer: Developer, index: Home, tool: Tool, dist: Path) -> None:
    """`setup.py upload`, with which this began."""
    shutil.rmtree(dist)
    (developer.home / "pyproject.toml").unlink()
    (developer.home / "setup.py").write_text(
        f"from {OLD_SETUP} import setup\n"
        "setup(name='by-setup-py', version='1.0', py_modules=['by_setup_py'], url='http://x', author='x',\n"
        "      author_email='x@example.com')\n"
    )
    (developer.home / "by_setup_py.py").write_text("version = '1.0'\n")
    (developer.home / ".pypirc").write_text(
        "[distutils]\nindex-servers = here\n\n"
        f"[here]\nrepository = {address(index)}\nusername = {USER}\npassword = {PASSWORD}\n"
    )
    made = ["sdist"] if IS_NEW else ["sdist", "bdist_wheel"]
    python = tool(OLD_SETUPTOOLS, "wheel==0.33.6") / "python"
    done = developer.run(python, "setup.py", *made, "upload", "-r", "here", SETUPTOOLS_USE_DISTUTILS="local")
    assert done.stdout.count("Server response (200)") + done.stderr.count("Server response (200)") == len(
        made
    )


PUBLISHERS = [by_twine, by_uv, by_poetry, by_hatch, by_pdm, by_setup_py]


@pytest.mark.parametrize("publish", PUBLISHERS)
def test_it_is_published(
    index: Home, developer: Developer, tool: Tool, publish: Callable[[Developer, Home, Tool, Path], None]
) -> None:
    name = publish.__name__.replace("_", "-")
    dist = project(developer, name)
    publish(developer, index, tool, dist)
    made = list(dist.iterdir())
    assert made
    for file in made:
        stored = file.name if (index.packages / file.name).exists() else file.name.replace("-py-", "_py_")
        assert (index.packages / stored).read_bytes() == file.read_bytes()
    python = developer.virtualenv("installed")
    developer.pip(python, simple(index), name)
    assert developer.version_of(python, name.replace("-", "_")) == "1.0"


@pytest.mark.parametrize("publish", [by_twine, by_uv, by_poetry])
def test_a_second_time(
    index: Home, developer: Developer, tool: Tool, publish: Callable[[Developer, Home, Tool, Path], None]
) -> None:
    """The same files are there already, and that is no error; others of their names are refused."""
    dist = project(developer, f"twice-{publish.__name__.replace('_', '-')}")
    for _ in range(2):
        publish(developer, index, tool, dist)
    for sdist in dist.glob("*.tar.gz"):
        sdist.unlink()
    (wheel,) = dist.iterdir()
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("another.py", "")
    with pytest.raises(AssertionError, match=r"(?i)already exists|400|409"):
        publish(developer, index, tool, dist)


# --- install


def with_pip(developer: Developer, index: Home, tool: Tool) -> Path:
    python = developer.virtualenv("installed")
    developer.pip(python, simple(index), "alpha-one", "beta-two")
    return python


def with_old_pip(developer: Developer, index: Home, tool: Tool) -> Path:
    """Which knows neither JSON nor metadata, and reads HTML with a parser of its own."""
    python = tool(OLD_PIP, "setuptools<72", "wheel") / "python"
    target = developer.folder / "target"
    developer.run(
        *(python, "-m", "pip", "install", "--index-url", simple(index), "--target", target),
        *("alpha-one", "beta-two"),
    )
    made = developer.virtualenv("installed")
    for file in target.iterdir():
        next(made.parents[1].glob("lib/python*/site-packages")).joinpath(f"{file.name}").symlink_to(file)
    return made


def with_uv(developer: Developer, index: Home, tool: Tool) -> Path:
    python = developer.virtualenv("installed")
    developer.uv_pip(python, simple(index), "alpha-one", "beta-two")
    return python


def with_poetry(developer: Developer, index: Home, tool: Tool) -> Path:
    project(
        developer,
        "installs",
        'dependencies = ["alpha-one", "beta-two"]\n[tool.poetry]\npackage-mode = false\n'
        f'[[tool.poetry.source]]\nname = "here"\nurl = "{address(index)}simple/"\npriority = "primary"\n',
    )
    developer.run(
        *(tool("poetry>=2,<3") / "poetry", "install", "--no-root", "--no-interaction"),
        POETRY_HTTP_BASIC_HERE_USERNAME=USER,
        POETRY_HTTP_BASIC_HERE_PASSWORD=PASSWORD,
        POETRY_KEYRING_ENABLED="0",
        POETRY_VIRTUALENVS_IN_PROJECT="1",
    )
    return developer.home / ".venv" / "bin" / "python"


def with_hatch(developer: Developer, index: Home, tool: Tool) -> Path:
    project(
        developer,
        "installs",
        '[tool.hatch.envs.default]\nskip-install = true\npath = "made"\n'
        'dependencies = ["alpha-one", "beta-two"]\n',
    )
    developer.run(
        *(tool("hatch>=1.14,<2") / "hatch", "env", "create"),
        PIP_INDEX_URL=simple(index),
        UV_DEFAULT_INDEX=simple(index),
    )
    return developer.home / "made" / "bin" / "python"


def with_pdm(developer: Developer, index: Home, tool: Tool) -> Path:
    project(
        developer,
        "installs",
        'dependencies = ["alpha-one", "beta-two"]\n[tool.pdm]\ndistribution = false\n'
        f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{simple(index)}"\n',
    )
    developer.run(tool(*PDM) / "pdm", "install", "--no-self", PDM_CHECK_UPDATE="0")
    return developer.home / ".venv" / "bin" / "python"


@pytest.mark.parametrize("install", [with_pip, with_old_pip, with_uv, with_poetry, with_hatch, with_pdm])
def test_it_is_installed(
    index: Home, developer: Developer, tool: Tool, install: Callable[[Developer, Home, Tool], Path]
) -> None:
    python = install(developer, index, tool)
    assert developer.version_of(python, "alpha_one") == "1.0"
    assert developer.version_of(python, "beta_two") == "2.0"


# --- what else pypiserver's clients do


def test_search_over_xml_rpc(index: Home) -> None:
    """As `pip search` did."""
    with xmlrpc.client.ServerProxy(f"{simple(index).removesuffix('simple/')}RPC2") as server:
        found = server.search({"name": "alpha", "summary": "alpha"}, "or")
        assert isinstance(found, list)
        assert [(each["name"], each["version"]) for each in found] == [("alpha_one", "1.0")]
        assert server.search({"name": "nothing"}, "or") == []
    with (
        xmlrpc.client.ServerProxy(f"{address(index)}RPC2") as server,
        pytest.raises(xmlrpc.client.ProtocolError, match="401"),
    ):
        server.search({"name": "alpha"}, "or")
