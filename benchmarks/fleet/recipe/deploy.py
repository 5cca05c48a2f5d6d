"""The same index as ppctl makes, with pyinfra: `pyinfra INVENTORY deploy.py`."""

from __future__ import annotations

from pathlib import Path

from pyinfra import config, host
from pyinfra.facts.files import File
from pyinfra.operations import files, server, systemd

config.SUDO = True

data = host.data
name, home = data.index, data.home
written = {"user": "root", "add_deploy_dir": False}
variables = {"index": name, "home": home, "port": data.port}
folder = Path(data.files)

server.group(group=name, system=True)
server.user(user=name, group=name, home=home, shell="/usr/sbin/nologin", system=True, create_home=False)
for path, owner, mode in (
    ("", "root", "750"),
    ("/packages", name, "755"),
    ("/run", name, "750"),
    ("/logs", "root", "750"),
    ("/releases", "root", "755"),
    ("/wheelhouse", "root", "750"),
):
    files.directory(path=f"{home}{path}", user=owner, group=name, mode=mode)
if not host.get_fact(File, path=f"{home}/releases/1/complete"):
    archive = f"{home}/wheelhouse.tar"
    files.put(src=f"{data.wheelhouse}/wheelhouse.tar", dest=archive, add_deploy_dir=False)
    files.put(src="install.sh", dest=f"{home}/install.sh", mode="755")
    server.shell([f"tar -xf {archive} -C {home}/wheelhouse", f"{home}/install.sh {home}", f"rm {archive}"])
files.link(path=f"{home}/releases/current", target="1")
changes = [
    files.template(
        src=str(folder / file),
        dest=dest,
        user="root",
        group=group,
        mode=mode,
        add_deploy_dir=False,
        **variables,
    )
    for file, dest, group, mode in (
        ("server.json", f"{home}/server.json", name, "640"),
        ("run-pypi.sh", f"{home}/run-pypi.sh", name, "750"),
        *(
            (unit, f"/etc/systemd/system/ppctl-{name}{unit}", "root", "644")
            for unit in (".socket", ".service", "@.service")
        ),
    )
]
files.file(path=f"{home}/htpasswd", user="root", group=name, mode="640")
files.line(path=f"{home}/htpasswd", line=f"^{data.user}:.*", replace=f"{data.user}:{data.password_hash}")


def changed() -> bool:
    """Whether something was written that the workers start from."""
    return any(change.did_change() for change in changes)


systemd.daemon_reload(_if=changed)
for unit in ("socket", "service"):
    systemd.service(service=f"ppctl-{name}.{unit}", running=True, enabled=True)
systemd.service(service=f"ppctl-{name}.service", restarted=True, _if=changed)
server.shell([f"curl --fail --silent --retry 30 --retry-all-errors http://127.0.0.1:{data.port}/simple/"])
