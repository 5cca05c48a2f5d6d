"""The molecule scenarios: each its whole sequence, from bare hosts to destroyed ones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import hosts
from tests.fleet.support import env
from tests.hosts import CHECKOUT

SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, wheelhouse: Path, tmp_path: Path) -> None:
    more = {
        "PPCTL_TEST_WHEELHOUSE": str(wheelhouse),
        "PPCTL_HOSTS_OWNER": str(os.getpid()),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["molecule", "test", "--scenario-name", scenario],
        cwd=CHECKOUT,
        env={**env(), **more},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    hosts.succeeded(done, f"molecule test -s {scenario}")
    # A step whose playbook is missing is no failure to molecule, but it is to us.
    recap = re.findall(r"missing=(\d+)\s+failed=(\d+)", done.stdout + done.stderr)
    assert recap == [("0", "0")], done.stdout[-4000:] + done.stderr[-4000:]
