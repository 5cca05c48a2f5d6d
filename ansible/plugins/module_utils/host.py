# Copyright: the ppctl authors. MIT license (see LICENSE)
"""What a host has of what ppctl needs."""

from __future__ import annotations

import os
import stat

# Documented in doc_fragments/installation.py.
INSTALLATION = {
    "path": {"type": "path", "default": "/opt/ppctl"},
    "link": {"type": "path", "default": "/usr/local/bin/ppctl"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
}
LOOK = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "digest": {"type": "str", "default": ""},
    "drop_ins": {"type": "dict", "default": {}},
}


def missing_packages(module, names):
    """Return those packages that are not installed, asked of the host's own package database."""
    if not names:
        return []
    query = module.get_bin_path("dpkg-query")
    if query:
        _code, out, _err = module.run_command(
            [query, "--show", "--showformat=${Status} ${Package}\n", *names]
        )
        there = {
            line.rpartition(" ")[2] for line in out.splitlines() if line.startswith("install ok installed ")
        }
        return [name for name in names if name not in there]
    rpm = module.get_bin_path("rpm")
    if rpm:
        return [
            name for name in names if module.run_command([rpm, "--query", "--whatprovides", name])[0] != 0
        ]
    return module.fail_json(msg="this host has neither dpkg nor rpm: its packages cannot be looked at")


def outdated_drop_ins(files):
    """Return the paths of those drop-ins that are not there as they are to be; without systemd none."""
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return []
    return [path for path in sorted(files) if not _is_as_wanted(path, files[path])]


def _is_as_wanted(path, text):
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            found = file.read()
    except (OSError, ValueError):
        return False
    mine = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o644
    return mine and found == text


def is_installed(wanted):
    """Return whether the wanted ppctl is there, whole, and is the one that is called."""
    path = os.path.join(wanted["path"], wanted["digest"][:12])
    links = {os.path.join(wanted["path"], "current"): os.path.basename(path)}
    links[wanted["link"]] = os.path.join(wanted["path"], "current", "bin", "ppctl")
    right = all(os.path.islink(link) and os.readlink(link) == to for link, to in links.items())
    return right and os.path.exists(os.path.join(path, "complete"))
