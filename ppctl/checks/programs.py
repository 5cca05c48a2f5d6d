"""Checks of the programs: the release that the workers run, its libraries, supervisor."""

from __future__ import annotations

import re
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ppctl import pythons, releases
from ppctl.checks.base import CannotCheck, Finding, NotApplicable, Subject, follow, problem, warning
from ppctl.errors import PpctlError
from ppctl.host import Host, is_trusted
from ppctl.managers import systemd
from ppctl.server.spelling import normal
from ppctl.settings import ManagerName

OLDEST_SUPERVISOR = (4, 2, 5)
SYSTEM_UNITS = ("supervisor.service", "supervisord.service")  # Debian, the RHEL family
SYSTEM_PROGRAMS = (Path("/usr/bin/supervisord"), Path("/usr/local/bin/supervisord"))
RESTART_SECONDS = 10.0
# Also written by the role ppctl_host. Without the limit systemd would give up after five tries.
DROP_IN = "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nRestart=on-failure\nRestartSec=1\n"
TIMEOUT = 20.0
_SPAN = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def release(subject: Subject) -> Iterator[Finding]:
    """The current release is whole, its Python is there, and the server can be imported."""
    host, path = subject.host, subject.release
    python = path / "bin" / "python"
    owner = getattr(host.stat(path), "owner", "")
    if not subject.index.is_system and not is_trusted(host, owner):
        as_owner = f"sudo -u {owner} {subject.ppctl('doctor')}"
        raise CannotCheck(f"{host.user()} does not run what belongs to {owner}", as_owner)
    if subject.index.is_system and owner != "root":
        # Trying it would run, as root, what somebody else may have written.
        mend = subject.as_root(shlex.join(["chown", "-R", "root", str(path)]))
        yield problem(f"belongs to {owner} instead of root, so it was not tried", where=path, mend=mend)
    elif not host.stat(path / releases.MARKER):
        yield problem("the current release is not whole", where=path, mend=_rebuild(subject))
    elif follow(host, python) is None:
        found = host.stat(python)
        what = f"it links to {found.target}, which is gone" if found else "it is gone"
        yield problem(f"the Python of the current release: {what}", where=python, mend=_rebuild(subject))
    else:
        try:
            releases.check(path, host)
        except PpctlError as e:
            yield problem(e.message.removeprefix(f"{path}: "), where=path, mend=_rebuild(subject))


def _rebuild(subject: Subject) -> str:
    """Return what builds the current release anew: without its marker it counts as half-built."""
    remove = subject.as_root(shlex.join(["rm", "-f", str(subject.release / releases.MARKER)]))
    return f"{remove} && {subject.ppctl('up')} && {subject.ppctl('restart')}"


def passlib(subject: Subject) -> Iterator[Finding]:
    """passlib 1.7.4 cannot work with bcrypt 5; libpass is its maintained fork, of the same import name."""
    own = Path(sysconfig.get_path("purelib"))
    host = subject.host
    mend = f"{_own_pip(host, 'uninstall', 'passlib')}; " + _own_pip(
        host, "install --reinstall", "libpass 'bcrypt>=5,<6'"
    )
    yield from _pair(distributions(own, host), f"{own} (ppctl's own)", mend)
    if subject.deployment:
        for directory in site_packages(subject.release, host):
            yield from _pair(distributions(directory, host), str(directory), _rebuild(subject))


def _pair(found: dict[str, str], where: str, mend: str) -> Iterator[Finding]:
    if "passlib" in found and "libpass" in found:
        yield problem(
            f"passlib {found['passlib']} and libpass {found['libpass']} overwrite each other's files",
            where=where,
            mend=mend,
        )
    elif "passlib" in found and "bcrypt" in found and version(found["bcrypt"]) >= (5,):
        yield problem(
            f"passlib {found['passlib']} fails with bcrypt {found['bcrypt']}: every login would",
            where=where,
            mend=mend,
        )
    elif "libpass" in found and "bcrypt" not in found:
        yield problem("libpass without bcrypt: nobody with a bcrypt hash can log in", where=where, mend=mend)


def site_packages(path: Path, host: Host) -> list[Path]:
    """Return the directories with the packages of the virtualenv at `path`."""
    return [path / "lib" / name / "site-packages" for name in host.list(path / "lib")]


def distributions(directory: Path, host: Host) -> dict[str, str]:
    """Return the versions of the packages installed in `directory`, by normalized name (PEP 503)."""
    found = {}
    for name in host.list(directory):
        if name.endswith(".dist-info"):
            package, _, number = name.removesuffix(".dist-info").partition("-")
            found[normal(package)] = number
    return found


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def supervisor(subject: Subject) -> Iterator[Finding]:
    """Ask the supervisord that is used for its version: that also shows whether it can be imported."""
    if subject.manager is not ManagerName.SUPERVISOR:
        raise NotApplicable
    program = _supervisord(subject)
    # With `-m` Python would look into the working directory first, whoever has put something there.
    safe = {"PYTHONSAFEPATH": "1"}
    done = subject.host.run([*program, "--version"], env=safe, check=False, timeout=TIMEOUT)
    shown, command = done.stdout.strip(), shlex.join(program)
    is_system = subject.index.is_system
    if done.returncode != 0 and "pkg_resources" in done.stderr:
        install = (
            "apt install python3-pkg-resources"
            if is_system
            else _own_pip(subject.host, "install", "'supervisor>=4.3,<5'")
        )
        yield problem(
            "supervisor 4.2 needs pkg_resources of setuptools (below 82), which is not installed",
            where=command,
            mend=subject.as_root(install),
        )
    elif done.returncode != 0 or not version(shown):
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        yield problem(f"supervisord does not run: {said}", where=command, mend=_install(subject))
    elif version(shown) < OLDEST_SUPERVISOR:
        yield problem(
            f"supervisor {shown} is too old: 4.2.5 is the oldest that ppctl works with",
            where=command,
            mend=_install(subject),
        )


def _supervisord(subject: Subject) -> list[str]:
    if not subject.index.is_system:
        return [sys.executable, "-m", "supervisor.supervisord"]
    found = next((str(path) for path in SYSTEM_PROGRAMS if subject.host.stat(path)), None)
    found = found or subject.host.which("supervisord")
    if not found:
        raise CannotCheck("there is no supervisord on this machine", "apt install supervisor")
    return [found]


def _install(subject: Subject) -> str:
    if subject.index.is_system:
        return subject.as_root("apt install supervisor")
    return _own_pip(subject.host, "install --upgrade", "'supervisor>=4.2.5,<5'")


def _own_pip(host: Host, command: str, packages: str) -> str:
    """Return a command line that changes what is installed beside ppctl."""
    uv, python = shlex.quote(pythons.find_uv(host)), shlex.quote(sys.executable)
    return f"{uv} pip {command} --python {python} {packages}"


def boot(subject: Subject) -> Iterator[Finding]:
    """The machine's supervisord starts at boot and comes back soon; a user's systemd outlives the login."""
    if not systemd.is_running(subject.host):
        raise NotApplicable
    if subject.index.is_system and subject.manager is ManagerName.SUPERVISOR:
        yield from _supervisor_unit(subject)
    elif not subject.index.is_system and subject.manager is ManagerName.SYSTEMD:
        yield from _linger(subject)
    else:
        raise NotApplicable


def _supervisor_unit(subject: Subject) -> Iterator[Finding]:
    unit, shown = supervisor_unit(subject.host)
    if shown.get("UnitFileState") == "disabled":
        mend = subject.as_root(f"systemctl enable {unit}")
        yield warning("supervisord is not started at boot", where=unit, mend=mend)
    if late := late_restart(shown):
        drop_in = f"/etc/systemd/system/{unit}.d"
        text = DROP_IN.replace("\n", "\\n")
        script = f"mkdir -p {drop_in} && printf '{text}' > {drop_in}/ppctl.conf && systemctl daemon-reload"
        yield warning(
            late,
            where=f"{unit}: RestartSec",
            mend=script if subject.host.is_root() else f"sudo sh -c {shlex.quote(script)}",
        )


def supervisor_unit(host: Host) -> tuple[str, dict[str, str]]:
    """Return the systemd unit of the machine's supervisord and its properties; '' where there is none."""
    if not systemd.is_running(host):
        return "", {}
    for unit in SYSTEM_UNITS:
        properties = "LoadState,ActiveState,UnitFileState,RestartUSec"
        done = host.run(["systemctl", "show", f"--property={properties}", unit], timeout=TIMEOUT)
        pairs = (line.partition("=") for line in done.stdout.splitlines())
        shown = {key: value for key, _, value in pairs}
        if shown.get("LoadState") == "loaded":
            return unit, shown
    return "", {}


def late_restart(shown: dict[str, str]) -> str:
    """Return what to say when systemd starts a supervisord that died only after a while; "" when soon."""
    span = shown.get("RestartUSec", "")
    if seconds(span) < RESTART_SECONDS:
        return ""
    return f"when supervisord dies, systemd waits {span} before it starts it again"


def seconds(span: str) -> float:
    """Return a time span as systemd shows it (`1min 30s`) in seconds; 0 when it is none."""
    parts = re.findall(r"([\d.]+)(us|ms|s|min|h|d)\b", span)
    return sum(float(number) * _SPAN[unit] for number, unit in parts)


def _linger(subject: Subject) -> Iterator[Finding]:
    user = subject.host.user()
    argv = ["loginctl", "show-user", "--property=Linger", user]
    done = subject.host.run(argv, check=False, timeout=TIMEOUT)
    if done.stdout.strip() != "Linger=yes":
        yield warning(
            f"the index ends when {user} logs out, and does not start at boot",
            where="loginctl",
            mend=f"{'' if subject.host.is_root() else 'sudo '}loginctl enable-linger {user}",
        )
