"""`ppctl up` killed at random moments, and two at once: real processes, real supervisord, no root."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import (
    NewHome,
    RunPpctl,
    end_index,
    is_alive,
    paths_below,
    pick_port,
    ppctl_argv,
    processes_of,
    tree,
)
from tests.e2e.sites import FIVE, has_processes
from tests.server.patience import within

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("embedded")]

ROUNDS = 15
SETTINGS: list[dict[str, Any]] = [
    {},
    {"threads": 3},
    {"workers": 3},
    {"login": ["list", "upload"], "overwrite": True},
    {"logs": {"keep": 2}},
]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    argv = ppctl_argv("up", "-C", home, *arguments)
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_building(home: Path) -> bool:
    """Whether the first `ppctl up` is at its release: it holds the lock, and has seconds to go."""
    return any((home / "releases").glob("*"))


@contextmanager
def held(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let a `ppctl up` stand still, so that it is at work however long something else takes."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def up(run_ppctl: RunPpctl, home: Path) -> list[dict[str, Any]]:
    """Run `ppctl up` to its end and return what it has changed."""
    done = run_ppctl("up", "-C", home, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    changes: list[dict[str, Any]] = json.loads(done.stdout)["result"]["changes"]
    return changes


def status(run_ppctl: RunPpctl, home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_ppctl("status", "-C", home, "--json").stdout)
    return found


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def state(home: Path, port: int) -> dict[str, object]:
    """Return all files of the home that do not differ by nature, with this home's path and port left out."""
    found: dict[str, object] = {}
    for name, (kind, mode, content) in tree(home).items():
        if re.match(
            r"(run|logs|packages)/|\.(users\.)?lock$|releases/[^/]+/(lib|pyvenv|bin/|CACHEDIR)", name
        ):
            continue
        text = content if isinstance(content, str) else content.decode("utf-8", "replace")
        text = text.replace(str(home), "HOME").replace(f":{port}", ":PORT").replace(f": {port}", ": PORT")
        # Digests of texts with path and port in them.
        found[name] = (kind, mode, re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text))
    return found


def test_killed_at_random(
    new_home: NewHome,
    home: Path,
    free_port: int,
    run_ppctl: RunPpctl,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dice = random.Random(5)
    for number in range(ROUNDS):
        new_home(**SETTINGS[number % len(SETTINGS)])
        process = start(home)
        # The first one builds a release; the others are quick, with most of the work in the first second.
        time.sleep(dice.uniform(0.05, 3.0 if number < 5 else 1.5))
        process.kill()
        process.communicate()
        listed = [path for path in paths_below(home) if path.name.endswith(".tmp")]
        assert len(listed) <= 1, listed
    new_home(threads=4)
    up(run_ppctl, home)

    assert up(run_ppctl, home) == []
    assert status(run_ppctl, home)["result"]["health"] == "healthy"
    assert answers(free_port)
    assert [path for path in paths_below(home) if path.name.endswith(".tmp")] == []
    assert has_processes(home, FIVE)

    other, other_port = Path(f"{home}-undisturbed"), pick_port()
    try:
        other.mkdir(mode=0o750)
        (other / "ppctl.yml").write_text(f'name: "undisturbed"\nport: {other_port}\nthreads: 4\n')
        up(run_ppctl, other)
        expected = (
            json.dumps(state(other, other_port)).replace("undisturbed", "pypi").replace("HOME-pypi", "HOME")
        )
        found = {**state(home, free_port), "ppctl.yml": None}
        assert found == {**json.loads(expected, object_hook=tuples), "ppctl.yml": None}
    finally:
        end_index(other)
        subprocess.run(["rm", "-rf", str(other)], check=True)


def tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def test_killed_while_a_worker_is_restarted_loses_no_request(
    new_home: NewHome, home: Path, free_port: int, run_ppctl: RunPpctl
) -> None:
    new_home()
    up(run_ppctl, home)
    dice = random.Random(7)
    for number in range(6):
        new_home(threads=number + 2)
        process = start(home)
        deadline = time.monotonic() + dice.uniform(0.3, 1.2)
        while time.monotonic() < deadline:
            assert answers(free_port)
        process.kill()
        process.communicate()
        assert answers(free_port)
    up(run_ppctl, home)
    assert up(run_ppctl, home) == []


def test_two_at_once(new_home: NewHome, home: Path, run_ppctl: RunPpctl) -> None:
    """Two first ups of the same home: one works, the other waits, and both end well."""
    new_home()
    processes = [start(home), start(home)]
    results = [(p.communicate(timeout=300), p.returncode) for p in processes]
    assert [code for _, code in results] == [0, 0], results
    texts = sorted(out for (out, _), _ in results)
    assert [text.split(":")[0] for text in texts] == ["index pypi is up", "nothing to change"]
    waited = next(err for (out, err), _ in results if out.startswith("nothing to change"))
    holder = next(
        p.pid for p, ((out, _), _) in zip(processes, results, strict=True) if out.startswith("index")
    )
    assert re.search(rf"waiting for another ppctl .*: `ppctl up` by \w+ \(pid {holder}\)", waited)
    assert has_processes(home, FIVE)


def test_no_wait(new_home: NewHome, home: Path, run_ppctl: RunPpctl) -> None:
    new_home()
    holder = start(home)
    assert within(6, lambda: is_building(home))
    with held(holder):
        for command in ("up", "restart", "stop", "down", "destroy"):
            extra = ["--yes"] if command == "destroy" else []
            done = run_ppctl(command, "-C", home, "--no-wait", *extra)
            assert done.returncode == 1, (command, done.stderr)
            assert (
                f"another ppctl is at work on this index: `ppctl up` by {user()} (pid {holder.pid})"
                in done.stderr
            )
            assert "leave out --no-wait" in done.stderr
    _, err = holder.communicate(timeout=300)
    assert holder.returncode == 0, err


def user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def test_the_lock_of_a_killed_process_is_free(new_home: NewHome, home: Path, run_ppctl: RunPpctl) -> None:
    new_home()
    process = start(home)
    assert within(6, lambda: is_building(home))
    note = json.loads((home / ".lock").read_text())
    assert (note["pid"], note["purpose"]) == (process.pid, "ppctl up")
    process.kill()
    process.communicate()
    done = run_ppctl("up", "-C", home, "--no-wait")
    assert done.returncode == 0, done.stderr


def test_ctrl_c(new_home: NewHome, home: Path, run_ppctl: RunPpctl) -> None:
    new_home()
    process = start(home)
    assert within(6, lambda: is_building(home))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted: nothing is half-done; run the command again to finish" in err
    assert "Traceback" not in err
    up(run_ppctl, home)
    assert up(run_ppctl, home) == []


def test_ctrl_c_leaves_no_worker_stopped(new_home: NewHome, home: Path, run_ppctl: RunPpctl) -> None:
    """Nor does the end of the terminal, or of ppctl by a timeout."""
    new_home()
    up(run_ppctl, home)
    for number in range(6):
        process = subprocess.Popen(
            ppctl_argv("restart", "-C", home),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr
        assert process.stderr.readline() == "restart  worker 1\n"
        time.sleep(number * 0.02)
        sent = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[number % 3]
        os.killpg(process.pid, sent)  # as a terminal does
        _, err = process.communicate(timeout=300)
        # Where it was too late for that, all is done.
        assert process.returncode == 130 or (number and process.returncode == 0)
        assert process.returncode == 0 or "run the command again to finish" in err
        workers = status(run_ppctl, home)["result"]["workers"]
        assert [worker["state"] in ("starting", "running") for worker in workers] == [True, True], workers
        assert run_ppctl("start", "-C", home).returncode == 0  # which waits until they answer


def test_broken_settings_leave_the_running_index_alone(
    new_home: NewHome, home: Path, free_port: int, run_ppctl: RunPpctl
) -> None:
    new_home()
    up(run_ppctl, home)
    before = processes_of(home)
    good = (home / "ppctl.yml").read_text()
    for text, code in (("port: many", 2), ("name: [", 2), (f"{good}server: {{python: /no/python}}", 1)):
        (home / "ppctl.yml").write_text(text)
        assert run_ppctl("up", "-C", home).returncode == code
        assert processes_of(home) == before and answers(free_port)
    (home / "ppctl.yml").write_text(good)
    assert up(run_ppctl, home) == []


def test_a_worker_that_fails_is_brought_back(
    new_home: NewHome, home: Path, free_port: int, run_ppctl: RunPpctl
) -> None:
    new_home()
    up(run_ppctl, home)
    release = (home / "releases" / "current").resolve()
    application = next(release.glob("lib/*/site-packages/ppctl/server/app.py"))
    good = application.read_text()
    # Only seen when a worker starts with these settings, as a fault in new code would be.
    broken = """
import pathlib
if '"threads": 3' in pathlib.Path(os.environ["PPCTL_HOME"], "server.json").read_text():
    raise RuntimeError("the last words")
"""
    application.write_text(good + broken)
    new_home(threads=3)
    workers = {w["number"]: w["pid"] for w in status(run_ppctl, home)["result"]["workers"]}
    done = run_ppctl("up", "-C", home)
    assert done.returncode == 1
    assert "worker 1 of index pypi does not serve: it ends as soon as it starts" in done.stderr
    assert "the last words" in done.stderr
    assert "the workers were brought back with the settings and the release of before" in done.stderr
    found = status(run_ppctl, home)["result"]
    assert (found["health"], answers(free_port)) == ("healthy", True)
    assert found["workers"][1]["pid"] == workers[2]  # nobody has touched it
    assert '"threads": 8' in (home / "server.json").read_text()
    application.write_text(good)
    up(run_ppctl, home)
    assert up(run_ppctl, home) == []


def test_moved_and_copied(new_home: NewHome, home: Path, free_port: int, run_ppctl: RunPpctl) -> None:
    new_home()
    up(run_ppctl, home)
    moved = Path(f"{home}-moved")
    home.rename(moved)
    try:
        up(run_ppctl, moved)
        assert up(run_ppctl, moved) == []
        assert answers(free_port)
        assert status(run_ppctl, moved)["result"]["health"] == "healthy"
        subprocess.run(["cp", "-a", str(moved), str(home)], check=True)
        original = state(moved, free_port)
        other = pick_port()
        (home / "ppctl.yml").write_text(f"name: copy\nport: {other}\n")
        up(run_ppctl, home)
        assert answers(other) and answers(free_port)
        assert state(moved, free_port) == original
        assert up(run_ppctl, moved) == []
    finally:
        end_index(moved)
        subprocess.run(["rm", "-rf", str(moved)], check=True)


def test_down_and_destroy(new_home: NewHome, home: Path, free_port: int, run_ppctl: RunPpctl) -> None:
    new_home()
    up(run_ppctl, home)
    (home / "packages" / "a-1.0.tar.gz").write_bytes(b"precious")
    pids = processes_of(home)
    assert run_ppctl("down", "-C", home).stdout == f"down; `ppctl up -C {home}` brings it back\n"
    assert not any(map(is_alive, pids)) and not answers(free_port)
    assert run_ppctl("down", "-C", home).stdout == "nothing to do: it is down\n"
    assert [change["action"] for change in up(run_ppctl, home)] == ["start"]
    assert run_ppctl("stop", "-C", home).returncode == 0
    assert [change["action"] for change in up(run_ppctl, home)] == ["start"]

    refused = run_ppctl("destroy", "-C", home)
    assert refused.returncode == 1 and "nothing was removed" in refused.stderr and answers(free_port)
    done = run_ppctl("destroy", "-C", home, "--yes")
    assert done.stdout == f"destroyed {home}; left there: packages\n"
    left = [".", "packages", "packages/.ppctl-names", "packages/a-1.0.tar.gz"]  # a name stays known
    assert list(tree(home)) == left
    assert processes_of(home) == []
    assert run_ppctl("destroy", "-C", home, "--yes").returncode == 2

    new_home()
    up(run_ppctl, home)
    assert (home / "packages" / "a-1.0.tar.gz").read_bytes() == b"precious"
    done = run_ppctl("destroy", "-C", home, "--yes", "--purge")
    assert done.stdout == f"destroyed {home}\n"
    assert not home.exists()
    register = Path(os.environ["XDG_CONFIG_HOME"]) / "ppctl" / "indexes"
    assert os.listdir(register) == []
