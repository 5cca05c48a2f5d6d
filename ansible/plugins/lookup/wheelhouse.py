# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
name: wheelhouse
short_description: What is in a folder that ppctl wheelhouse has filled
description:
  - Reads C(wheelhouse.json) in a folder on the controller.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  _terms:
    description: The folder. A relative path is looked for as those of M(ansible.builtin.copy) are.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show for which versions of Python it is
  ansible.builtin.debug:
    msg: "{{ lookup('ppctl.fleet.wheelhouse', '/srv/wheelhouse').pythons }}"
"""

RETURN = r"""
_raw:
  description: For each folder C(version), C(ppctl), C(digest), C(pythons), C(platforms) and C(files).
  type: list
  elements: dict
"""

import json

from ansible.errors import AnsibleLookupError

from ansible.plugins.lookup import LookupBase

MANIFEST = "wheelhouse.json"
VERSION = 1


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        return [self.manifest(folder, variables) for folder in terms]

    def manifest(self, folder, variables):
        path = self.find_file_in_search_path(variables, "files", f"{folder}/{MANIFEST}", ignore_missing=True)
        build = f"build one: ppctl wheelhouse {folder}"
        if not path:
            raise AnsibleLookupError(f"{folder} is no wheelhouse, there is no {MANIFEST} in it; {build}")
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            version = found["version"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise AnsibleLookupError(f"{path} cannot be read: {e}; {build}") from e
        if version != VERSION:
            raise AnsibleLookupError(
                f"{path} is of version {version}, and this collection reads version {VERSION}; {build}"
            )
        return found
