"""What must be there: rendered files, in the eyes of those who read them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ppctl import settings
from ppctl.desired import Desired, build
from ppctl.errors import UsageError
from ppctl.facts import Facts
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.releases import Release
from ppctl.settings import ManagerName

HOME = Path("/srv/pkg/index")
RELEASE = Release("2.4.2-abc", "/usr/bin/python3", "lock")


def desired(home: Path = HOME, manager: str = "supervisor", **values: Any) -> Desired:
    found = settings.from_data(values, "test")
    is_system = found.mode is settings.Mode.SYSTEM
    units = Path("/etc/systemd/system") if is_system else Path("/home/op/.config/systemd/user")
    facts = Facts(
        manager=ManagerName(manager),
        group="pypi" if is_system else None,
        release=RELEASE,
        register=Path("/etc/ppctl/indexes"),
        unit_directory=units if manager == "systemd" else None,
        include_path=Path("/etc/supervisor/conf.d/ppctl-pypi.conf")
        if is_system and manager == "supervisor"
        else None,
    )
    return build(Index(Layout(home), found), facts)


def files(found: Desired) -> dict[str, bytes]:
    return {file.path.name: file.content for file in found.files}


def test_it_is_pure() -> None:
    assert desired() == desired()


def test_modes_and_owners() -> None:
    embedded = desired()
    assert {f.path.name: oct(f.mode) for f in embedded.files} == {
        "htpasswd": "0o640",
        "server.json": "0o640",
        "run-pypi.sh": "0o750",
        "pypi-server.conf": "0o640",
        "supervisord.conf": "0o640",
    }
    assert {d.path.name: oct(d.mode) for d in embedded.directories} == {
        "index": "0o750",
        "packages": "0o755",
        "logs": "0o750",
        "run": "0o700",
        "releases": "0o755",
    }
    assert {(f.owner, f.group) for f in embedded.files} == {(None, None)}
    system = desired(mode="system")
    assert {(f.owner, f.group) for f in system.files} == {("root", "pypi")}
    # The workers write to these two, and to nothing else in the home.
    assert [d.path.name for d in system.directories if d.owner == "pypi"] == ["packages", "run"]


@pytest.mark.parametrize("manager", ["supervisor", "systemd"])
@pytest.mark.parametrize(
    "values",
    [
        {"threads": 3},
        {"login": []},
        {"overwrite": True},
        {"url_prefix": "/x"},
        {"upstream": "redirect"},
        {"public_url": "https://x"},
        {"server": {"versions": {"pypiserver": "2.4.1"}}},
        {"password": {"bcrypt_cost": 10}},
    ],
    ids=str,
)
def test_what_workers_read_leaves_the_managers_files_alone(manager: str, values: dict[str, Any]) -> None:
    """Any change in these closes the socket (supervisor) or needs a reload (systemd)."""
    before, after = files(desired(manager=manager)), files(desired(manager=manager, **values))
    different = {name for name in before if before[name] != after[name]}
    assert different <= {"server.json", "run-pypi.sh"}
    assert desired(manager=manager).unit == desired(manager=manager, **values).unit


@pytest.mark.parametrize(
    "values", [{"port": 4000}, {"host": "0.0.0.0"}, {"workers": 3}, {"name": "x"}], ids=str
)
def test_what_the_manager_must_know_changes_its_files(values: dict[str, Any]) -> None:
    before, after = desired(), desired(**values)
    assert before.unit != after.unit
    assert files(before)["pypi-server.conf"] != files(after)["pypi-server.conf"]
    assert files(before)["supervisord.conf"] == files(after)["supervisord.conf"]


def test_the_number_of_workers_under_systemd_leaves_those_that_run() -> None:
    before, after = desired(manager="systemd"), desired(manager="systemd", workers=3)
    assert before.unit == after.unit
    assert {name for name in files(before) if files(before)[name] != files(after)[name]} == {
        "ppctl-pypi.service"
    }


def test_a_generation_is_what_workers_start_from() -> None:
    assert desired().generation == desired(password={"bcrypt_cost": 10}).generation
    assert desired().generation != desired(threads=3).generation
    assert desired().generation.encode() in files(desired())["run-pypi.sh"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_run_script_is_posix(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "run-pypi.sh"
    path.write_bytes(files(desired())["run-pypi.sh"])
    done = subprocess.run([program, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_run_script_passes_shellcheck(tmp_path: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    program = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
    if not program:
        pytest.skip("shellcheck is not installed")
    path = tmp_path / "run-pypi.sh"
    path.write_bytes(files(desired(Path("/srv/a.b_c-d+e@f~g")))["run-pypi.sh"])
    argv = [program, "--shell=sh", "--severity=style", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_run_script_becomes_the_server(tmp_path: Path) -> None:
    """It runs: from the release that `current` points at, by `exec`, with what the worker is told."""
    home = tmp_path / "a.b_c-d+e@f~g"
    program = home / "releases" / "r1" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\necho "$$ $PPCTL_HOME $PPCTL_WORKER $PPCTL_RELEASE $PPCTL_GENERATION $*"\nenv\n'
    )
    program.chmod(0o755)
    (home / "releases" / "current").symlink_to("r1")
    found = desired(home)
    script = home / "run-pypi.sh"
    script.write_bytes(files(found)["run-pypi.sh"])
    script.chmod(0o750)
    env = {"PATH": "/usr/bin:/bin", "PPCTL_WORKER": "2", "GUNICORN_CMD_ARGS": "--bind=x", "LISTEN_FDS": "1"}
    process = subprocess.Popen([str(script)], env=env, stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=60)
    first, *rest = out.splitlines()
    arguments = "-I -m gunicorn --config python:ppctl.server.gunicorn_conf ppctl.server.app:application"
    assert first == f"{process.pid} {home} 2 r1 {found.generation} {arguments}"
    assert not [line for line in rest if line.startswith(("GUNICORN", "LISTEN"))]
    assert f"PPCTL_MANAGER={os.getpid()}" in rest


@pytest.mark.parametrize("mode", ["embedded", "system"])
def test_supervisor_reads_its_files(mode: str, tmp_path: Path) -> None:
    """supervisord's own parser, with its own idea of what an fcgi-program needs."""
    from supervisor.options import ServerOptions

    home = tmp_path / "index"
    found = desired(home, name="lib", workers=3, port=4567, mode=mode, logs={"max_size": "500kB", "keep": 2})
    (home / "logs").mkdir(parents=True)
    (home / "run").mkdir()
    for name, content in files(found).items():
        (home / name).write_bytes(content)
    main = home / "supervisord.conf"
    if mode == "system":
        main.write_text("[supervisord]\n[include]\nfiles = pypi-server.conf\n")
        conf = home / "pypi-server.conf"
        conf.write_text(conf.read_text().replace("user=pypi", ""))  # an account that need not be here
        assert b"user=pypi" in files(found)["pypi-server.conf"]
    options = ServerOptions()
    options.realize(["-c", str(main)])
    (group,) = options.process_group_configs
    assert (group.name, group.socket_config.url) == ("lib", "tcp://127.0.0.1:4567")
    assert [each.name for each in group.process_configs] == ["worker-1", "worker-2", "worker-3"]
    worker = group.process_configs[2]
    assert worker.command == f"{home}/run-pypi.sh"
    ends = {"PPCTL_ENDS_WITH_MANAGER": "1"} if mode == "system" else {}
    assert worker.environment == {"PPCTL_WORKER": "3", "PPCTL_UNIT": found.unit, **ends}
    assert worker.stdout_logfile == f"{home}/logs/worker-3.log"
    assert (worker.stdout_logfile_maxbytes, worker.stdout_logfile_backups) == (500 * 1024, 2)
    assert worker.redirect_stderr and worker.killasgroup and worker.autorestart
    assert worker.stopwaitsecs > 3600
    if mode == "embedded":
        server = next(each for each in options.server_configs if each["section"] == "unix_http_server")
        assert (server["file"], oct(server["chmod"])) == (f"{home}/run/supervisor.sock", "0o700")
        assert options.pidfile == f"{home}/run/supervisord.pid"


@pytest.mark.parametrize("mode", ["embedded", "system"])
def test_systemd_reads_its_units(mode: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    home = tmp_path / "index"
    home.mkdir()
    found = desired(home, "systemd", mode=mode, account="daemon")
    script = home / "run-pypi.sh"
    paths = []
    for file in found.files:
        target = home / file.path.name
        target.write_bytes(file.content.replace(b"Group=pypi", b"Group=nogroup"))
        if file.path.suffix in (".socket", ".service"):
            paths.append(str(target))
    script.chmod(0o755)
    instance = home / "ppctl-pypi@1.service"
    instance.write_bytes((home / "ppctl-pypi@.service").read_bytes())
    paths = [path for path in paths if "@." not in path] + [str(instance)]
    scope = ["--user"] if mode == "embedded" else []
    argv = [analyze, *scope, "verify", "--man=no", *paths]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    complaints = [line for line in done.stderr.splitlines() if str(home) in line or "ppctl-pypi" in line]
    if done.returncode and not complaints:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()[:100]}")
    assert complaints == []


def test_systemd_hands_over_the_socket_as_descriptor_0() -> None:
    units = files(desired(manager="systemd", port=4000, workers=3))
    assert b"ListenStream=127.0.0.1:4000\n" in units["ppctl-pypi.socket"]
    assert b"StandardInput=socket\n" in units["ppctl-pypi@.service"]
    assert (
        b"Wants=ppctl-pypi@1.service ppctl-pypi@2.service ppctl-pypi@3.service\n"
        in units["ppctl-pypi.service"]
    )
    assert b"ListenStream=[::1]:3141\n" in files(desired(manager="systemd", host="::1"))["ppctl-pypi.socket"]


def test_supervisor_has_no_ipv6() -> None:
    with pytest.raises(UsageError, match="host: supervisor cannot listen on IPv6") as caught:
        desired(host="::1")
    assert "manager: systemd" in caught.value.hint


def test_links() -> None:
    def links(**values: Any) -> dict[str, str]:
        return {str(link.path): link.target for link in desired(**values).links}

    assert links() == {"/etc/ppctl/indexes/pypi": str(HOME)}
    assert links(mode="system")["/etc/supervisor/conf.d/ppctl-pypi.conf"] == f"{HOME}/pypi-server.conf"
    units = "/etc/systemd/system"
    assert links(mode="system", manager="systemd") == {
        "/etc/ppctl/indexes/pypi": str(HOME),
        f"{units}/sockets.target.wants/ppctl-pypi.socket": f"{units}/ppctl-pypi.socket",
        f"{units}/multi-user.target.wants/ppctl-pypi.service": f"{units}/ppctl-pypi.service",
    }


def test_no_redirect_unless_asked() -> None:
    assert b'"upstream_url": null' in files(desired())["server.json"]
    redirected = files(desired(upstream="redirect", upstream_url="https://mirror/simple/"))
    assert b'"upstream_url": "https://mirror/simple/"' in redirected["server.json"]
