#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_users
short_description: Declare the users of a package index
description:
  - Hands the users to C(ppctl users apply), which adds, changes and removes them in one step, or not at all.
  - A password that the stored hash already matches is left alone, so a second run changes nothing.
  - Passwords travel on standard input only; they are on no command line, in no log and in no file.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  home:
    description: The directory of the index.
    type: path
    required: true
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name that the user logs in with.
        type: str
        required: true
      password:
        description: The password; the place for it is a vault. It is stored as a bcrypt hash.
        type: str
      password_hash:
        description: A ready hash instead, as C(htpasswd -nB) makes it.
        type: str
      state:
        description: Whether the user is to be there.
        type: str
        choices: [present, absent]
        default: present
      disabled:
        description: Whether logins of the user are refused; the password is kept.
        type: bool
        default: false
      permissions:
        description:
          - What the user may do; this and nothing else. Without it the user keeps what was granted, and a new
            one may read and upload everything.
        type: dict
        suboptions:
          read:
            description: Whether listing and downloading is allowed, where it needs a login.
            type: bool
            default: false
          upload:
            description: Patterns of the names of projects to upload to, such as V(team-*).
            type: list
            elements: str
            default: []
          admin:
            description: Whether everything is allowed, whoever owns a project.
            type: bool
            default: false
  exclusive:
    description: Whether users that are not listed are removed.
    type: bool
    default: false
  taken_from:
    description:
      - In check mode, the users of a server that C(ppctl_index) takes over before this module runs.
    type: path
  allow_weak:
    description: Whether weak hashes are taken, as those of an old server.
    type: bool
    default: false
  executable:
    description: The ppctl to call.
    type: path
    default: /usr/local/bin/ppctl
attributes:
  check_mode:
    description: Tells which users would be changed.
    support: full
    details:
      - Where the index is yet to be made, passwords of users that are there already cannot be compared.
  diff_mode:
    description: Shows names and what is done to them, never hashes.
    support: full
seealso:
  - module: ppctl.fleet.ppctl_index
"""

EXAMPLES = r"""
- name: Exactly these users
  ppctl.fleet.ppctl_users:
    home: /srv/ppctl/team
    exclusive: true
    users:
      - name: ci-bot
        password: "{{ vault_ci_bot }}"
        permissions:
          upload: ["team-*"]
      - name: ann
        password_hash: $2y$12$1o4kpw0lpHRBTmStgXKHEeJ3mRwvFVjBBKzRJ7Uh5UsVwYbTGz1gm
        disabled: true
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: V(adduser), V(passwd), V(deluser), V(disable), V(enable) or V(permissions).
      type: str
    user:
      description: The name of the user.
      type: str
    detail:
      description: How the password is stored, or what the user may do.
      type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.ppctl import (
    EXECUTABLE,
    SETTINGS_NAME,
    USERS,
    Ppctl,
    declaration,
)


def names_in(path):
    """Return the names of the users in an htpasswd file; none where there is no file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.partition(":")[0] for line in file if ":" in line and not line.startswith("#")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def assumed(wanted):
    """Return the changes in check mode where an earlier task of a real run makes the index, or mends it.

    Who is there is known, but not whether a password is right: that is left out.
    """
    users = wanted["users"]
    there = names_in(os.path.join(wanted["home"], "htpasswd"))
    if not there and wanted["taken_from"]:
        there = names_in(wanted["taken_from"])
    listed = {user["name"] for user in users if user["state"] == "present"}
    absent = {user["name"] for user in users} - listed
    found = [
        {"action": action, "user": user["name"], "detail": ""}
        for user in users
        if user["name"] in listed - set(there)
        for action in ("adduser", "permissions")
        if action == "adduser" or user.get(action) is not None
    ]
    for name in there:
        if name in absent or (wanted["exclusive"] and name not in listed):
            found.append({"action": "deluser", "user": name, "detail": ""})
    return found


def main():
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "users": USERS,
            "exclusive": {"type": "bool", "default": False},
            "taken_from": {"type": "path"},
            "allow_weak": {"type": "bool", "default": False},
            "executable": {"type": "path", "default": EXECUTABLE},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    ppctl = Ppctl(module, wanted["executable"])
    # Its settings may be lost: a real run has mended them before it comes to the users.
    is_there = any(os.path.exists(os.path.join(wanted["home"], name)) for name in (SETTINGS_NAME, "htpasswd"))
    if module.check_mode and not (ppctl.is_installed() and is_there):
        changes = assumed(wanted)
    else:
        ppctl.require()
        arguments = [
            "users",
            "apply",
            "-",
            "--home",
            wanted["home"],
            *(["--dry-run"] if module.check_mode else []),
        ]
        found = ppctl.call(*arguments, stdin=declaration(wanted))
        changes = found["changes"]
        if found.get("short_passwords"):
            names = ", ".join(found["short_passwords"])
            module.warn(f"{wanted['home']}: short passwords, which are soon guessed: {names}")
    lines = [f"{change['action']} {change['user']} {change['detail']}".rstrip() + "\n" for change in changes]
    module.exit_json(changed=bool(changes), changes=changes, diff={"prepared": "".join(lines)})


if __name__ == "__main__":
    main()
