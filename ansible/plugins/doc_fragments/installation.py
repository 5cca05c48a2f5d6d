# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that install ppctl, or look whether it is there."""

    # The arguments: module_utils/host.py
    DOCUMENTATION = r"""
options:
  path:
    description: Where ppctl is installed.
    type: path
    default: /opt/ppctl
  link:
    description: The command that people and other modules call; it leads to the ppctl that is installed.
    type: path
    default: /usr/local/bin/ppctl
  python:
    description: The Python to install ppctl with, 3.10 or newer.
    type: path
    default: /usr/bin/python3
"""

    LOOK = r"""
options:
  packages:
    description: Packages of the operating system that must be installed.
    type: list
    elements: str
    default: []
  digest:
    description: What identifies the ppctl that must be installed, as C(wheelhouse.json) or the version tells.
    type: str
    default: ""
  drop_ins:
    description:
      - Files that extend units of systemd, by path, with the text that they must have.
      - Not looked at where another init runs.
    type: dict
    default: {}
"""
