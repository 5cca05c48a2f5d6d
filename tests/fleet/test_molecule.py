"""The molecule scenarios: each its whole sequence, from bare hosts to destroyed ones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import hosts
from tests.fleet.support import SUITES, env
from tests.hosts import CHECKOUT

SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))

SEQUENCE = [
    *("destroy", "create", "prepare", "check-bare", "converge", "idempotence", "check-clean"),
    *("drift", "mend", "check-clean", "verify", "destroy"),
]
"""What every scenario goes through, at least: `mend` is a dry run and the run that does what it has told."""


def configuration(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / path).read_text())
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_the_whole_sequence_on_both_releases(scenario: str) -> None:
    common = configuration(Path(".config/molecule/config.yml"))
    own = configuration(Path("molecule", scenario, "molecule.yml"))
    steps = [Path(step.split()[-1]).stem for step in {**common, **own}["scenario"]["test_sequence"]]
    assert [step for step in steps if step in SEQUENCE] == SEQUENCE
    assert {platform["suite"] for platform in own["platforms"]} == set(SUITES)


@pytest.mark.hosts
@pytest.mark.xdist_group("fleet")
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
