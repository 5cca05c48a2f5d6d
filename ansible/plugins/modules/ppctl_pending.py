#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_pending
short_description: Tell whether a host and its indexes are as they are to be
description:
  - Asks everything that the other modules of this collection would act upon, in one call. Changes nothing.
  - A play begins with it and is at its end where nothing is to be done, so an unchanged host costs one task.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  indexes:
    description: The indexes, as the filter P(ppctl.fleet.wanted_indexes#filter) gives them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the index.
        type: str
        required: true
      home:
        description: Its directory.
        type: path
        required: true
      state:
        description: Whether it is to be there.
        type: str
        choices: [present, absent]
        default: present
      purge:
        description: Whether removing it removes its packages too.
        type: bool
        default: false
      settings:
        description: What C(ppctl.yml) is to say.
        type: dict
        default: {}
      takes_over:
        description: A server made by hand that it replaces. See M(ppctl.fleet.ppctl_index).
        type: dict
        suboptions:
          program:
            description: Its program under supervisor, or its unit.
            type: str
            required: true
          packages:
            description: Its directory of packages.
            type: path
            required: true
          htpasswd:
            description: Its users.
            type: path
      users:
        description: The users. See M(ppctl.fleet.ppctl_users).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The name that the user logs in with.
            type: str
            required: true
          password:
            description: The password.
            type: str
          password_hash:
            description: A ready hash instead.
            type: str
          state:
            description: Whether the user is to be there.
            type: str
            choices: [present, absent]
            default: present
          disabled:
            description: Whether logins of the user are refused.
            type: bool
            default: false
          permissions:
            description: What the user may do.
            type: dict
            suboptions:
              read:
                description: Whether the user may list and download.
                type: bool
                default: false
              upload:
                description: Patterns of the projects that the user may upload to.
                type: list
                elements: str
                default: []
              admin:
                description: Whether everything is allowed.
                type: bool
                default: false
      exclusive:
        description: Whether users that are not listed are removed.
        type: bool
        default: false
      allow_weak:
        description: Whether weak hashes are taken.
        type: bool
        default: false
  verify:
    description: When indexes are tried with a real package; with V(always) there is always something to do.
    type: str
    choices: [changed, always, never]
    default: changed
extends_documentation_fragment:
  - ppctl.fleet.installation
  - ppctl.fleet.installation.look
attributes:
  check_mode:
    description: Looks only, in check mode too.
    support: full
  diff_mode:
    description: There is none; the modules that act have it.
    support: none
seealso:
  - module: ppctl.fleet.ppctl_host_info
  - module: ppctl.fleet.ppctl_index
  - module: ppctl.fleet.ppctl_users
"""

EXAMPLES = r"""
- name: Look whether anything is to be done
  ppctl.fleet.ppctl_pending:
    indexes: "{{ ppctl_indexes | ppctl.fleet.wanted_indexes }}"
  register: found

- name: Be done where nothing is
  ansible.builtin.meta: end_host
  when: found.pending | length == 0
"""

RETURN = r"""
pending:
  description: In words, what is not as it is to be.
  returned: always
  type: list
  elements: str
indexes:
  description: The names of the indexes that were looked at.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.host import (
    INSTALLATION,
    LOOK,
    is_installed,
    missing_packages,
    outdated_drop_ins,
)
from ansible_collections.ppctl.fleet.plugins.module_utils.ppctl import (
    SETTINGS_NAME,
    TAKES_OVER,
    USERS,
    Ppctl,
    bring_up,
    declaration,
    settings_text,
)


def is_as_wanted(ppctl, index, verify):
    """Return whether one index is as it is to be. What cannot be said is for the module that acts to say."""
    home = index["home"]
    if index["state"] == "absent":
        return not os.path.exists(os.path.join(home, SETTINGS_NAME))
    command = [*bring_up(index["takes_over"]), "--home", home, "--settings", "-", "--dry-run"]
    plan = ppctl.ask(*command, stdin=settings_text(index["settings"])).get("result")
    if not plan or not plan.get("settled") or (verify == "changed" and not plan.get("verified")):
        return False
    if not (index["users"] or index["exclusive"]):
        return True
    apply = ("users", "apply", "-", "--home", home, "--dry-run")
    users = ppctl.ask(*apply, stdin=declaration(index)).get("result")
    return bool(users) and not users["changed"]


def main():
    module = AnsibleModule(
        argument_spec={
            **INSTALLATION,
            **LOOK,
            "indexes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "home": {"type": "path", "required": True},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "purge": {"type": "bool", "default": False},
                    "settings": {"type": "dict", "default": {}},
                    "takes_over": TAKES_OVER,
                    "users": USERS,
                    "exclusive": {"type": "bool", "default": False},
                    "allow_weak": {"type": "bool", "default": False},
                },
            },
            "verify": {"type": "str", "choices": ["changed", "always", "never"], "default": "changed"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    pending = [f"package {name}" for name in missing_packages(module, wanted["packages"])]
    pending += [] if is_installed(wanted) else ["ppctl"]
    drop_ins = [f"drop-in {path}" for path in outdated_drop_ins(wanted["drop_ins"])]
    ppctl = Ppctl(module, wanted["link"])
    for index in wanted["indexes"]:
        # Once something is to be done it is for the other modules to tell what.
        if pending or wanted["verify"] == "always" or not is_as_wanted(ppctl, index, wanted["verify"]):
            pending.append(f"index {index['name']}")
    names = [index["name"] for index in wanted["indexes"] if index["state"] == "present"]
    module.exit_json(changed=False, pending=drop_ins + pending, indexes=names)


if __name__ == "__main__":
    main()
