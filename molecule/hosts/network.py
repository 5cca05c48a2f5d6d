"""The network of the hosts: a bridge that leads nowhere else, and a namespace for each host.

Call what changes something with the machine's lock held.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from shared import HostsError, run

# A range for documentation (RFC 5737), so it is nobody's real network.
NET = os.environ.get("PPCTL_HOSTS_NET", "198.51.100")
BRIDGE = "ppctl0"


def prepare_machine() -> None:
    """Make the bridge. Hosts have no other way out, and this machine does not forward between networks."""
    # The guard comes first and stays for good: without the bridge, a packet to a host that is gone
    # would leave by the machine's default route.
    ip("route", "replace", "unreachable", f"{NET}.0/24", "metric", "4242")
    others = {route["dev"] for route in ip_json("route", "show", f"{NET}.0/24") if "dev" in route} - {BRIDGE}
    if others:
        raise HostsError(f"{NET}.0/24 is in use by {', '.join(others)}: set PPCTL_HOSTS_NET")
    if not ip_json("link", "show", BRIDGE):
        # An address of its own: by itself it would take one of its ports', another one as hosts come and
        # go, and hosts would talk to the old one for half a minute.
        ip("link", "add", BRIDGE, "address", mac(1), "type", "bridge")
        Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6").write_text("1")
        ip("link", "set", BRIDGE, "up")
    ip("address", "replace", f"{NET}.1/24", "dev", BRIDGE)
    # A booted host holds 7 of these; the usual 128 would end at 18 hosts.
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < 1024:
        limit.write_text("1024")


def free_octet(wanted: str) -> int:
    """Return the last part of a free address, the wanted one if any. The bridge knows who has which."""
    ports = ip_json("link", "show", "master", BRIDGE)
    used = {int(port["ifname"][3:]) for port in ports if re.fullmatch(r"pph\d+", port["ifname"])}
    if wanted and (not wanted.isdigit() or not 2 <= int(wanted) <= 254 or int(wanted) in used):
        raise HostsError(f"{NET}.{wanted} is taken, or not an address for a host")
    free = (octet for octet in range(11, 255) if octet not in used)
    octet = int(wanted) if wanted else next(free, None)
    if octet is None:
        raise HostsError(f"all addresses in {NET}.0/24 are taken")
    return octet


def connect(octet: int, namespace: str) -> None:
    """Make a namespace with that address. It is ours, not nspawn's, so it outlives a reboot."""
    link = f"pph{octet}"
    ip("netns", "add", namespace)
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "address", mac(octet), "netns", namespace)
    ip("link", "set", link, "alias", namespace, "master", BRIDGE, "up")  # `ip link` shows whose it is
    ip("-n", namespace, "address", "add", f"{NET}.{octet}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        ip("-n", namespace, "link", "set", device, "up")


def mac(octet: int) -> str:
    """Return the hardware address that goes with an address.

    Always the same: who talked to its last owner need not forget that one first.
    """
    return f"02:70:70:63:74:{octet:02x}"


def disconnect(octet: int, namespace: str) -> None:
    """Remove what `connect` made, and with the last host the bridge. The guard route stays."""
    ip("link", "delete", f"pph{octet}", check=False)
    ip("netns", "delete", namespace, check=False)
    if not ip_json("link", "show", "master", BRIDGE):
        ip("link", "delete", BRIDGE, check=False)


def ip(*arguments: str, check: bool = True) -> None:
    run("ip", *arguments, check=check)


def ip_json(*arguments: str) -> list[dict[str, str]]:
    """Return what `ip` shows; nothing when the device is not there."""
    parsed: list[dict[str, str]] = json.loads(run("ip", "-json", *arguments, check=False) or "[]")
    return parsed
