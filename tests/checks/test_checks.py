"""Every check: what it finds when something is wrong, and that it is silent when nothing is."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ppctl import audit, checks
from ppctl.checks.base import Check, Finding, Severity, Subject
from ppctl.deployment import read_manifest
from ppctl.errors import PpctlError
from ppctl.host import Completed, FileSystem
from ppctl.managers import Pending, Process
from ppctl.server import permissions
from ppctl.server.known import serialise
from ppctl.server.permissions import Permissions, Rights, Token
from ppctl.workers import CacheReport
from tests.checks.examples import NOW, OWN_PACKAGES, STRONG, USER_HOME, Example, healthy, under_systemd

SYSTEM = True
SUPERVISORD = (sys.executable, "-m", "supervisor.supervisord")
P, W, S = Severity.PROBLEM, Severity.WARNING, Severity.SKIPPED


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of this user's is on the machine in memory."""
    monkeypatch.setenv("HOME", str(USER_HOME))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def found(example: Example, check: str) -> list[Finding]:
    chosen = next(each for each in checks.CHECKS if each.name == check)
    return checks.make(chosen, example.subject())


@pytest.mark.parametrize(
    "example",
    [healthy, lambda: healthy(system=True), lambda: under_systemd(system=True)],
    ids=["embedded", "system", "systemd"],
)
def test_nothing_is_wrong_with_a_healthy_index(example: Callable[[], Example]) -> None:
    findings = checks.examine(example().subject())
    assert [f for f in findings if f.severity is not Severity.OK] == []
    assert len(findings) > 25


def test_a_token_that_was_made_for_a_day_is_not_warned_of_all_day() -> None:
    warned = []
    for left in (20, 7, 5):
        example = healthy()
        _token(created=NOW - (24 - left) * 3600, expires=NOW + left * 3600)(example)
        warned.append(any(f.severity is W for f in found(example, "tokens")))
    assert warned == [False, False, True]


@dataclass(frozen=True)
class Case:
    """Something that breaks a healthy index, and what the check of that name then says."""

    check: str
    breaks: Callable[[Example], object]
    severity: Severity
    says: str
    mend: str
    system: bool = False


def _put(name: str, content: str = "", mode: int = 0o640) -> Callable[[Example], object]:
    return lambda e: e.host.put(e.layout.home / name, content, mode=mode, owner=e.index.owner)


def _mode(name: str, mode: int) -> Callable[[Example], object]:
    return lambda e: e.host.set_attributes(e.layout.home / name, mode=mode)


def _link(path: str, target: str) -> Callable[[Example], object]:
    def make(e: Example) -> None:
        where = e.layout.home / path
        e.host.make_directory(where.parent, mode=0o755)
        e.host.link(where, target)

    return make


def _answer(*argv: str, out: str = "", code: int = 0, err: str = "") -> Callable[[Example], object]:
    return lambda e: e.host.answer(*argv, by=Completed(code, out, err))


def _find(word: str, path: str) -> Callable[[Example], object]:
    """Let find(1) list `path` when `word` is in its expression."""

    def break_(e: Example) -> None:
        e.host.answer("env", by=lambda run: f"{e.layout.home}/{path}\0" if word in run.argv else "")
        del e.host._answers["env", "--chdir=/"]

    return break_


def _not_writable(e: Example) -> None:
    """The account may enter every directory and write into none."""
    e.host.answer("env", "--chdir=/", by=lambda run: "" if "-writable" in run.argv else f"{run.argv[-5]}\0")


def _closed(e: Example) -> None:
    """The account may not enter the directory above the home."""
    closed = e.layout.home.parent
    e.host.answer(
        "env", "--chdir=/", by=lambda run: "" if "-writable" in run.argv or str(closed) in run.argv else "x\0"
    )


def _disk(**values: object) -> Callable[[Example], object]:
    room = FileSystem(2**40, 2**39, 1000, 500)
    return lambda e: e.host.file_systems.update({e.layout.home: replace(room, **values)})  # type: ignore[arg-type]


def _mounted(**values: object) -> Callable[[Example], object]:
    """A disk of its own for the packages, without a link."""
    disk = replace(FileSystem(2**40, 2**39, 1000, 500, device=1), **values)  # type: ignore[arg-type]
    return lambda e: e.host.file_systems.update({e.layout.packages: disk})


def _another_index(port: int, host: str = "127.0.0.1") -> Callable[[Example], object]:
    def make(e: Example) -> None:
        e.host.put("/srv/other/ppctl.yml", f"name: other\nport: {port}\nhost: {host}\n")
        e.host.link(USER_HOME / ".config/ppctl/indexes/other", "/srv/other")

    return make


def _distribution(name: str) -> Callable[[Example], object]:
    return lambda e: e.host.put(
        e.layout.releases / e.release / f"lib/python3.11/site-packages/{name}.dist-info/METADATA"
    )


def _report(number: int, **values: str) -> Callable[[Example], object]:
    def change(e: Example) -> None:
        path = e.layout.worker_socket(number)
        e.probe.reports[path] = replace(e.probe.reports[path], **values)  # type: ignore[arg-type]

    return change


def _silent(e: Example) -> None:
    del e.probe.reports[e.layout.worker_socket(2)]


def _wrong(e: Example) -> None:
    e.probe.wrong[e.layout.worker_socket(1)] = "/health answers 500"


def _supervisord_down(e: Example) -> None:
    e.manager.all = []
    _systemd(ActiveState="inactive")(e)


def _silent_without_supervisord(e: Example) -> None:
    _supervisord_down(e)
    _silent(e)


def _unfinished(e: Example) -> None:
    """What a first `up` leaves that fails while the release is built."""
    e.probe.reports.clear()
    for path in (e.layout.current, *read_manifest(e.host, e.layout).paths):
        e.host.remove(path)


def _manager(**values: object) -> Callable[[Example], object]:
    return lambda e: [setattr(e.manager, name, value) for name, value in values.items()]


def _systemd(**properties: str) -> Callable[[Example], object]:
    def make(e: Example) -> None:
        e.host.make_directory(Path("/run/systemd/system"), mode=0o755)
        shown = {"LoadState": "loaded", "UnitFileState": "enabled", "RestartUSec": "100ms", **properties}
        e.host.answer("systemctl", "show", by="\n".join(f"{k}={v}" for k, v in shown.items()))

    return make


def _taken(*names: str, **values: object) -> Callable[[Example], object]:
    def breaks(e: Example) -> None:
        e.change(**values)
        e.elsewhere = frozenset({*names, "numpy"})

    return breaks


def _cached(problem: str | None) -> Callable[[Example], object]:
    def breaks(e: Example) -> None:
        manifest = read_manifest(e.host, e.layout)
        (running,) = manifest.deployments
        cached = replace(manifest, deployments=(replace(running, cache=True),))
        e.host.write(e.layout.manifest, cached.to_bytes(e.layout.home), mode=0o640)
        if problem is not None:
            e.probe.cached = CacheReport(9, "g", "r", NOW, 0, 1, "http://h/", problem)

    return breaks


def _settings(**values: object) -> Callable[[Example], object]:
    return lambda e: e.change(**values)


def _directory_for_file(e: Example) -> None:
    e.host.remove(e.layout.server_config)
    e.host.make_directory(e.layout.server_config, mode=0o755)


def _file_from_the_future(e: Example) -> None:
    e.host.nodes[e.layout.htpasswd].mtime = NOW + 600


def _grown_log(e: Example) -> None:
    e.host.put(e.layout.worker_log(1), b"x" * 13 * 1024)
    e.change(logs={"max_size": "10kB"})


def _lost_python(e: Example) -> None:
    e.host.remove(Path("/opt/python/bin/python3.11"))


def _foreign_home(e: Example) -> None:
    e.host.nodes[e.layout.home].owner = "somebody"


def _roots_own(e: Example) -> None:
    e.host.root, e.host._user = True, "root"
    e.host.nodes[e.layout.home].owner = "root"


def _owned_by_account(e: Example) -> None:
    e.host.set_attributes(e.layout.run_script, mode=0o750, owner="pypi")


def _foreign_release(e: Example) -> None:
    e.host.nodes[e.layout.releases / e.release].owner = "pypi"


def _broken_release(e: Example) -> None:
    python = str(e.layout.releases / e.release / "bin" / "python")
    e.host.answer(python, "-I", "-c", by=Completed(1, "", "ImportError: bcrypt"))


def _htpasswd(text: str) -> Callable[[Example], object]:
    return _put("htpasswd", text)


def _missing_name(e: Example) -> None:
    e.host.put(e.layout.names_copy, serialise(["foo", "gone"]).decode())


def _lost_names(e: Example) -> None:
    e.host.put(e.layout.names_lost)
    e.change(upstream="redirect", private=["corp-*"])


def _refused(count: int) -> Callable[[Example], object]:
    """So many refused logins in the last hour, three of four from one address, and as many before it."""

    def line(number: int, seconds: float) -> str:
        time = datetime.fromtimestamp(NOW - seconds, timezone.utc).strftime(audit.TIME)
        by = "192.0.2.6" if number % 4 else "192.0.2.7"
        said = {"time": time, "by": by, "action": "login", "user": "?", "detail": "x", "failed": True}
        return json.dumps(said) + "\n"

    lines = [line(number, seconds) for seconds in (4000, 3000) for number in range(count)]
    return _put("run/refused-logins.log", "".join(lines) + "garbage\n")


def test_a_few_refused_logins_are_everyday() -> None:
    example = healthy()
    _refused(199)(example)
    assert [f.severity for f in found(example, "logins")] == [Severity.OK]


def test_without_another_index_no_name_can_be_lost() -> None:
    example = healthy()
    example.host.put(example.layout.names_lost)
    assert [f.severity for f in found(example, "names")] == [Severity.OK]


def _granted(user: str) -> Callable[[Example], object]:
    rights = {user: Rights(read=True)}
    return _put("permissions.json", permissions.serialise(Permissions(rights)).decode())


def _moot(e: Example) -> None:
    _granted("ann")(e)
    e.change(login=[])


def _token(
    user: str = "ci", expires: float | None = None, created: float = NOW - 90 * 86400
) -> Callable[[Example], object]:
    token = Token("ci", user, "0" * 64, Rights(upload=("team-*",)), created=created, expires=expires)
    return _put("permissions.json", permissions.serialise(Permissions({}, {"ci": token})).decode())


HOME = f"{USER_HOME}/pypi"
UP = f"ppctl up -C {HOME}"
CASES = [
    Case("settings", _settings(host="::1"), P, "supervisor cannot listen on IPv6", "use an IPv4 address"),
    Case("shared-port", _another_index(3141), P, "the index other in /srv/other has port 3141 too", "set an"),
    Case("shared-port", _another_index(3141, "0.0.0.0"), P, "has port 3141 too", f"then: {UP}"),
    Case("user", _foreign_home, W, "belongs to somebody, and you are operator", "sudo -u somebody ppctl"),
    Case("user", _roots_own, W, "its workers run as root", "set `mode: system`"),
    Case("access", _settings(host="0.0.0.0"), W, "may list and download packages", "add list, download"),
    Case("access", _settings(host="0.0.0.0", login=[]), P, "may upload packages", "add `upload` to `login`"),
    Case("access", _settings(public_url="https://pypi.example.com"), W, "may list and download", "add list"),
    Case("tls", _settings(host="192.0.2.1"), W, "passwords travel in clear", "set `public_url: https"),
    Case("tls", _settings(public_url="http://pypi.example.com"), W, "in clear", "reverse proxy with TLS"),
    Case("upstream", _settings(upstream="redirect"), W, "dependency confusion", "`private: [corp-*]`"),
    Case("names", lambda e: e.host.remove(e.layout.names), P, "ever here is gone", "from a backup, or move"),
    Case("names", _put("packages/.ppctl-names", "x"), P, ".ppctl-names: broken: not a file", "ppctl restart"),
    Case("names", _missing_name, W, "were here are missing in it (1): gone", "packages forget -C"),
    Case("names", _lost_names, W, "and may come from https://pypi.org/simple/", "names-lost"),
    Case(
        "logins",
        _refused(200),
        W,
        "200 logins were refused in the last hour, 150 of them from 192.0.2.6",
        "--logins",
    ),
    Case("logins", _refused(300), W, "for names of nobody: somebody guesses", "audit -C"),
    Case(
        "elsewhere", _taken("foo"), W, "foo is here and at https://pypi.org/simple/", "ask this index alone"
    ),
    Case(
        "elsewhere",
        _taken(*(f"corp-{letter}" for letter in "abcdefg"), private=["Corp.*", "corp-a", "xyz"]),
        W,
        "private by Corp.*, never here, and at https://pypi.org/simple/ somebody's (7): "
        "corp-a, corp-b, corp-c, corp-d, corp-e and 2 more",
        "do not use these names",
    ),
    Case("cache", _cached(None), P, "cache.sock: it does not answer", "ppctl logs"),
    Case("cache", _cached("h answers 500"), W, "upstream_url: the other index: h answers 500", ""),
    Case("links", _link("releases/current", "gone"), P, "releases/current: dangling link: gone", UP),
    Case("links", lambda e: e.host.remove(e.layout.run_script), P, "run-pypi.sh: is gone", UP),
    Case(
        "registers", _link("../.config/ppctl/indexes/old", "/gone"), W, "no index any more at /gone", "rm /"
    ),
    Case("client-links", _link("../.pypirc", f"{HOME}/client/pypirc"), W, "dangling link", "rm /home"),
    Case("client-links", _put("client/pypirc", mode=0o644), W, "others may read it", "chmod 600 /"),
    Case("modes", _mode("htpasswd", 0o644), P, "htpasswd: mode 0644: others may read", "chmod o-r /home"),
    Case("modes", _mode("ppctl.yml", 0o662), P, "may change the settings", "chmod g-w,o-w /home"),
    Case("modes", _mode("", 0o777), P, "others may replace every file in it", f"chmod g-w,o-w {HOME}"),
    Case("modes", _mode("run", 0o755), P, "control sockets", f"chmod g-rx,o-rx {HOME}/run"),
    Case("modes", _mode(".manifest.json", 0o646), P, "which files ppctl removes", "chmod o-w /home"),
    Case("modes", _mode("packages", 0o777), P, "everybody on this machine may add", "chmod o-w /home"),
    Case("parents", _mode("..", 0o777), P, "something else in the home's place", f"chmod o-w {USER_HOME}"),
    Case("leftovers", _put(".ppctl.yml.4711.tmp"), W, "ppctl that was killed: /home", f"rm {HOME}/.ppctl"),
    Case("half-built", _put("releases/2.4-x/bin/python"), W, "releases/2.4-x: a release that was never", UP),
    Case("logs", _grown_log, W, "worker-1.log: has 0 MB and is not rotated", "truncate --size=0 /home"),
    Case("htpasswd", _htpasswd(f"a:{STRONG}\n\nnonsense\n#\n:x\n"), W, "line 3, 5", "sed -i '3d;5d' /home"),
    Case("htpasswd", _htpasswd(f"a:{STRONG}\nb:x\na:y\n"), W, "a is given 2 times (lines 1, 3)", "passwd"),
    Case("htpasswd", _htpasswd(f"a:{STRONG}\n\0\0"), P, "damaged", "sed -i 's/\\x00//g' /home"),
    Case("htpasswd", _link("htpasswd", "users"), P, "is a link to users", "cp --remove-destination users"),
    Case(
        "passwords", _htpasswd("ann:{SHA}abc\n"), W, "password of ann is stored with a weak hash: sha1", "ann"
    ),
    Case("passwords", _htpasswd("ann:$apr1$a$b\n"), W, "apr1", f"ppctl passwd -C {HOME} ann"),
    Case("passwords", _htpasswd("-x:$apr1$a$b\n"), W, "-x", f"ppctl passwd -C {HOME} -- -x"),
    Case("passwords", _htpasswd("ann:$2y$04$" + "a" * 53), W, "bcrypt of a low cost", "passwd"),
    Case("passwords", _htpasswd("ann:secret\n"), P, "stored as plain text", "passwd"),
    Case("passwords", _htpasswd("ann:$9$x\n"), W, "ann cannot log in", "passwd"),
    Case("permissions", _put("permissions.json", "{}"), P, "damaged: not a file of permissions", "restore"),
    Case("permissions", _granted("gone"), W, "permissions of users who are no more: gone", "-- gone"),
    Case("permissions", _moot, W, "uploads need no login", "add `upload` to `login`"),
    Case("tokens", _token(user="gone"), W, "the token ci is refused: its user gone is", "token revoke -C"),
    Case("tokens", _token(expires=NOW - 1), W, "the token ci ended on", "token revoke -C"),
    Case("tokens", _token(expires=NOW + 13 * 86400), W, "the token ci of ci ends on", "--upload 'team-*'"),
    Case("users", _htpasswd("# nobody\n"), W, "there is no user, so nobody can: upload", "adduser"),
    Case("users", _htpasswd(f"ann:!{STRONG}\n"), W, "every user is disabled", f"enable -C {HOME} ann"),
    Case("users", lambda e: e.host.remove(e.layout.htpasswd), S, "there is no htpasswd", UP),
    Case(
        "release", _lost_python, P, "links to /opt/python/bin/python3.11, which is gone", "/release.json &&"
    ),
    Case("release", _broken_release, P, "the release does not work:\nImportError: bcrypt", f"&& {UP} &&"),
    Case("passlib", _distribution("passlib-1.7.4"), P, "overwrite each other's files", "/release.json && "),
    Case("supervisor", _answer(*SUPERVISORD, out="4.2.4\n"), P, "4.2.4 is too old", "--upgrade"),
    Case(
        "supervisor",
        _answer(*SUPERVISORD, code=1, err="ModuleNotFoundError: No module named 'pkg_resources'"),
        P,
        "needs pkg_resources",
        "supervisor>=4.3",
    ),
    Case("supervisor", _answer(*SUPERVISORD, code=1, err="x\nboom"), P, "does not run: boom", "install"),
    Case("manager", _manager(all=[]), P, "without it still run (pid 101, 102)", UP),
    Case("manager", _manager(all=[Process(1, "running"), Process(2, "stopped")]), P, "2 is stopped", "start"),
    Case(
        "manager",
        _manager(all=[Process(1, "running"), Process(2, "failed", 0, 0, "no fd")]),
        P,
        "(no fd)",
        UP,
    ),
    Case("manager", _manager(all=[Process(n, "running") for n in (1, 2, 3)]), W, "more workers", UP),
    Case("manager", _manager(error=PpctlError("no bus", "log in")), P, "no bus", "log in"),
    Case("workers", _silent, P, "worker 2: it does not answer", UP),
    Case("workers", _wrong, P, "worker 1: /health answers 500", f"restart -C {HOME} --worker 1"),
    Case("workers", _report(1, release="2.3"), W, "worker 1 still runs the release 2.3; the current", UP),
    Case("workers", _report(1, generation="old"), W, "worker 1 still runs older settings", UP),
    Case(
        "workers", lambda e: setattr(e, "answers", lambda *_: "refused"), P, ":3141 does not answer: ref", UP
    ),
    Case("workers", lambda e: e.host.remove(e.layout.manifest), P, "the index is not up", UP),
    Case("workers", _unfinished, P, "the first `up` was not finished", UP),
    Case("links", _unfinished, S, "the index is not up", UP),
    Case("drift", lambda e: e.host.remove(e.layout.manifest), S, "the index is not up", UP),
    Case("drift", _settings(port=3142), W, "`up` would: update", UP),
    Case("drift", _put("server.json", "{}"), W, "update /home/operator/pypi/server.json", UP),
    Case("drift", _manager(wants=Pending("start what does not run")), W, "start what does not run", UP),
    Case("drift", _directory_for_file, P, "a file must be here, and this is a directory", "move it away"),
    Case("disk", _disk(free=2**39 // 10), W, "(5%)", "make room"),
    Case("disk", _disk(free=2**30), P, "only 1024 MiB of the disk are free (0%)", "make room"),
    Case("disk", _disk(size=2**32, free=2**30 - 1), W, "only 1023 MiB", "make room"),
    Case("disk", _disk(size=2**28, free=2**26), P, "only 64 MiB", "du -xh /home"),
    Case("disk", _mounted(free=0), P, "only 0 MiB", "/pypi/packages/"),
    Case("disk", _disk(inodes_free=50), W, "only 50 inodes", "--inodes"),
    Case("disk", _disk(inodes_free=5), P, "only 5 inodes", "--inodes"),
    Case("mount", _disk(no_exec=True), P, "noexec", 'sudo mount -o remount,exec "$(findmnt'),
    Case("mount", _disk(read_only=True), P, "read-only", "remount,rw"),
    Case("clock", _file_from_the_future, W, "10 minutes behind the newest files: /home", "timedatectl"),
    Case("packages", _not_writable, P, "the account operator cannot write here", "chmod u+rwx /home"),
    Case("packages", _closed, P, "operator cannot enter /home/operator", "chmod o+x /home/operator"),
    Case("packages", lambda e: e.host.remove_tree(e.layout.packages), P, "is gone", UP),
    Case(
        "package-files",
        _find("-readable", "packages/a"),
        P,
        "account operator cannot read (1): a",
        "chmod -R u+rX",
    ),
    Case(
        "package-files",
        _find("-user", "packages/d/b"),
        W,
        "not belong to the account operator (1): d/b",
        "chown -R",
    ),
    Case(
        "uploads",
        _find("-path", "packages/.ppctl-upload-1/content"),
        W,
        "broken uploads take room",
        "-mmin +60 -delete",
    ),
    # The machine's index.
    Case(
        "registers", _link("/etc/supervisor/conf.d/old.conf", "/gone"), W, "dangling link", "rm /etc", SYSTEM
    ),
    Case("modes", _owned_by_account, P, "belongs to pypi instead of root", "chown root /srv", SYSTEM),
    Case("release", _foreign_release, P, "belongs to pypi instead of root, so", "chown -R root", SYSTEM),
    Case("supervisor", _answer("/usr/bin/supervisord", out="3.4.0"), P, "3.4.0 is too old", "apt", SYSTEM),
    Case("boot", _systemd(RestartUSec="50s"), W, "waits 50s", "daemon-reload", SYSTEM),
    Case("boot", _systemd(UnitFileState="disabled"), W, "not started at boot", "systemctl enable", SYSTEM),
    Case("workers", _silent_without_supervisord, P, "does not answer", "systemctl start supervisor", SYSTEM),
    Case("manager", _supervisord_down, P, "does not run", "systemctl start supervisor.service", SYSTEM),
    Case("packages", _not_writable, P, "the account pypi cannot write", "chmod u+rwx /srv", SYSTEM),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}: {case.says[:30]}")
def test_what_is_wrong_is_found(case: Case) -> None:
    example = healthy(system=case.system)
    assert [f.severity for f in found(example, case.check)] in ([], [Severity.OK])

    case.breaks(example)

    findings = found(example, case.check)
    texts = [f"{f.where}: {f.message}" for f in findings]
    matching = [f for f, text in zip(findings, texts, strict=True) if case.says in text]
    assert matching, texts
    assert matching[0].severity is case.severity
    assert matching[0].check == case.check
    assert case.mend in matching[0].mend


def test_every_check_has_a_case() -> None:
    tested = {case.check for case in CASES} | {"port"}  # below, with a real port
    assert {check.name for check in checks.CHECKS} == tested
    assert len({check.name for check in checks.CHECKS}) == len(checks.CHECKS)


def test_port_taken_by_somebody_else(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        ours = healthy(port=free_port)
        assert [f.severity for f in found(ours, "port")] == [Severity.OK]  # the manager has it open
        ours.manager.has_socket = False
        assert [f.severity for f in found(ours, "port")] == [Severity.OK]  # its workers answer
        ours.probe.reports.clear()
        [finding] = found(ours, "port")
        assert finding.severity is Severity.PROBLEM
        assert f"127.0.0.1:{free_port} is taken by" in finding.message
        assert "another port" in finding.mend
    assert [f.severity for f in found(ours, "port")] == [Severity.OK]


def test_what_lies_in_the_working_directory_is_not_taken_for_supervisor() -> None:
    example = healthy()
    assert [f.severity for f in found(example, "supervisor")] == [Severity.OK]
    (run,) = [run for run in example.host.runs if "supervisor.supervisord" in run.argv]
    assert (run.env or {}).get("PYTHONSAFEPATH") == "1"


def test_root_who_looks_at_somebodys_index_runs_nothing_of_it() -> None:
    """Neither the Python that its ppctl.yml names, nor that of its release: they may be anything."""
    example = healthy(server={"python": "/home/operator/python"})
    assert [f.severity for f in found(example, "release")] == [Severity.OK]
    example.host.root, example.host._user = True, "root"
    example.host.runs.clear()
    [settings] = found(example, "settings")
    assert "server.python: root does not run what operator has written there" in settings.message
    assert settings.mend.endswith("sudo -u operator ppctl ...")
    [release] = found(example, "release")
    assert (release.severity, release.message) == (
        Severity.SKIPPED,
        "root does not run what belongs to operator",
    )
    found(example, "drift")
    assert not [run for run in example.host.runs if run.argv[0].startswith(("/home", str(HOME)))]


def test_of_an_index_that_was_never_up_it_is_not_said_that_its_packages_are_gone() -> None:
    example = healthy()
    example.host.remove_tree(example.layout.packages)
    assert [finding.message for finding in found(example, "packages")] == ["the packages directory is gone"]
    example.host.remove(example.layout.manifest)
    assert found(example, "packages") == []


def test_after_a_first_up_that_failed_there_is_one_thing_to_do() -> None:
    example = healthy()
    _unfinished(example)
    findings = checks.examine(example.subject())
    assert [f.mend for f in findings if f.severity is Severity.PROBLEM] == [f"ppctl up -C {HOME}"]
    assert "the index is not up" in {f.message for f in findings if f.severity is Severity.SKIPPED}


def test_clock_before_ppctl() -> None:
    subject = replace_now(healthy().subject(), 1_000_000_000.0)
    check = next(each for each in checks.CHECKS if each.name == "clock")
    [finding] = checks.make(check, subject)
    assert (finding.severity, finding.message) == (Severity.PROBLEM, "the clock says 2001-09-09")


def replace_now(subject: Subject, now: float) -> Subject:
    return Subject(subject.index, subject.machine, now)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("passlib-1.7.4", "bcrypt-5.0.0"), "fails with bcrypt 5.0.0"),
        (("passlib-1.7.4", "bcrypt-4.0.1"), ""),
        (("passlib-1.7.4", "libpass-1.9.4", "bcrypt-5.0.0"), "overwrite each other's files"),
        (("libpass-1.9.4",), "without bcrypt"),
        (("libpass-1.9.4", "bcrypt-5.0.0"), ""),
        (("libpass-1.9.4", "BCrypt-4.3.0"), ""),
    ],
)
def test_passlib_in_the_release_and_beside_ppctl(names: tuple[str, ...], says: str) -> None:
    example = healthy()
    release = example.layout.releases / example.release / "lib" / "python3.11" / "site-packages"
    for directory in (OWN_PACKAGES, release):
        example.host.remove_tree(directory)
        for name in names:
            example.host.put(directory / f"{name}.dist-info" / "METADATA")
    findings = found(example, "passlib")
    if not says:
        assert [f.severity for f in findings] == [Severity.OK]
        return
    assert [says in f.message for f in findings] == [True, True]
    assert "ppctl's own" in findings[0].where and " pip " in findings[0].mend
    assert findings[1].where == str(release) and "release.json" in findings[1].mend


def test_a_users_systemd_must_outlive_the_login() -> None:
    example = under_systemd(system=False)
    example.host.answer("loginctl", by="Linger=yes\n")
    assert [f.severity for f in found(example, "boot")] == [Severity.OK]
    example.host.answer("loginctl", by=Completed(1, "", "not logged in"))
    [finding] = found(example, "boot")
    assert finding.mend == "sudo loginctl enable-linger operator"


@pytest.mark.parametrize(
    ("span", "expected"),
    [("50s", 50), ("1min 30s", 90), ("100ms", 0.1), ("2h", 7200), ("infinity", 0), ("", 0)],
)
def test_systemds_time_spans(span: str, expected: float) -> None:
    from ppctl.checks.programs import seconds

    assert seconds(span) == pytest.approx(expected)


def test_only_root_can_try_what_the_account_may_do() -> None:
    example = healthy(system=True)
    example.host.root, example.host._user = False, "operator"
    for check in ("packages", "package-files", "uploads"):
        [finding] = found(example, check)
        assert finding.severity is Severity.SKIPPED
        assert "the account pypi" in finding.message
        assert finding.mend == "sudo ppctl doctor -C /srv/pypi"


def test_the_account_is_tried_with_its_own_rights() -> None:
    example = healthy(system=True)
    found(example, "packages")
    argv = example.host.runs[-1].argv
    assert argv[:6] == (*("env", "--chdir=/", "setpriv", "--reuid=pypi", "--regid=pypi", "--init-groups"),)
    assert argv[6:] == (
        "find",
        "-H",
        "/srv/pypi/packages",
        "-maxdepth",
        "0",
        "-writable",
        "-executable",
        "-print0",
    )


def test_a_check_that_fails_does_not_stop_the_others() -> None:
    def crash(_subject: Subject) -> list[Finding]:
        raise ZeroDivisionError("secret")

    def half(_subject: Subject):  # type: ignore[no-untyped-def]
        yield Finding(Severity.WARNING, "found before")
        raise PpctlError("no permission", "use sudo")

    wrong = (Check("crash", "", crash), Check("half", "", half), *checks.CHECKS[:3])
    findings = checks.examine(healthy().subject(), wrong)
    assert [(f.check, f.severity) for f in findings[:3]] == [
        ("crash", Severity.SKIPPED),
        ("half", Severity.WARNING),
        ("half", Severity.SKIPPED),
    ]
    assert "ZeroDivisionError" in findings[0].message and "secret" not in findings[0].message
    assert (findings[2].message, findings[2].mend) == ("no permission", "use sudo")
    assert [f.severity for f in findings[3:]] == [Severity.OK] * 3


def test_an_index_that_is_closed_to_this_user_is_neither_gone_nor_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = healthy()
    _another_index(3141)(example)
    stat = example.host.stat

    def closed(path: Path) -> object:
        if path == Path("/srv/other/ppctl.yml"):
            raise PpctlError(f"{path}: cannot look at it: Permission denied") from PermissionError()
        return stat(path)

    monkeypatch.setattr(example.host, "stat", closed)
    for check in ("registers", "shared-port"):
        assert [f.severity for f in found(example, check)] == [Severity.OK]


def test_checks_change_nothing() -> None:
    for system in (False, True):
        example = healthy(system=system)
        before = example.host.snapshot()
        checks.examine(example.subject())
        assert example.host.snapshot() == before
