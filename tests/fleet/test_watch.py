"""What looks for secrets finds them where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fleet.watch import Watch
from tests.server.patience import within

SECRET = "Heron-candle-5-watched"
SCRIPT = """
import os, sys, time
with open(sys.argv[1], "w") as file:
    file.write(sys.argv[2])
time.sleep(60)
"""


def seen(watch: Watch, where: str) -> bool:
    return within(5, lambda: any(where in found for found in watch.found(SECRET)))


def test_a_secret_is_found_in_processes_and_in_files_that_are_gone_again(tmp_path: Path) -> None:
    file = tmp_path / "below" / "temporary"
    file.parent.mkdir()
    with Watch(folders=[tmp_path]) as watch:
        argv = [sys.executable, "-c", SCRIPT, str(file), SECRET]
        with subprocess.Popen(argv) as process:
            assert seen(watch, f"/proc/{process.pid}/cmdline")
            assert seen(watch, str(file))
            process.kill()
        file.unlink()
        with subprocess.Popen(["sleep", "60"], env={"PASSWORD": SECRET}) as process:
            assert seen(watch, f"/proc/{process.pid}/environ")
            process.kill()
    assert watch.found(SECRET) and watch.found("nobody-has-this") == []
