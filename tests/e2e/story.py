"""What an operator and a developer do with an index, from `up` to `destroy`: told for every manager and mode.

A class of tests that runs from top to bottom; a subclass says where the index is (its `site` fixture).
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.e2e import packages
from tests.e2e.clients import Developer
from tests.e2e.sites import Site

NAME = "ci-bot"
PASSWORD = "correct horse battery"
NEW_PASSWORD = "staple: ünïcode, and a % sign"
CONNECTIONS = 100
LOGIN_FOR_ALL = ["list", "download", "upload"]
WORKERS = [1, 2]


class Story:
    """The tests; `settings` is what ppctl.yml says besides port and login."""

    settings: Mapping[str, object] = MappingProxyType({"password": {"bcrypt_cost": 10}})

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls) -> Iterator[Site]:
        raise NotImplementedError("a subclass says where the index is")

    @pytest.fixture(scope="class")
    @classmethod
    def developer(cls, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Developer:
        return Developer(tmp_path_factory.mktemp("developer"), site.address)

    @pytest.fixture(scope="class")
    @classmethod
    def dist(cls, developer: Developer) -> list[Path]:
        folder = developer.folder / "dist"
        folder.mkdir()
        return [packages.wheel(folder, "alpha-one", "1.0"), packages.sdist(folder, "beta-two", "2.0")]

    def configure(self, site: Site, **changed: object) -> None:
        site.set(**{"port": site.port, **self.settings, **changed})

    # -- the first day ---------------------------------------------------------------------------------

    def test_up_starts_an_index_that_answers(self, site: Site) -> None:
        self.configure(site)
        planned = site.ppctl("up", "--dry-run", "--exit-code", check=False)
        assert planned.returncode == 2, planned.stderr
        assert "run-pypi.sh" in planned.stdout
        assert site.report("up")["changed"] is True
        assert [worker["answers"] for worker in site.workers()] == [True, True]
        assert site.get("/health") == site.get("/simple/") == 200

    def test_adduser(self, site: Site) -> None:
        site.ppctl("adduser", NAME, "--password-stdin", stdin=f"{PASSWORD}\n")
        assert [user["name"] for user in site.report("users")["users"]] == [NAME]

    def test_twine_uploads_with_the_generated_pypirc(
        self, site: Site, developer: Developer, dist: list[Path]
    ) -> None:
        made = developer.run(
            *("ppctl", "pypirc", "--url", site.url, "--name", "here", "--write"),
            *("--user", NAME, "--with-password", "--password-stdin"),
            input=f"{PASSWORD}\n",
        )
        assert PASSWORD not in made.stdout + made.stderr
        pypirc = developer.home / ".pypirc"
        assert oct(pypirc.stat().st_mode & 0o777) == "0o600"
        assert developer.twine("--repository", "here", *dist).stdout.count("200 OK") == len(dist)

    def test_another_file_of_a_name_is_refused(
        self, site: Site, developer: Developer, dist: list[Path], tmp_path: Path
    ) -> None:
        again = shutil.copy(dist[0], tmp_path)
        with zipfile.ZipFile(again, "a") as archive:
            archive.writestr("another.py", "")
        done = developer.twine("--repository", "here", again, check=False)
        assert done.returncode == 1
        assert "already exists" in done.stdout

    def test_pip_and_uv_install_from_this_index_alone(self, site: Site, developer: Developer) -> None:
        for number, install in enumerate((developer.pip, developer.uv_pip)):
            python = developer.virtualenv(f"plain{number}")
            install(python, site.simple_url, "alpha-one", "beta-two")
            assert developer.version_of(python, "alpha_one") == "1.0"
            assert developer.version_of(python, "beta_two") == "2.0"

    def test_a_project_that_is_not_here_is_nowhere(self, site: Site, developer: Developer) -> None:
        python = developer.virtualenv("nothing")
        for install in (developer.pip, developer.uv_pip):
            done = install(python, site.simple_url, "requests", check=False)
            assert done.returncode != 0
            assert "proxy" not in done.stderr.lower()  # nobody was sent to the public index

    # -- logins ----------------------------------------------------------------------------------------

    def test_a_changed_setting_restarts_worker_after_worker(self, site: Site) -> None:
        before = {worker["pid"] for worker in site.workers()}
        self.configure(site, login=LOGIN_FOR_ALL)
        changes = site.report("up")["changes"]
        assert [c["target"] for c in changes if c["action"] == "restart"] == ["worker 1", "worker 2"]
        assert not any(change["interrupts"] for change in changes)
        assert before.isdisjoint(worker["pid"] for worker in site.workers())
        assert site.get("/simple/") == 401
        assert site.get("/simple/", (NAME, PASSWORD)) == 200

    def test_a_wrong_password_is_refused(self, site: Site, developer: Developer) -> None:
        assert {site.get("/simple/", (NAME, "wrong")) for _ in range(6)} == {401}
        assert site.get("/simple/", ("nobody", PASSWORD)) == 401
        wheel = packages.wheel(developer.folder, "gamma", "3.0")
        url = f"{site.url}/"
        done = developer.twine("--repository-url", url, "-u", NAME, "-p", "wrong", wheel, check=False)
        assert done.returncode == 1
        assert "401 Unauthorized" in done.stdout
        done = developer.uv_publish(url, NAME, "wrong", wheel, check=False)
        assert done.returncode == 2
        assert "401 Unauthorized" in done.stderr
        assert site.get(f"/packages/{wheel.name}", (NAME, PASSWORD)) == 404
        developer.uv_publish(url, NAME, PASSWORD, wheel)
        assert site.get(f"/packages/{wheel.name}", (NAME, PASSWORD)) == 200

    def test_pip_and_uv_log_in(self, site: Site, developer: Developer) -> None:
        for number, install in enumerate((developer.pip, developer.uv_pip)):
            python = developer.virtualenv(f"login{number}")
            for login, message in (("", ""), (f"{NAME}:wrong@", "401")):
                url = site.simple_url.replace("//", f"//{login}")
                done = install(python, url, "gamma", check=False)
                assert done.returncode != 0
                assert message in done.stderr
            login = f"{NAME}:{PASSWORD.replace(' ', '%20')}@"
            install(python, site.simple_url.replace("//", f"//{login}"), "gamma")
            assert developer.version_of(python, "gamma") == "3.0"

    def test_passwd_counts_at_once(self, site: Site) -> None:
        assert self.statuses(site, PASSWORD) == {200}
        site.ppctl("passwd", NAME, "--password-stdin", stdin=f"{NEW_PASSWORD}\n")
        assert self.statuses(site, PASSWORD) == {401}
        assert self.statuses(site, NEW_PASSWORD) == {200}

    def test_disable_and_enable_count_at_once(self, site: Site) -> None:
        site.ppctl("disable", NAME)
        assert self.statuses(site, NEW_PASSWORD) == {401}
        site.ppctl("enable", NAME)
        assert self.statuses(site, NEW_PASSWORD) == {200}
        done = [line["action"] for line in site.report("audit")["entries"]]
        assert done == ["adduser", "passwd", "disable", "enable"]

    @staticmethod
    def statuses(site: Site, password: str) -> set[int]:
        """Ask often enough that each worker has been asked."""
        return {site.get("/simple/", (NAME, password)) for _ in range(12)}

    # -- operating ---------------------------------------------------------------------------------------

    def test_a_second_up_changes_nothing(self, site: Site) -> None:
        before, workers = site.snapshot(), [worker["pid"] for worker in site.workers()]
        assert len(before) > 100, "the release is part of it"
        assert "nothing to change" in site.ppctl("up").stdout
        assert site.report("up")["changes"] == []
        assert site.ppctl("plan", "--exit-code").returncode == 0
        assert site.snapshot() == before
        assert [worker["pid"] for worker in site.workers()] == workers

    @pytest.mark.parametrize("which", ["arbiter", "serving"])
    def test_a_killed_worker_is_missed_by_nobody(self, site: Site, which: str) -> None:
        before = site.processes(1)
        site.run("kill", "-KILL", str(before[which == "serving"]))
        statuses = [site.get("/health") for _ in range(CONNECTIONS)]
        assert statuses == [200] * CONNECTIONS
        self.wait_for_another(site, before[which == "serving"], which)
        site.wait_until_healthy()

    @staticmethod
    def wait_for_another(site: Site, pid: int, which: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if site.processes(1)[which == "serving"] != pid:
                    return
            except (AssertionError, IndexError):  # the arbiter without its process: just starting
                pass
            assert time.monotonic() < deadline, "it did not come back"
            time.sleep(0.1)

    def test_status_shows_workers_and_contents(self, site: Site) -> None:
        found = site.report("status")
        assert found["health"] == "healthy"
        assert (found["packages"], found["users"], found["answers"]) == (3, 1, True)
        for worker in found["workers"]:
            assert worker["answers"] and worker["current"]
            assert worker["pid"] > 0 and worker["uptime"] > 0 and worker["memory"] > 1_000_000
        assert "healthy" in site.ppctl("status").stdout

    def test_logs_show_the_requests_of_each_worker(self, site: Site) -> None:
        self.before_logs(site)
        deadline = time.monotonic() + 120
        while True:
            assert self.statuses(site, NEW_PASSWORD) == {200}
            logs = {log["worker"]: log["lines"] for log in site.report("logs", "-n", "400")["logs"]}
            seen = [n for n in WORKERS if any("GET /simple/ HTTP/1.1" in line for line in logs[n])]
            if seen == WORKERS:
                break
            assert time.monotonic() < deadline, f"only workers {seen} have logged a request"
        assert "worker 2: " in site.ppctl("logs", "--worker", "2", "-n", "5").stdout
        everything = json.dumps(logs)
        assert PASSWORD not in everything and NEW_PASSWORD not in everything

    def before_logs(self, site: Site) -> None:
        """What it takes to read logs there."""

    def test_restart_renews_every_worker(self, site: Site) -> None:
        before = {worker["pid"] for worker in site.workers()}
        assert site.report("restart")["workers"] == WORKERS
        assert before.isdisjoint(worker["pid"] for worker in site.workers())
        site.wait_until_healthy()

    def test_stop_and_start(self, site: Site) -> None:
        site.ppctl("stop")
        with pytest.raises(ConnectionRefusedError):
            site.get("/health")
        assert site.ppctl("status", check=False).returncode == 1
        site.ppctl("start")
        assert site.get("/health") == 200
        assert site.ppctl("status").returncode == 0

    # -- the last day --------------------------------------------------------------------------------------

    def test_down_stops_and_up_brings_everything_back(self, site: Site) -> None:
        site.ppctl("down")
        with pytest.raises(ConnectionRefusedError):
            site.get("/health")
        assert self.left_outside(site) == []
        site.ppctl("up")
        assert self.statuses(site, NEW_PASSWORD) == {200}
        assert site.report("status")["packages"] == 3

    def test_destroy_keeps_packages_unless_purged(self, site: Site) -> None:
        refused = site.ppctl("destroy", check=False)
        assert refused.returncode == 1
        assert site.get("/health") == 200
        assert site.report("destroy", "--yes")["left"] == ["packages"]
        assert len(site.run("ls", os.path.join(site.home, "packages")).stdout.split()) == 3
        self.configure(site)
        site.ppctl("up")
        assert site.get("/packages/gamma-3.0-py3-none-any.whl") == 200
        assert site.report("destroy", "--yes", "--purge")["left"] == []
        assert site.run("test", "-e", site.home, check=False).returncode == 1
        assert self.left_outside(site, registered=False) == []
        with pytest.raises(ConnectionRefusedError):
            site.get("/health")

    @staticmethod
    def left_outside(site: Site, *, registered: bool = True) -> list[str]:
        """Return ppctl's files outside the home; the register of indexes is one while the home is there."""
        done = site.run("find", *site.watched, "(", "-type", "f", "-o", "-type", "l", ")", check=False)
        found = [path for path in done.stdout.split() if "ppctl" in path]
        return [path for path in found if not (registered and path.endswith("/ppctl/indexes/pypi"))]
