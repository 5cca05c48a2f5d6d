# Copyright: the ppctl authors. MIT license (see LICENSE)
"""Calls ppctl on a host: the one way in which the modules of this collection change anything."""

from __future__ import annotations

import json
import os

ENVELOPE_VERSION = 1
EXECUTABLE = "/usr/local/bin/ppctl"
SETTINGS_NAME = "ppctl.yml"
REGISTER = "/etc/ppctl/indexes"
HEADER = "# Managed by Ansible: what is changed here is overwritten by the next run of the playbook.\n"

TAKES_OVER = {
    "type": "dict",
    "options": {
        "program": {"type": "str", "required": True},
        "packages": {"type": "path", "required": True},
        "htpasswd": {"type": "path"},
    },
}
USERS = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "no_log": True},
        "password_hash": {"type": "str", "no_log": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "disabled": {"type": "bool", "default": False},
        "permissions": {
            "type": "dict",
            "options": {
                "read": {"type": "bool", "default": False},
                "upload": {"type": "list", "elements": "str", "default": []},
                "admin": {"type": "bool", "default": False},
            },
        },
    },
    "mutually_exclusive": [("password", "password_hash")],
}


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


def settings_text(settings):
    """Return what C(ppctl.yml) is to be."""
    return HEADER + to_yaml({"mode": "system", **settings})


def bring_up(takes_over):
    """Return the command of ppctl that brings the index to its settings."""
    if not takes_over:
        return ["up"]
    options = [f"--{name}={value}" for name, value in sorted(takes_over.items()) if value]
    return ["take-over", *options]


def declaration(wanted):
    """Return as JSON what `ppctl users apply` reads; `wanted` has the options of ppctl_users."""
    users = [{key: value for key, value in user.items() if value is not None} for user in wanted["users"]]
    return json.dumps({**{key: wanted[key] for key in ("exclusive", "allow_weak")}, "users": users})


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
