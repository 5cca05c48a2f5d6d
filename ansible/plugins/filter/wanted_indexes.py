# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
name: wanted_indexes
short_description: The indexes of a host with all that goes for each of them
description:
  - Adds to each index what the host's other variables say about every index, so that it stands in one place.
  - Refuses what cannot work before a host is touched, such as keys that no index has, and tells where it is.
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
from ansible_collections.ppctl.fleet.plugins.module_utils.ppctl import TAKES_OVER, USERS

try:
    # Since 2.19. Nothing but the message depends on it.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

KEYS = ("name", "home", "settings", "state", "purge", "takes_over", "users", "users_exclusive")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def wanted_indexes(
    indexes, *, root="/srv", settings=None, source=None, proxy="", users=(), exclusive=False, allow_weak=False
):
    """Return the indexes with all that goes for each of them."""
    check_users(users, "ppctl_users_common")
    found = []
    for index in indexes:
        check(index)
        name = index["name"]
        own = index.get("users") or []
        names = [user["name"] for user in own]
        mine = merged(settings or {}, index.get("settings") or {}, {"name": name})
        found.append(
            {
                "name": name,
                "home": index.get("home") or f"{root}/{name}",
                "state": index.get("state", "present"),
                "purge": index.get("purge", False),
                "settings": merged({"server": source or {}}, behind(proxy, mine), mine),
                "takes_over": index.get("takes_over"),
                "users": [user for user in users if user["name"] not in names] + list(own),
                "exclusive": index.get("users_exclusive", exclusive),
                "allow_weak": allow_weak,
            }
        )
    check_together(found)
    # First those that go: another one may have their port.
    return sorted(found, key=lambda index: index["state"] != "absent")


def refuse(message, where=None):
    """Refuse what is in the inventory, with file and line of `where`; what is in that line may be secret."""
    place = place_of(where)
    raise AnsibleFilterError(f"{place}: {message}" if place else message)


def place_of(value):
    """Return file and line where a value was written, "" where Ansible does not tell."""
    if Origin:
        return str(Origin.get_tag(value) or "")
    position = getattr(value, "ansible_pos", None)
    return f"{position[0]}:{position[1]}" if position else ""


def check(index):
    """Refuse what the roles would refuse: they are not asked where nothing is to be done."""
    if not isinstance(index, Mapping) or not index.get("name"):
        refuse("ppctl_indexes: each index needs a name", index)
    place = f"ppctl_indexes: {index['name']}"
    check_keys(index, KEYS, place)
    settings = index.get("settings") or {}
    if not isinstance(settings, Mapping):
        refuse(f"{place}: settings: expected keys and values", settings)
    if settings.get("name", index["name"]) != index["name"]:
        refuse(
            f"{place}: settings.name is {settings['name']}: the name is said once, in name", settings["name"]
        )
    if index.get("takes_over"):
        check_keys(index["takes_over"], TAKES_OVER["options"], f"{place}: takes_over")
    check_users(index.get("users") or [], f"{place}: users")


def check_users(users, place):
    """Refuse what ppctl_users would refuse, and show none of it: behind a key with a typo is a password."""
    names = set()
    for user in users:
        if not isinstance(user, Mapping) or not user.get("name"):
            refuse(f"{place}: each user needs a name", user)
        check_keys(user, USERS["options"], f"{place}: {user['name']}")
        if user["name"] in names:
            refuse(f"{place}: {user['name']} is there twice", user["name"])
        names.add(user["name"])


def check_keys(given, known, place):
    """Refuse keys that nobody reads: a setting with a typo would silently be none."""
    if not isinstance(given, Mapping):
        refuse(f"{place}: expected keys and values", given)
    unknown = [key for key in given if key not in known]
    if unknown:
        # In the order of the file, so that file and line are those of the first.
        names = ", ".join(str(key) for key in unknown)
        refuse(f"{place}: unknown {names}; there are {', '.join(known)}", unknown[0])


def check_together(found):
    """Refuse indexes that cannot be on one host together."""
    for number, index in enumerate(found):
        for other in found[:number]:
            both = f"ppctl_indexes: {other['name']} and {index['name']}"
            if index["name"] == other["name"]:
                refuse(f"ppctl_indexes: two indexes are called {index['name']}", index["name"])
            if index["home"] == other["home"]:
                refuse(f"{both} have the same home, {index['home']}", index["name"])
            if "absent" not in (index["state"], other["state"]) and overlap(
                index["settings"], other["settings"]
            ):
                port = index["settings"].get("port", 3141)
                refuse(
                    f"{both} would both listen on port {port}: give one of them another settings.port",
                    index["name"],
                )


def overlap(one, other):
    """Return whether only one of two indexes with these settings could listen."""
    (host, port), (other_host, other_port) = (
        (str(each.get("host", "127.0.0.1")), str(each.get("port", 3141))) for each in (one, other)
    )
    return port == other_port and (host == other_host or host in EVERYWHERE or other_host in EVERYWHERE)


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
