"""The root file system that all hosts of one Debian suite share (they see it through an overlay).

This file is the recipe: its hash is in the folder's name, so an edit here builds a new base and
leaves the old one to the hosts that run on it.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from shared import HOSTS_DIR, HostsError, locked, remove, run

SUITES = ("bookworm", "trixie")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "procps", "acl"),
    *("python3", "python3-venv", "python3-apt", "rsync", "iproute2", "curl", "ca-certificates"),
    *("logrotate", "supervisor", "nginx-light"),
]

# Timers that would want the internet, and consoles that nobody looks at.
MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("console-getty.service", "getty.target"),
]

FILES = {
    # Set at boot; an empty file is what systemd documents for images.
    "etc/machine-id": "",
    # Hosts are offline: fail at once instead of waiting for a name server.
    "etc/resolv.conf": "",
    "etc/sudoers.d/deploy": "deploy ALL=(ALL) NOPASSWD: ALL\n",
    # One key opens every account: the hosts exist for one test run, on an address nobody else reaches.
    "etc/ssh/sshd_config.d/ppctl.conf": (
        "UseDNS no\nAuthorizedKeysFile .ssh/authorized_keys /etc/ssh/ppctl_authorized_keys\n"
    ),
    "etc/systemd/system.conf.d/ppctl.conf": "[Manager]\nDefaultTimeoutStopSec=10s\n",
    "etc/systemd/journald.conf.d/ppctl.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
    # The offline caches, see offline.py. No recommends: the repository holds what was asked for.
    "etc/apt/sources.list": "deb [trusted=yes] file:/opt/debs ./\n",
    "etc/apt/apt.conf.d/99ppctl": 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n',
    "etc/pip.conf": "[global]\nno-index = true\nfind-links = /opt/wheels\ndisable-pip-version-check = true\n",
    "opt/debs/.keep": "",
    "opt/wheels/.keep": "",
}


def build(suite: str) -> Path:
    """Return the base of `suite`; build it first (about a minute) unless it is there.

    Any number of processes may ask at once: one builds, the others wait for it. An interrupted
    build leaves a `.new` folder which the next one removes.
    """
    base = folder(suite)
    if base.is_dir():
        return base
    with locked(HOSTS_DIR / f"{suite}.lock") as lock:
        if not base.is_dir():
            new = base.with_suffix(".new")
            remove(new)
            bootstrap(suite, new, lock)
            make_it_a_test_host(new)
            new.rename(base)
    return base


def folder(suite: str) -> Path:
    """Return where the base of `suite` is kept, built or not."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return HOSTS_DIR / f"{suite}-{recipe[:12]}"


def bootstrap(suite: str, target: Path, lock: int) -> None:
    """Install Debian into `target`, from the machine's own mirror."""
    without = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        *(f"--aptopt={option}" for option in (*apt_options(), 'APT::Install-Recommends "false"')),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in without),
        "--dpkgopt=force-unsafe-io",
        suite, target, *sources(suite),
        lock=lock,
    )  # fmt: skip


def make_it_a_test_host(root: Path) -> None:
    """Turn a plain Debian in `root` into what a host boots from."""
    # Hosts get their ssh key when they start; the machine's mirror and proxy are none of their business.
    remove(*root.glob("etc/ssh/ssh_host_*"), *root.glob("etc/apt/sources.list.d/*"))
    remove(root / "etc/hostname", root / "etc/apt/apt.conf.d/99mmdebstrap")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "etc/sudoers.d/deploy").chmod(0o440)
    for unit in MASKED:
        mask = root / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    run("useradd", "--root", root, "--create-home", "--shell", "/bin/bash", "deploy")
    # Ansible's `cache_valid_time` looks at this folder's age: fresh, it would never fetch the lists.
    os.utime(root / "var/lib/apt/lists", (86400, 86400))


def sources(suite: str) -> list[str]:
    """Return apt source lines for `suite` at the mirror that this machine uses for Debian itself.

    Apt is asked instead of its files, so both of their formats work. Third-party entries are left
    out: they are in files of their own, and not signed with Debian's keys.
    Raises HostsError when the machine has no Debian entries (PPCTL_HOSTS_MIRROR names a mirror then).
    """
    if not KEYRING.exists():
        raise HostsError(f"{KEYRING} is missing: run molecule/hosts/install-tools")
    mirror = os.environ.get("PPCTL_HOSTS_MIRROR")
    entries = [(mirror, suite)] if mirror else []
    form = "$(SOURCESENTRY) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = "" if mirror else run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    for line in listed.splitlines():
        entry, uri, release, component = line.split()
        file = Path(entry.rpartition(":")[0]).name
        known = re.fullmatch(r"[a-z]+(-updates|-security)?", release)
        if file in ("debian.sources", "sources.list") and known and component == "main":
            entries.append((uri, suite + (known[1] or "")))
    if not entries:
        raise HostsError("apt knows no Debian mirror: set PPCTL_HOSTS_MIRROR to the address of one")
    return [f"deb [signed-by={KEYRING}] {uri} {release} main" for uri, release in dict.fromkeys(entries)]


def apt_options() -> list[str]:
    """Return how this machine's apt reaches its mirror (proxy, checks), in apt.conf's syntax."""
    wanted = re.compile(r"Acquire::(https?|Check-\w+|Retries|ForceIPv\d)\b", re.IGNORECASE)
    lines = run("apt-config", "dump", "--format", '%F "%v";%n', "Acquire").splitlines()
    return [line for line in lines if wanted.match(line) and not line.endswith(' "";')]
