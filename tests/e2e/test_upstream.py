"""Real pip and uv through an index with `upstream: cache`, in front of an index that can be stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import processes_of
from tests.e2e import sites
from tests.e2e.clients import Developer
from tests.e2e.load import Load
from tests.e2e.sites import Site, has_processes
from tests.server.archives import metadata, wheel
from tests.server.patience import within
from tests.server.stand_in import StandIn, stand_in

pytestmark = pytest.mark.e2e

PUBLIC = {"public-app": "Requires-Dist: public-lib", "public-lib": "Requires-Python: >=3.8"}


@pytest.fixture
def index() -> Iterator[StandIn]:
    with stand_in() as made:
        for name, line in PUBLIC.items():
            file, content = wheel(name, "1.0", line)
            made.add(name, file, content, metadata(name, "1.0", line))
        # What somebody has put there, hoping that we install it.
        file, content = wheel("corp-tools", "99.0")
        made.add("corp-tools", file, content)
        file, content = wheel("team-thing", "99.0")
        made.add("team-thing", file, content)
        yield made


@pytest.fixture
def site() -> Iterator[Site]:
    with sites.here() as made:
        yield made


def settings(site: Site, index: StandIn, **more: object) -> None:
    site.set(port=site.port, login=[], upstream_url=index.url, private=["corp-*"], **more)


def private_requests(index: StandIn) -> list[str]:
    return [path for path in index.asked if "corp" in path or "team" in path]


def test_pip_and_uv_install_through_the_cache_also_when_upstream_is_away(
    site: Site, index: StandIn, tmp_path: Path
) -> None:
    settings(site, index, upstream="cache")
    site.ppctl("up")
    developer = Developer(tmp_path)
    file, content = wheel("team-thing", "1.0", "Requires-Dist: public-app")
    (tmp_path / file).write_bytes(content)
    developer.twine("--repository-url", f"{site.url}/", "-u", "", "-p", "", tmp_path / file)

    # One index-url for both, and a private project that needs public ones.
    developer.pip(developer.virtualenv("pip"), site.simple_url, "team-thing")
    developer.uv_pip(developer.virtualenv("uv"), site.simple_url, "team-thing")
    files = [path for path in index.asked if path.startswith("/files/")]
    assert len(files) == len(set(files))
    python = developer.virtualenv("refused")
    for refused in ("corp-tools", "team-thing>2"):
        assert developer.pip(python, site.simple_url, refused, check=False).returncode == 1
        assert developer.uv_pip(python, site.simple_url, refused, check=False).returncode == 1
    assert private_requests(index) == []

    index.stop()
    site.ppctl("restart")
    developer.pip(developer.virtualenv("pip2"), site.simple_url, "team-thing")
    developer.uv_pip(developer.virtualenv("uv2"), site.simple_url, "public-app")
    done = developer.uv_pip(developer.virtualenv("uv3"), site.simple_url, "never-seen", check=False)
    assert "502" in done.stderr
    doctor = site.ppctl("doctor", check=False).stdout
    assert "the other index: 127.0.0.1 cannot be reached" in doctor

    # The cache program is killed: back at once; nothing that is here has noticed.
    index.start()
    cache = site.report("status")["cache"]
    os.kill(cache["pid"], signal.SIGKILL)
    assert site.get("/simple/team-thing/") == 200
    assert within(3, lambda: _cache_pid(site) not in (0, cache["pid"]))
    (Path(site.home) / "packages" / file).unlink()
    assert within(2, lambda: site.get("/simple/team-thing/") == 404)
    assert site.get("/upstream/team-thing/" + "a" * 64 + "/team_thing-99.0-py3-none-any.whl") == 404
    assert private_requests(index) == []
    assert "team-thing" in site.ppctl("packages", "list", "--former").stdout
    told = site.ppctl("doctor", "--upstream", check=False).stdout
    assert "private by corp-*, never here" in told
    assert "(1): corp-tools" in told
    assert "team-thing is here and at" in told


def _cache_pid(site: Site) -> int:
    shown = json.loads(site.ppctl("status", "--json", check=False).stdout)["result"]["cache"]
    return int(shown["pid"]) if shown["answers"] else 0


def test_from_none_to_cache_and_back_under_load_leaves_nothing(site: Site, index: StandIn) -> None:
    settings(site, index)
    site.ppctl("up")
    file, content = wheel("team-thing", "1.0")
    (Path(site.home) / "packages" / file).write_bytes(content)
    assert within(2, lambda: site.get("/simple/team-thing/") == 200)
    before = sorted(path.name for path in Path(site.home).iterdir())
    processes = len(processes_of(Path(site.home)))
    load = Load(site.address, site.port)
    load.new_connections("/simple/team-thing/", 20.0)
    load.kept_alive(f"/packages/{file}", [0.05])
    with load.running():
        settings(site, index, upstream="cache", cache={"max_size": "10MB"})
        assert {change["action"] for change in site.report("plan")["changes"]} >= {"build", "start"}
        site.ppctl("up")
        assert site.get("/simple/public-lib/") == 200
        assert site.report("up")["changed"] is False
        assert site.report("status")["cache"]["max_bytes"] == 10 << 20
        settings(site, index, upstream="cache", cache={"max_size": "20MB"})
        assert [change["target"] for change in site.report("up")["changes"]][-1] == "cache"
        assert site.report("restart")["changed"] is True
        assert "fetching from" in "\n".join(site.report("logs")["cache"])
        settings(site, index)
        site.ppctl("up")
    assert load.failures == []
    assert sorted(path.name for path in Path(site.home).iterdir()) == before
    assert not (Path(site.home) / "run" / "cache.sock").exists()
    assert list((Path(site.home) / "logs").glob("cache*")) == []
    assert has_processes(Path(site.home), processes)
    assert site.get("/simple/public-lib/") == 404
    assert site.report("status")["cache"] is None
    assert "cache" not in json.dumps(site.report("plan"))
