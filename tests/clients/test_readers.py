"""Round trips: what we write is what the clients' own readers understand, and they lose nothing."""

from __future__ import annotations

import json
import netrc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from twine.utils import get_config, get_repository_from_config

from ppctl.clients import CLIENTS, next_steps, tomls
from ppctl.clients.base import Entry, from_url
from tests.clients import examples
from tests.clients.conftest import PASSWORD, USER, Server
from tests.clients.examples import LOGIN, PLAIN
from tests.clients.test_formats import NETRC_LOGIN

pytestmark = pytest.mark.e2e

PROGRAMS = Path(sys.executable).parent


def run(*argv: str | Path, env: dict[str, str] | None = None, check: bool = True, **more: object) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **more,  # type: ignore[call-overload]
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def login(server: Server, *, read_login: bool = False) -> Entry:
    return replace(from_url(server.url, "corp"), user=USER, password=PASSWORD, read_login=read_login)


@pytest.mark.parametrize("text", examples.PYPIRC)
def test_twine_keeps_every_repository_and_finds_ours(text: str, tmp_path: Path) -> None:
    path = tmp_path / ".pypirc"
    path.write_bytes(text.encode())
    before = get_config(str(path))
    path.write_bytes(CLIENTS["pypirc"].merge(text, LOGIN).encode())
    after = get_config(str(path))
    ours = get_repository_from_config(str(path), "corp")
    assert ours["repository"] == LOGIN.upload_url
    assert ours["username"] == LOGIN.user
    assert ours["password"] == LOGIN.password
    before.pop("corp", None)
    assert {name: after[name] for name in before} == before


def test_flit_does_not_publish_testpypi_for_good(tmp_path: Path) -> None:
    """flit takes a listed repository without URL for the public index: ours has a URL."""
    parsed = __import__("configparser").ConfigParser(interpolation=None)
    parsed.read_string(CLIENTS["pypirc"].render(PLAIN))
    for name in parsed["distutils"]["index-servers"].split():
        assert name == "pypi" or parsed[name]["repository"]


@pytest.mark.parametrize("text", [*examples.PIP, *examples.PIP_WITH_INDEX])
@pytest.mark.parametrize("url", ["https://pypi.example.com", "http://index.lan:8080"])
def test_pip_reads_our_index_and_everything_else(text: str, url: str, tmp_path: Path) -> None:
    from pip._internal.configuration import Configuration

    def read(content: str) -> dict[str, str]:
        path = tmp_path / "pip.conf"
        path.write_bytes(content.encode())
        os.environ["PIP_CONFIG_FILE"] = str(path)
        try:
            found = Configuration(isolated=True)
            found.load()
            return dict(found.get_value_pairs() if hasattr(found, "get_value_pairs") else _flat(found))
        finally:
            del os.environ["PIP_CONFIG_FILE"]

    entry = replace(from_url(url, "corp"), user="ann", password="p%@:/", read_login=True, replace=True)
    before, after = read(text), read(CLIENTS["pip"].merge(text, entry))
    assert after["global.index-url"] == f"{url.replace('://', '://ann:p%25%40%3A%2F@')}/simple/"
    trusted = after.pop("global.trusted-host", "").split()
    assert set(before.pop("global.trusted-host", "").split()) <= set(trusted)
    assert ("index.lan" in trusted) == url.startswith("http://")
    others = {key: value for key, value in after.items() if not key.endswith("index-url")}
    assert others == {key: value for key, value in before.items() if not key.endswith(".index-url")} or (
        "extra-index-url" in text
    )
    assert [key for key in after if key.endswith(".index-url")] == ["global.index-url"]


def _flat(found: object) -> dict[str, str]:
    values: dict[str, str] = {}
    for each in found._dictionary.values():  # type: ignore[attr-defined]
        values.update(each)
    return values


def test_netrc_module_and_requests_read_our_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from requests.utils import get_netrc_auth

    for text in examples.NETRC:
        path = tmp_path / ".netrc"
        path.write_text(CLIENTS["netrc"].merge(text, NETRC_LOGIN))
        path.chmod(0o600)
        found = netrc.netrc(path).authenticators("pypi.example.com")
        assert found is not None
        assert (found[0], found[2]) == (NETRC_LOGIN.user, NETRC_LOGIN.password)
        monkeypatch.setenv("NETRC", str(path))
        assert get_netrc_auth(PLAIN.simple_url) == (NETRC_LOGIN.user, NETRC_LOGIN.password)


def test_a_shell_reads_the_variables(tmp_path: Path) -> None:
    path = tmp_path / "env.sh"
    path.write_text(CLIENTS["env"].render(LOGIN))
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    found = json.loads(run("sh", "-c", f'. "$0"; "$1" -c "{program}"', path, sys.executable))
    assert found["TWINE_PASSWORD"] == found["UV_PUBLISH_PASSWORD"] == LOGIN.password
    assert found["HATCH_INDEX_AUTH"] == found["POETRY_HTTP_BASIC_CORP_PASSWORD"] == LOGIN.password
    assert found["PIP_INDEX_URL"] == LOGIN.reading_url
    assert found["UV_DEFAULT_INDEX"] == "corp=https://pypi.example.com/simple/"


def test_toml_holds_the_login(tmp_path: Path) -> None:
    hatch = tomls.parse(CLIENTS["hatch"].render(LOGIN))["publish"]["index"]["repos"]["corp"]
    assert hatch == {"url": LOGIN.upload_url, "user": LOGIN.user, "auth": LOGIN.password}
    pdm = tomls.parse(CLIENTS["pdm"].render(LOGIN))
    assert pdm["repository"]["corp"]["password"] == pdm["pypi"]["password"] == LOGIN.password


def uv(*argv: str | Path, user_home: Path, env: dict[str, str] | None = None, check: bool = True) -> str:
    options = {"UV_CACHE_DIR": str(user_home / "cache"), "UV_PYTHON_DOWNLOADS": "never", **(env or {})}
    return run(PROGRAMS / "uv", *argv, env=options, check=check)


@pytest.mark.parametrize("way", ["file", "env"])
def test_uv_publishes_and_installs(way: str, closed_server: Server, user_home: Path, wheel: Path) -> None:
    entry = login(closed_server, read_login=True)
    env: dict[str, str] = {}
    if way == "file":
        path = user_home / ".config/uv/uv.toml"
        path.parent.mkdir(parents=True)
        path.write_text(CLIENTS["uv"].render(entry))
        uv("publish", "--trusted-publishing", "never", "--index", "corp", wheel, user_home=user_home)
    else:
        script = user_home / "env.sh"
        script.write_text(CLIENTS["env"].render(entry))
        run("sh", "-c", f'. {script}; "$0" publish "$1"', PROGRAMS / "uv", wheel)
        listed = run("sh", "-c", f". {script}; env -0").split("\0")
        env = dict(line.split("=", 1) for line in listed if line.startswith(("UV_", "PIP_")))
    target = user_home / "target"
    uv(
        "pip",
        "install",
        "--python",
        sys.executable,
        "--target",
        target,
        "demo-x",
        user_home=user_home,
        env=env,
    )
    assert (target / "demo_x.py").exists()


def test_uv_fails_without_login_and_does_not_ask_elsewhere(closed_server: Server, user_home: Path) -> None:
    path = user_home / ".config/uv/uv.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CLIENTS["uv"].render(replace(login(closed_server, read_login=True), password="")))
    said = uv(
        "pip",
        "install",
        "--python",
        sys.executable,
        "--target",
        user_home / "t",
        "demo-x",
        user_home=user_home,
        check=False,
    )
    assert "redentials" in said


def test_uv_explicit_index_in_a_project(open_server: Server, user_home: Path, wheel: Path) -> None:
    shutil.copy(wheel, open_server.packages)
    project = user_home / "pyproject.toml"
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["demo-x"]\n'
    client = CLIENTS["uv"].at(project)
    from ppctl.clients.base import Priority

    text = client.merge(text, replace(from_url(open_server.url, "corp"), priority=Priority.EXPLICIT))
    project.write_text(text + '[tool.uv.sources]\ndemo-x = { index = "corp" }\n')
    uv("lock", "--directory", user_home, "--python", sys.executable, user_home=user_home)
    assert open_server.url in (user_home / "uv.lock").read_text()


def test_twine_uploads_and_pip_installs_from_the_files(
    closed_server: Server, user_home: Path, wheel: Path
) -> None:
    entry = login(closed_server, read_login=True)
    (user_home / ".pypirc").write_text(CLIENTS["pypirc"].render(entry))
    run(PROGRAMS / "twine", "upload", "--disable-progress-bar", "-r", "corp", wheel)
    (user_home / ".config/pip").mkdir(parents=True)
    (user_home / ".config/pip/pip.conf").write_text(CLIENTS["pip"].render(entry))
    options = ["--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--target", user_home / "t"]
    run(sys.executable, "-m", "pip", "install", *options, "demo-x")
    assert (user_home / "t/demo_x.py").exists()
    shown = run(sys.executable, "-m", "pip", "config", "list")
    assert closed_server.url.removeprefix("http://") in shown


def test_next_steps_work_as_printed(open_server: Server, user_home: Path, wheel: Path) -> None:
    steps = next_steps(replace(from_url(open_server.url, "corp"), user=USER))
    assert [step.split()[0] for step in steps] == ["pip", "uv", "twine"]
    dist = user_home / "dist"
    dist.mkdir()
    shutil.copy(wheel, dist)
    path = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "UV_CACHE_DIR": str(user_home / "cache")}
    run("sh", "-c", steps[2], env={**path, "TWINE_PASSWORD": PASSWORD})
    pip, uv_line = (step.replace("PACKAGE", "demo-x") for step in steps[:2])
    run("sh", "-c", f"{pip} --no-deps --no-cache-dir --target pip", env=path)
    run("sh", "-c", f"{uv_line} --python {sys.executable} --target uv", env=path)
    assert (user_home / "pip/demo_x.py").exists() and (user_home / "uv/demo_x.py").exists()


def test_next_steps_where_reading_needs_a_login(closed_server: Server, user_home: Path, wheel: Path) -> None:
    shutil.copy(wheel, closed_server.packages)
    pip, uv_line, _ = next_steps(replace(from_url(closed_server.url, "corp"), user=USER, read_login=True))
    assert f"//{USER}@" in pip
    env = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "UV_CACHE_DIR": str(user_home / "cache")}
    # uv asks for the password on a terminal; here it comes on standard input.
    line = uv_line.replace(f"--username {USER}", f"--username {USER} --password - < password")
    (user_home / "password").write_text(PASSWORD + "\n")
    line = line.replace("PACKAGE", f"--python {sys.executable} --target uv demo-x")
    run("sh", "-c", line, env=env)
    assert (user_home / "uv/demo_x.py").exists()


REQUIRE_ALL = os.environ.get("PPCTL_REQUIRE_ALL") == "1"
TOOLS = {"poetry": "poetry>=2.1,<3", "pdm": "pdm>=2.22,<3", "hatch": "hatch>=1.14,<2"}


@pytest.fixture
def tool(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return how to find a client; where nothing may be skipped, it is installed if it is not there."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found or not REQUIRE_ALL:
            return found or pytest.skip(f"{name} is not installed here")
        place = tmp_path_factory.mktemp(name)
        run(sys.executable, "-m", "uv", "venv", "--quiet", place)
        run(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            place / "bin/python",
            TOOLS[name],
        )
        return str(place / "bin" / name)

    return find


def test_poetry_reads_its_files(open_server: Server, user_home: Path, tool: Callable[[str], str]) -> None:
    poetry = tool("poetry")
    project = user_home / "pyproject.toml"
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\n'
    text += "[tool.poetry]\npackage-mode = false\n"
    project.write_text(CLIENTS["poetry"].merge(text, from_url(open_server.url, "corp")))
    assert open_server.url in run(poetry, "source", "show", "corp", cwd=user_home)
    run(poetry, "check", cwd=user_home)
    config = user_home / ".config/pypoetry"
    config.mkdir(parents=True)
    for name in ("config.toml", "auth.toml"):
        entry = login(open_server) if name == "auth.toml" else from_url(open_server.url, "corp")
        (config / name).write_text(CLIENTS["poetry"].at(Path(name)).render(entry))
    assert open_server.url in run(poetry, "config", "repositories.corp", cwd=user_home)


def test_pdm_reads_its_file(user_home: Path, tool: Callable[[str], str]) -> None:
    pdm = tool("pdm")
    config = user_home / ".config/pdm/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("check_update = false\n" + CLIENTS["pdm"].render(LOGIN))
    assert LOGIN.simple_url in run(pdm, "config", "pypi.url", cwd=user_home)
    shown = run(pdm, "config", "repository.corp", cwd=user_home)
    assert LOGIN.upload_url in shown and LOGIN.user in shown


def test_hatch_publishes(
    closed_server: Server, user_home: Path, wheel: Path, tool: Callable[[str], str]
) -> None:
    hatch = tool("hatch")
    config = user_home / ".config/hatch/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CLIENTS["hatch"].render(login(closed_server)))
    run(hatch, "--no-interactive", "publish", "--no-prompt", "--repo", "corp", wheel, cwd=user_home)
    assert list(closed_server.packages.glob("demo_x*"))
