# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
name: wanted_indexes
short_description: The indexes of a host with all that goes for each of them
description:
  - Adds to each index what the host's other variables say about every index, so that it stands in one place.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  _input:
    description: The variable C(ppctl_indexes).
    type: list
    elements: dict
    required: true
  root:
    description: Where the home of an index is, in a folder of its name.
    type: str
    default: /srv
  settings:
    description: Settings that every index begins with.
    type: dict
    default: {}
  source:
    description: The setting C(server) that they begin with before that.
    type: dict
    default: {}
  proxy:
    description:
      - The URL of the proxy of the host, empty where there is none.
      - Behind it an index is at a path of its name, or at the one that its settings say.
    type: str
    default: ""
  users:
    description: Users of every index; those of an index itself come in their place.
    type: list
    elements: dict
    default: []
  exclusive:
    description: Whether users that are not listed are removed, unless an index says so itself.
    type: bool
    default: false
  allow_weak:
    description: Whether weak hashes are taken.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the homes
  ansible.builtin.debug:
    msg: "{{ ppctl_indexes | ppctl.fleet.wanted_indexes | map(attribute='home') }}"
"""

RETURN = r"""
_value:
  description:
    - For each index C(name), C(home), C(state), C(purge), C(settings), C(takes_over), C(users), C(exclusive)
      and C(allow_weak).
  type: list
  elements: dict
"""

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

KEYS = ("name", "home", "settings", "state", "purge", "takes_over", "users", "users_exclusive")


def wanted_indexes(
    indexes, *, root="/srv", settings=None, source=None, proxy="", users=(), exclusive=False, allow_weak=False
):
    """Return the indexes with all that goes for each of them."""
    found = []
    for index in indexes:
        check(index)
        name = index["name"]
        own = index.get("users") or []
        names = [user.get("name") for user in own]
        mine = merged(settings or {}, index.get("settings") or {}, {"name": name})
        found.append(
            {
                "name": name,
                "home": index.get("home") or f"{root}/{name}",
                "state": index.get("state", "present"),
                "purge": index.get("purge", False),
                "settings": merged({"server": source or {}}, behind(proxy, mine), mine),
                "takes_over": index.get("takes_over"),
                "users": [user for user in users if user.get("name") not in names] + list(own),
                "exclusive": index.get("users_exclusive", exclusive),
                "allow_weak": allow_weak,
            }
        )
    return found


def check(index):
    """Refuse what the roles would refuse: they are not asked where nothing is to be done."""
    if not isinstance(index, Mapping) or not index.get("name"):
        raise AnsibleFilterError("ppctl_indexes: each index needs a name")
    unknown = sorted(set(index) - set(KEYS))
    if unknown:
        raise AnsibleFilterError(
            f"ppctl_indexes: {index['name']}: unknown {', '.join(unknown)}; there are {', '.join(KEYS)}"
        )


def behind(proxy, settings):
    """Return what the proxy asks of an index: a path of its name, or the one it says itself."""
    if not proxy:
        return {}
    prefix = settings.get("url_prefix", f"/{settings['name']}")
    return {"host": "127.0.0.1", "url_prefix": prefix, "public_url": f"{proxy}{prefix}"}


def merged(*parts):
    """Return dicts laid over one another, the last one on top; so are the dicts in them."""
    result = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


class FilterModule:
    """The filter."""

    def filters(self):
        return {"wanted_indexes": wanted_indexes}
