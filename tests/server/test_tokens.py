"""Permissions and tokens at real workers, with real clients: what is changed counts at once, everywhere."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ppctl.server import accounts, htpasswd, permissions
from ppctl.server.permissions import TOKEN_USER, Permissions, Rights, Token
from tests.server.archives import wheel
from tests.server.patience import within
from tests.server.worker_process import Home, new_home, upload_form

pytestmark = pytest.mark.e2e

HASH = htpasswd.hash_password("secret", 4)
SECRET = permissions.new_secret()
TOKEN = Token("ci", "ann", permissions.digest(SECRET), Rights(upload=("team-*",)), 0.0)
LOGIN = (TOKEN_USER, SECRET)
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """Two workers, so that a request comes to either."""
    with new_home(login=["list", "upload"], ownership=True) as home:
        home.htpasswd.write_text(f"ann:{HASH}\nbob:{HASH}\nroot:{HASH}\n")
        put(home)
        home.start(1)
        home.start(2)
        yield home


def put(home: Home, *tokens: Token, **users: Rights) -> None:
    """Replace the permissions as ppctl does."""
    content = permissions.serialise(Permissions(users, {token.name: token for token in tokens}))
    path = home.path / "permissions.json"
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


def each_worker(home: Home, path: str = "/simple/", **headers: str) -> set[int]:
    """Return how the workers answer, each asked directly."""
    return {worker.request("GET", path, headers=headers).status for worker in home.workers}


def twine(home: Home, folder: Path, name: str, version: str, login: tuple[str, str]) -> tuple[int, str]:
    file, content = wheel(name, version)
    (folder / file).write_bytes(content)
    argv = ["twine", "upload", "--disable-progress-bar", "--repository-url", f"http://127.0.0.1:{home.port}/"]
    done = subprocess.run(
        [sys.executable, "-m", *argv, str(folder / file)],
        env={
            "TWINE_USERNAME": login[0],
            "TWINE_PASSWORD": login[1],
            "HOME": str(folder),
            "PATH": os.defpath,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def uv(home: Home, folder: Path, name: str, version: str) -> int:
    file, content = wheel(name, version)
    (folder / file).write_bytes(content)
    argv = ["uv", "publish", "--publish-url", f"http://127.0.0.1:{home.port}/", str(folder / file)]
    environment = {"UV_PUBLISH_TOKEN": SECRET, "UV_NO_CONFIG": "1", "HOME": str(folder), "PATH": os.defpath}
    done = subprocess.run([sys.executable, "-m", *argv], env=environment, capture_output=True, check=False)
    return done.returncode


def test_twine_and_uv_upload_with_a_token_where_it_may(home: Home, tmp_path: Path) -> None:
    put(home, TOKEN)
    assert twine(home, tmp_path, "team_tool", "1.0", LOGIN)[0] == 0
    assert uv(home, tmp_path, "team_tool", "2.0") == 0
    code, said = twine(home, tmp_path, "other", "1.0", LOGIN)
    assert code == 1 and "the token ci of ann may not upload to other" in said
    assert SECRET not in said
    assert sorted(path.name for path in home.packages.glob("*_tool-*.whl")) == [
        "team_tool-1.0-py3-none-any.whl",
        "team_tool-2.0-py3-none-any.whl",
    ]


def test_a_token_to_upload_neither_reads_nor_removes(home: Home, tmp_path: Path) -> None:
    put(home, TOKEN)
    assert each_worker(home, **BEARER) == {403}
    assert home.upload(*wheel("team_lib", "1.0"), login=LOGIN).status == 200
    content_type, body = upload_form("x", b"", action="remove_pkg", name="team_lib", version="1.0")
    removed = home.request("POST", "/", body, {"Content-Type": content_type}, login=LOGIN)
    assert removed.status == 403
    put(home, replace(TOKEN, rights=Rights(read=True)))
    assert each_worker(home, **BEARER) == {200}
    # Not even that of somebody who may do everything.
    put(home, replace(TOKEN, rights=Rights(upload=("*",))), ann=Rights(admin=True))
    assert home.request("POST", "/", body, {"Content-Type": content_type}, login=LOGIN).status == 403


def test_what_is_changed_counts_at_once_at_every_worker(home: Home) -> None:
    reading = replace(TOKEN, rights=Rights(read=True))
    for _ in range(5):
        put(home, reading)
        assert each_worker(home, **BEARER) == {200}
        put(home)
        assert each_worker(home, **BEARER) == {401}
        put(home, replace(reading, expires=time.time() - 1))
        assert each_worker(home, **BEARER) == {401}
        put(home, reading, ann=Rights(upload=("*",)))
        assert each_worker(home, **BEARER) == {403}
        put(home, reading, ann=Rights(admin=True))
        assert each_worker(home, **BEARER) == {200}


@pytest.mark.parametrize("what", ["revoked", "narrower", "expired", "user disabled"])
def test_what_is_taken_away_while_an_upload_is_on_its_way(home: Home, what: str) -> None:
    """A client may take hours for an upload: the rights at its end count."""
    name, content = wheel("team_slow", "1.0", content=random.randbytes(1 << 20))
    before = home.htpasswd.read_text()
    put(home, TOKEN)
    content_type, body = upload_form(name, content)
    fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **BEARER}
    with socket.create_connection(("127.0.0.1", home.port), timeout=60) as client:
        head = "".join(f"{field}: {value}\r\n" for field, value in {"Host": "x", **fields}.items())
        client.sendall(f"POST / HTTP/1.1\r\n{head}\r\n".encode() + body[:-50])
        assert within(5, lambda: [path for path in home.stored() if "upload" in path])
        if what == "user disabled":
            home.htpasswd.write_text(before.replace("ann:", "ann:!"))
        later = {
            "revoked": [],
            "narrower": [replace(TOKEN, rights=Rights(upload=("team-fast",)))],
            "expired": [replace(TOKEN, expires=time.time())],
        }
        put(home, *later.get(what, [TOKEN]))
        client.sendall(body[-50:])
        said = client.recv(1000)
    home.htpasswd.write_text(before)
    assert said.startswith(b"HTTP/1.1 403 " if what == "narrower" else b"HTTP/1.1 401 ")
    assert name not in home.stored()
    assert within(5, lambda: not [path for path in home.stored() if "upload" in path])


def test_a_token_ends_with_its_user(home: Home) -> None:
    put(home, replace(TOKEN, rights=Rights(read=True)))
    before = home.htpasswd.read_text()
    for now in (before.replace("ann:", "ann:!"), before.replace("ann:", "#ann:")):
        assert each_worker(home, **BEARER) == {200}
        home.htpasswd.with_suffix(".new").write_text(now)
        home.htpasswd.with_suffix(".new").rename(home.htpasswd)
        assert each_worker(home, **BEARER) == {401}
        home.htpasswd.with_suffix(".new").write_text(before)
        home.htpasswd.with_suffix(".new").rename(home.htpasswd)


def test_the_last_use_is_noted(home: Home) -> None:
    secret = permissions.new_secret()
    unused = replace(TOKEN, digest=permissions.digest(secret), rights=Rights(read=True))
    put(home, unused)
    assert accounts.last_use(home.path / "run", unused) is None
    assert each_worker(home, Authorization=f"Bearer {secret}") == {200}
    used = accounts.last_use(home.path / "run", unused)
    assert used and abs(used - time.time()) < 60


def test_who_uploads_first_owns_the_name(home: Home) -> None:
    put(home, root=Rights(admin=True), team=Rights(upload=("mine",)))
    ann, bob, root = (("ann", "secret"), ("bob", "secret"), ("root", "secret"))

    def upload(version: str, login: tuple[str, str]) -> int:
        return home.upload(*wheel("mine", version), login=login).status

    assert upload("1.0", ann) == 200
    assert upload("2.0", bob) == 403
    refused = home.upload(*wheel("mine", "2.0"), login=bob)
    assert "bob may not upload to mine, which belongs to ann" in refused.text
    assert upload("2.0", root) == 200
    # The name stays ann's when all of its files are gone.
    for version in ("1.0", "2.0"):
        content_type, body = upload_form("x", b"", action="remove_pkg", name="mine", version=version)
        assert home.request("POST", "/", body, {"Content-Type": content_type}, login=bob).status == 403
        assert home.request("POST", "/", body, {"Content-Type": content_type}, login=ann).status == 200
    assert upload("3.0", bob) == 403
    put(home, bob=Rights(upload=("min?",)))  # one who was told this very name
    assert upload("3.0", bob) == 200


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_damaged_permissions_allow_nothing_and_break_nothing(home: Home, content: str) -> None:
    (home.path / "permissions.json").write_text(content)
    for login in (("ann", "secret"), ("root", "secret")):
        assert home.get("/simple/", login=login).status == 403
        assert home.upload(*wheel("damaged", "1.0"), login=login).status == 403
    assert home.get("/simple/", login=LOGIN).status == 401
    assert home.get("/packages/unknown-1.0.zip").status == 404
    put(home)
    assert home.get("/simple/", login=("ann", "secret")).status == 200
