#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_host_info
short_description: Tell what a host still needs to run indexes
description:
  - Looks at the packages of the operating system, at Python, and at the ppctl that is there. Changes nothing.
  - One quick question instead of several tasks that each find that nothing is to be done.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
extends_documentation_fragment:
  - ppctl.fleet.installation
  - ppctl.fleet.installation.look
attributes:
  check_mode:
    description: Looks only, in check mode too.
    support: full
  diff_mode:
    description: Shows what is missing.
    support: full
seealso:
  - module: ppctl.fleet.ppctl_install
"""

EXAMPLES = r"""
- name: Look at the host
  ppctl.fleet.ppctl_host_info:
    packages: [supervisor]
  register: host
"""

RETURN = r"""
missing_packages:
  description: Those of O(packages) that are not installed.
  returned: always
  type: list
  elements: str
outdated_drop_ins:
  description: The paths of those O(drop_ins) that are missing or different.
  returned: always
  type: list
  elements: str
outdated:
  description: Whether another ppctl is to be installed, or the first one.
  returned: always
  type: bool
pending:
  description: In words, what a real run does to the host before it comes to the indexes.
  returned: always
  type: list
  elements: str
python_version:
  description: The version of O(python), empty where there is none.
  returned: always
  type: str
architecture:
  description: The architecture of the host.
  returned: always
  type: str
"""

import os
import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.host import (
    INSTALLATION,
    LOOK,
    is_installed,
    missing_packages,
    outdated_drop_ins,
)


def main():
    module = AnsibleModule(
        argument_spec={**INSTALLATION, **LOOK},
        supports_check_mode=True,
    )
    wanted = module.params
    missing = missing_packages(module, wanted["packages"])
    version = ""
    if os.access(wanted["python"], os.X_OK):
        code = "import platform; print(platform.python_version())"
        version = module.run_command([wanted["python"], "-I", "-c", code])[1].strip()
    outdated = not is_installed(wanted)
    drop_ins = outdated_drop_ins(wanted["drop_ins"])
    pending = [f"package {name}" for name in missing] + (["ppctl"] if outdated else [])
    pending += [f"drop-in {path}" for path in drop_ins]
    module.exit_json(
        changed=False,
        missing_packages=missing,
        outdated=outdated,
        outdated_drop_ins=drop_ins,
        pending=pending,
        python_version=version,
        architecture=platform.machine(),
        diff={"prepared": "".join(f"+{name}\n" for name in pending)},
    )


if __name__ == "__main__":
    main()
