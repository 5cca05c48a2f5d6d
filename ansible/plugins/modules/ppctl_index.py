#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_index
short_description: Bring a package index to its settings, or remove it
description:
  - Hands the settings to C(ppctl up), which writes C(ppctl.yml), builds the server's virtualenv, configures
    the manager and restarts workers one by one. It is the same code as on the command line.
  - In check mode it shows the plan that C(ppctl up) would carry out. Where ppctl is not installed yet, it
    tells that the index would be made.
  - After a change the index is tried with a package that is uploaded, downloaded and removed again, by a user
    that exists only meanwhile.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  home:
    description: The directory of the index.
    type: path
    required: true
  settings:
    description:
      - What C(ppctl.yml) is to say. C(ppctl schema) shows every key.
      - C(mode) is V(system) unless something else is given.
    type: dict
    default: {}
  state:
    description:
      - V(present) brings the index to its settings and starts it.
      - V(absent) stops it and removes what ppctl has made; packages stay, unless O(purge) is set.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: With O(state=absent), whether the packages are removed too.
    type: bool
    default: false
  takes_over:
    description:
      - A server that was made by hand on this host, under supervisor or systemd, which the index replaces.
        Its packages and users are copied, then its program is stopped and its configuration set aside.
      - Once that is done this has no effect, and may be taken out of the inventory.
    type: dict
    suboptions:
      program:
        description: Its name in supervisor's configuration, or that of its unit, such as V(pypi.service).
        type: str
        required: true
      packages:
        description: The directory of its packages.
        type: path
        required: true
      htpasswd:
        description: Its users; their passwords keep working.
        type: path
  verify:
    description:
      - When to try the index with a real package. V(changed) means after a change, until it has worked.
    type: str
    choices: [changed, always, never]
    default: changed
  pending:
    description:
      - In check mode, what an earlier task has not done to the host because of check mode, in words. The
        index then counts as changed.
    type: list
    elements: str
    default: []
  outdated:
    description:
      - In check mode, whether another ppctl would be installed first. The plan is then that of the ppctl
        which is there, and a warning says so.
    type: bool
    default: false
  leaving:
    description:
      - In check mode, the homes of indexes that an earlier task would have removed. Their ports are taken
        now, and will be free.
    type: list
    elements: path
    default: []
  executable:
    description: The ppctl to call.
    type: path
    default: /usr/local/bin/ppctl
attributes:
  check_mode:
    description: Shows the plan; nothing on the host is changed.
    support: full
  diff_mode:
    description: Each file that is written, and each step that is taken.
    support: full
seealso:
  - module: ppctl.fleet.ppctl_users
"""

EXAMPLES = r"""
- name: An index for the team
  ppctl.fleet.ppctl_index:
    home: /srv/ppctl/team
    settings:
      name: team
      host: 0.0.0.0
      port: 3141
      login: [list, download, upload]

- name: An index in the place of a server that was made by hand
  ppctl.fleet.ppctl_index:
    home: /srv/pypi
    settings:
      name: pypi
      port: 3141
    takes_over:
      program: pypi
      packages: /home/deploy/packages
      htpasswd: /home/deploy/htpasswd

- name: Remove an index, but keep its packages
  ppctl.fleet.ppctl_index:
    home: /srv/ppctl/old
    state: absent
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be done, in order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: What kind of change, for example V(update) or V(restart).
      type: str
    target:
      description: A path, or what else is changed.
      type: str
    summary:
      description: Why, in a few words.
      type: str
    diff:
      description: The unified diff of a file.
      type: str
    interrupts:
      description: Where connections are refused for a moment, why.
      type: str
url:
  description: The URL of the index.
  returned: when the index was brought to its settings
  type: str
  sample: http://127.0.0.1:3141
simple_url:
  description: The URL that pip and uv take as their index.
  returned: when the index was brought to its settings
  type: str
  sample: http://127.0.0.1:3141/simple/
verified:
  description: The steps of the trial with a real package.
  returned: when the index was tried
  type: list
  elements: dict
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.ppctl import (
    EXECUTABLE,
    SETTINGS_NAME,
    TAKES_OVER,
    Ppctl,
    bring_up,
    diff_of,
    settings_text,
)

DEFAULT_PORT = "3141"
OTHER_PLAN = "another ppctl would be installed first; the plan shown is that of the one which is there"


def read(path):
    """Return the text of a file, empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def assumed(module, text, why):
    """End the module where the plan cannot be made yet: in check mode, on a host that is not ready."""
    path = os.path.join(module.params["home"], SETTINGS_NAME)
    before = read(path)
    parts = (
        [{"before_header": path, "after_header": path, "before": before, "after": text}]
        if before != text
        else []
    )
    parts.append({"prepared": f"then: ppctl {' '.join(bring_up(module.params['takes_over']))} ({why})\n"})
    module.exit_json(changed=True, changes=[], msg=f"would bring the index up: {why}", diff=parts)


def will_be_free(module, error):
    """Return whether what is wrong is a port that an index has which leaves in this run."""
    ports = set()
    for home in module.params["leaving"]:
        text = read(os.path.join(home, SETTINGS_NAME))
        said = re.search(r"^port: *(\d+)", text, re.M)
        ports |= {said.group(1) if said else DEFAULT_PORT} if text else set()
    wanted = str(module.params["settings"].get("port", DEFAULT_PORT))
    return error.get("message", "").startswith("port: ") and wanted in ports


def present(module, ppctl):
    """Bring the index to its settings."""
    text = settings_text(module.params["settings"])
    arguments = [*bring_up(module.params["takes_over"]), "--home", module.params["home"], "--settings", "-"]
    if module.check_mode:
        arguments.append("--dry-run")
        pending = module.params["pending"] + ([] if ppctl.is_installed() else ["ppctl"])
        if pending:
            assumed(module, text, f"after the installation of {', '.join(pending)}")
    ppctl.require()
    envelope = ppctl.ask(*arguments, stdin=text)
    if module.check_mode and will_be_free(module, envelope.get("error") or {}):
        assumed(module, text, "after the removal of another index")
    if module.check_mode and module.params["outdated"]:
        if "error" in envelope:
            assumed(module, text, "after the installation of another ppctl")
        module.warn(OTHER_PLAN)
    result = ppctl.result(envelope)
    found = {key: result[key] for key in ("changed", "changes", "url", "simple_url") if key in result}
    found["diff"] = diff_of(result["changes"])
    if module.check_mode and module.params["outdated"]:
        found["msg"] = OTHER_PLAN
    wanted = module.params["verify"]
    # One that has failed its trial is tried again, although nothing has changed since.
    is_due = result["changed"] or not result.get("verified")
    if not module.check_mode and (wanted == "always" or (wanted == "changed" and is_due)):
        found["verified"] = verify(module, ppctl, found)
    for change in result["changes"]:
        if change["interrupts"]:
            module.warn(change["interrupts"])
    module.exit_json(**found)


def verify(module, ppctl, found):
    """Try the index; fail where something does not work."""
    envelope = ppctl.ask("verify", "--home", module.params["home"])
    if "error" in envelope:
        ppctl.fail(envelope["error"], **found)
    steps = envelope["result"]["steps"]
    failed = [f"{step['step']}: {step['detail']}" for step in steps if step["ok"] is False]
    if failed:
        module.fail_json(msg="the index does not work: " + "; ".join(failed), verified=steps, **found)
    return steps


def absent(module, ppctl):
    """Remove the index."""
    home = module.params["home"]
    purge = module.params["purge"]
    if not os.path.exists(os.path.join(home, SETTINGS_NAME)):
        packages = os.path.join(home, "packages")
        if purge and os.path.isdir(packages):
            # Nothing says any more that they were an index's: the path may be a wrong one.
            message = f"{home}: there is no index here (no {SETTINGS_NAME}): its packages stay"
            ppctl.fail({"message": message, "hint": f"if they were an index's: rm -r {packages}"})
        module.exit_json(changed=False, changes=[])
    if not module.check_mode:
        ppctl.require()
        ppctl.call("destroy", "--home", home, "--yes", *(["--purge"] if purge else []))
    summary = "its packages, too" if purge else "its packages stay"
    changes = [{"action": "destroy", "target": home, "summary": summary, "diff": "", "interrupts": ""}]
    module.exit_json(changed=True, changes=changes, diff=diff_of(changes))


def main():
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "settings": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "bool", "default": False},
            "takes_over": TAKES_OVER,
            "verify": {"type": "str", "choices": ["changed", "always", "never"], "default": "changed"},
            "pending": {"type": "list", "elements": "str", "default": []},
            "outdated": {"type": "bool", "default": False},
            "leaving": {"type": "list", "elements": "path", "default": []},
            "executable": {"type": "path", "default": EXECUTABLE},
        },
        supports_check_mode=True,
    )
    ppctl = Ppctl(module, module.params["executable"])
    act = absent if module.params["state"] == "absent" else present
    act(module, ppctl)


if __name__ == "__main__":
    main()
