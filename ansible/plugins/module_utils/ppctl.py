# Copyright: the ppctl authors. MIT license (see LICENSE)
"""Calls ppctl on a host: the one way in which the modules of this collection change anything."""

from __future__ import annotations

import json
import os

ENVELOPE_VERSION = 1
EXECUTABLE = "/usr/local/bin/ppctl"
SETTINGS_NAME = "ppctl.yml"
REGISTER = "/etc/ppctl/indexes"


class Ppctl:
    """ppctl as it is installed on the host. Fails the module where ppctl does not do what it was asked."""

    def __init__(self, module, executable):
        self.module = module
        self.executable = executable

    def is_installed(self):
        """Return whether ppctl is there."""
        return os.access(self.executable, os.X_OK)

    def require(self):
        """Fail where ppctl is not there."""
        if not self.is_installed():
            self.module.fail_json(
                msg=f"ppctl is not installed on this host ({self.executable}). "
                "The role ppctl.fleet.ppctl_host installs it."
            )

    def ask(self, *arguments, **options):
        """Run ppctl and return its envelope; `stdin` is what it reads, and may be secret."""
        stdin = options.get("stdin")
        code, out, err = self.module.run_command(
            [self.executable, *arguments, "--json"],
            data=stdin,
            environ_update={"PPCTL_HOME": "", "LC_ALL": "C.UTF-8"},
        )
        try:
            envelope = json.loads(out)
            version = envelope["version"]
        except (ValueError, KeyError, TypeError):
            self.module.fail_json(
                msg=f"ppctl does not answer as expected: {(err or out).strip()[-2000:]}", rc=code
            )
        if version != ENVELOPE_VERSION:
            self.module.fail_json(
                msg=f"ppctl on this host speaks version {version} of its JSON output, this collection "
                f"version {ENVELOPE_VERSION}. Install matching ones: the role ppctl.fleet.ppctl_host brings "
                "the ppctl of the wheelhouse, `ppctl wheelhouse` makes one of the ppctl on the controller."
            )
        return envelope

    def call(self, *arguments, **options):
        """Run ppctl and return its result. Fails with its own message and hint."""
        return self.result(self.ask(*arguments, **options))

    def result(self, envelope):
        """Return the result in the envelope; fail with the error in it."""
        error = envelope.get("error")
        if error:
            self.fail(error)
        return envelope["result"]

    def fail(self, error, **details):
        """Fail with an error from the envelope."""
        hint = error.get("hint", "")
        text = error["message"] + (f"\nhint: {hint}" if hint else "")
        self.module.fail_json(msg=text, **details)


def diff_of(changes):
    """Return for Ansible's --diff what ppctl's changes do: one part for each."""
    parts = []
    for change in changes:
        summary = f" ({change['summary']})" if change["summary"] else ""
        title = f"{change['action']} {change['target']}{summary}\n"
        parts.append({"prepared": title + change["diff"]})
    return parts


def to_yaml(data, indent=""):
    """Return plain data as YAML, keys in order; scalars and lists as JSON, which is YAML."""
    lines = []
    for key in sorted(data):
        value = data[key]
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}:\n" + to_yaml(value, indent + "  "))
        else:
            lines.append(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)


def registered():
    """Return the homes of the indexes that are registered on the host, by name."""
    found = {}
    if os.path.isdir(REGISTER):
        for name in os.listdir(REGISTER):
            home = os.path.join(REGISTER, name)
            if os.path.islink(home) and os.path.exists(os.path.join(home, SETTINGS_NAME)):
                found[name] = os.readlink(home)
    return found
