"""What `ppctl doctor` looks at: small functions that take a `Subject` and yield findings.

A check that crashes, or that this user may not make, is a finding of its own and stops no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ppctl.checks import (
    accounts,
    exposure,
    files,
    links,
    names,
    packages,
    processes,
    programs,
    rights,
    storage,
)
from ppctl.checks import settings as settings_checks
from ppctl.checks.base import Check, Finding, NotApplicable, Severity, Subject
from ppctl.errors import PpctlError

DEBUG = "run the command again with PPCTL_DEBUG=1 and report what it prints"

SETTINGS = Check("settings", "ppctl.yml can be read and is valid", settings_checks.valid)

CHECKS: tuple[Check, ...] = (
    SETTINGS,
    Check("port", "the port is free, or this index has it", settings_checks.port),
    Check("shared-port", "no other index on this machine has the same port", settings_checks.shared_port),
    Check("user", "the index runs as the right user", exposure.user),
    Check("access", "nobody gets in from the network without a login", exposure.access),
    Check("tls", "passwords do not travel in clear", exposure.tls),
    Check("upstream", "no name of yours comes from another index by chance", exposure.upstream),
    Check("names", "it is known which names were ever here", names.names),
    Check("elsewhere", "no name of yours is taken in the other index", names.elsewhere),
    Check("links", "every link leads somewhere", links.own),
    Check("registers", "no links of indexes that are gone", links.of_others),
    Check("client-links", "every linked client file is there", links.client_files),
    Check("modes", "only those who should can read and change the files", files.modes),
    Check("parents", "nobody else can move the home away", files.parents),
    Check("leftovers", "no files of an interrupted ppctl", files.leftovers),
    Check("half-built", "every release is whole", files.half_built),
    Check("logs", "the logs are within their limits", files.logs),
    Check("htpasswd", "every line of htpasswd is understood", accounts.lines),
    Check("passwords", "every password hash is strong", accounts.hashes),
    Check("users", "there are users who can log in", accounts.users),
    Check("logins", "few logins were refused in the last hour", accounts.guesses),
    Check("permissions", "what users may do can be read, and counts", rights.permissions),
    Check("tokens", "every token works, and for a while", rights.tokens),
    Check("release", "the current release works", programs.release),
    Check("passlib", "passlib and bcrypt fit together", programs.passlib),
    Check("supervisor", "supervisor is recent enough", programs.supervisor),
    Check("boot", "the manager starts at boot and comes back at once", programs.boot),
    Check("manager", "the manager has every worker running", processes.manager),
    Check("workers", "every worker answers and runs what is on disk", processes.workers),
    Check("cache", "the cache answers and reaches the other index", processes.cache),
    Check("drift", "the index is as ppctl.yml says", settings_checks.drift),
    Check("disk", "there is enough room on the disk", storage.room),
    Check("mount", "the file system allows what is needed", storage.mount),
    Check("clock", "the clock is not behind the files", storage.clock),
    Check("packages", "the workers can store packages", packages.writable),
    Check("package-files", "the workers can read every package", packages.readable),
    Check("uploads", "no rests of broken uploads", packages.leftovers),
)
"""Every check, in the order in which they are made."""


def examine(subject: Subject, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Return what `checks` find; never raises. Checks that do not apply to the index are left out."""
    return [finding for check in checks for finding in make(check, subject)]


def make(check: Check, subject: Subject) -> list[Finding]:
    """Make one check; never raises. Returns one finding at least unless the check does not apply."""
    found: list[Finding] = []
    try:
        for finding in check.function(subject):  # one by one: what was found before a crash is kept
            found.append(replace(finding, check=check.name))
    except NotApplicable:
        return found
    except PpctlError as e:
        return [*found, skipped(check, e.message, e.hint)]
    except Exception as e:
        if os.environ.get("PPCTL_DEBUG"):
            raise
        # Only the type: the text of an unexpected error may hold anything, also a secret.
        return [*found, skipped(check, f"a bug in ppctl: unexpected {type(e).__name__}", DEBUG)]
    return found or [Finding(Severity.OK, check.fine, check=check.name)]


def skip_others(reason: str) -> Iterator[Finding]:
    """Yield a finding for each check that cannot be made when the settings cannot be understood."""
    for check in CHECKS:
        if check is not SETTINGS:
            yield skipped(check, reason)


def skipped(check: Check, reason: str, hint: str = "") -> Finding:
    """Return the finding for a check that could not be made."""
    return Finding(Severity.SKIPPED, reason, mend=hint, check=check.name)
