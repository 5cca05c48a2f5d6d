#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_command
short_description: Run a ppctl command for the indexes of a host
description:
  - Runs one command of ppctl for one index of the host, or for each of them, and returns what it says.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  command:
    description: The command and its options.
    type: list
    elements: str
    required: true
  index:
    description:
      - The name of the index. V(all) means each index that is registered on the host.
      - Without it there must be only one.
    type: str
    default: ""
  home:
    description: The directory of the index, instead of O(index).
    type: path
  stdin:
    description: What the command reads on standard input. It is the way for a password hash.
    type: str
  read_only:
    description: Whether the command only looks. Others do nothing in check mode.
    type: bool
    default: false
  executable:
    description: The ppctl to call.
    type: path
    default: /usr/local/bin/ppctl
attributes:
  check_mode:
    description: Tells that the command would be run.
    support: partial
    details:
      - With O(read_only) the command is run. Others are not, and count as changed, whatever they would do.
  diff_mode:
    description: There is none.
    support: none
"""

EXAMPLES = r"""
- name: Restart the workers one by one
  ppctl.fleet.ppctl_command:
    command: [restart]

- name: Look at every index
  ppctl.fleet.ppctl_command:
    command: [status]
    index: all
    read_only: true
"""

RETURN = r"""
results:
  description: For each index what ppctl says.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: The name of the index.
      type: str
    home:
      description: Its directory.
      type: str
    exit_code:
      description: The exit code.
      type: int
    result:
      description: What C(--json) prints as C(result).
      type: dict
    error:
      description: The message and the hint of a failure.
      type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.ppctl import EXECUTABLE, Ppctl, registered


def homes(module):
    """Return the homes that are meant, by the name of the index."""
    home, index = module.params["home"], module.params["index"]
    if home:
        return {os.path.basename(home): home}
    known = registered()
    if index == "all":
        return known
    if index:
        if index not in known:
            there = ", ".join(sorted(known)) or "none"
            module.fail_json(msg=f"there is no index {index} on this host (there: {there})", results=[])
        return {index: known[index]}
    if len(known) > 1:
        there = ", ".join(sorted(known))
        which = "say which, or all (in a playbook: ppctl_index)"
        module.fail_json(msg=f"several indexes are on this host: {there}; {which}", results=[])
    if not known:
        module.fail_json(msg="no index is on this host", results=[])
    return known


def main():
    module = AnsibleModule(
        argument_spec={
            "command": {"type": "list", "elements": "str", "required": True},
            "index": {"type": "str", "default": ""},
            "home": {"type": "path"},
            "stdin": {"type": "str", "no_log": True},
            "read_only": {"type": "bool", "default": False},
            "executable": {"type": "path", "default": EXECUTABLE},
        },
        supports_check_mode=True,
    )
    command = module.params["command"]
    if module.check_mode and not module.params["read_only"]:
        module.exit_json(changed=True, results=[], msg=f"would run: ppctl {' '.join(command)}")
    ppctl = Ppctl(module, module.params["executable"])
    ppctl.require()
    results = []
    for name, home in sorted(homes(module).items()):
        envelope = ppctl.ask(*command, "--home", home, stdin=module.params["stdin"])
        found = {key: envelope[key] for key in ("exit_code", "result", "error") if key in envelope}
        results.append({"index": name, "home": home, **found})
    changed = any(each.get("result", {}).get("changed", False) for each in results)
    failed = [each for each in results if "error" in each]
    if failed:
        texts = [f"{each['index']}: {each['error']['message']}" for each in failed]
        module.fail_json(msg="; ".join(texts), results=results, changed=changed)
    module.exit_json(changed=changed, results=results)


if __name__ == "__main__":
    main()
