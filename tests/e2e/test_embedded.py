"""The whole story on this machine, without root: the index has a supervisord of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppctl.local_host import LocalHost
from ppctl.workers import SocketProbe
from tests.conftest import processes_of
from tests.e2e import sites
from tests.e2e.sites import FIVE, Site, has_processes
from tests.e2e.story import Story
from tests.server.patience import within

pytestmark = pytest.mark.e2e


class TestEmbedded(Story):
    @pytest.fixture(scope="class")
    @classmethod
    def site(cls) -> Iterator[Site]:
        with sites.here() as site:
            yield site

    def test_nothing_is_left(self, site: Site) -> None:
        assert processes_of(Path(site.home)) == []


def test_what_outlives_a_killed_supervisord_is_ended_by_the_next_up() -> None:
    """Without its arbiter a worker still has to say which process may be stopped: never its new parent."""
    with sites.here() as site:
        site.ppctl("up")
        arbiter, _ = site.processes(1)
        os.kill(int((Path(site.home) / "run/supervisord.pid").read_text()), signal.SIGKILL)
        assert site.get("/health") == 200
        os.kill(arbiter, signal.SIGKILL)
        report = SocketProbe(timeout=1).report(Path(site.home) / "run/worker-1.sock")
        assert report is None or report.pid == arbiter
        assert "outlived" in json.dumps(site.report("plan")["changes"])
        site.ppctl("up")
        site.wait_until_healthy()
        assert has_processes(Path(site.home), FIVE)
        arbiters = {worker["pid"] for worker in site.workers()}
        for arbiter in arbiters:
            os.kill(arbiter, signal.SIGKILL)
        assert within(6, lambda: arbiters.isdisjoint(worker["pid"] for worker in site.workers()))
        site.wait_until_healthy()
        assert arbiters.isdisjoint(worker["pid"] for worker in site.workers())


def test_a_worker_that_ends_at_once_is_reported_with_its_log_and_the_other_lives() -> None:
    with sites.here() as site:
        site.ppctl("up")
        script = Path(site.home) / "run-pypi.sh"
        good = script.read_text()
        # Replaced, not written: it may be just being started (ETXTBSY, execve(2)).
        broken = "#!/bin/sh\necho no such thing as a release >&2\nexit 1\n"
        LocalHost().write(script, broken.encode(), mode=0o750)
        for _ in range(3):
            done = site.ppctl("restart", "--worker", "1", check=False)
            assert done.returncode == 1
            assert "no such thing as a release" in done.stderr
            assert "refuses" not in done.stderr
        assert site.get("/health") == 200  # the other one lives
        LocalHost().write(script, good.encode(), mode=0o750)
        site.ppctl("up")
        site.wait_until_healthy()
