#!/usr/bin/python
# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ppctl_install
short_description: Install ppctl on a host
description:
  - Installs ppctl into a virtualenv of its own, from a wheelhouse (nothing is fetched from a network) or from
    a package index.
  - Each version has its own directory, and C(current) points at the one in use, so an interrupted run leaves
    the old one as it was. The one before is kept.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
options:
  digest:
    description:
      - What identifies this installation. With O(archive) the digest in C(wheelhouse.json).
    type: str
    required: true
  archive:
    description:
      - The C(wheelhouse.tar) of C(ppctl wheelhouse) on the host. It is removed when all went well.
      - Not needed where the installation with this O(digest) is there already, nor in check mode.
    type: path
  requirement:
    description: What to install from O(index_url) instead, for example C(ppctl==0.1.0).
    type: str
  index_url:
    description:
      - The index to install O(requirement) from. Without it the one that pip on the host is set to.
      - One that needs a login takes it from C(netrc) or from pip's configuration on the host.
    type: str
extends_documentation_fragment:
  - ppctl.fleet.installation
attributes:
  check_mode:
    description: Tells whether ppctl would be installed.
    support: full
  diff_mode:
    description: Shows which installation replaces which.
    support: full
seealso:
  - module: ppctl.fleet.ppctl_host_info
"""

EXAMPLES = r"""
- name: Install ppctl without any network
  ppctl.fleet.ppctl_install:
    digest: "{{ lookup('ppctl.fleet.wheelhouse', 'wheelhouse').digest }}"
    archive: /opt/ppctl.wheelhouse.tar

- name: Install ppctl from our own mirror
  ppctl.fleet.ppctl_install:
    digest: ppctl-0.1.0
    requirement: ppctl==0.1.0
    index_url: https://mirror.example.com/simple/
"""

RETURN = r"""
path:
  description: The directory of the installation.
  returned: always
  type: str
"""

import fcntl
import glob
import hashlib
import os
import shutil
import tarfile
import zipfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ppctl.fleet.plugins.module_utils.host import INSTALLATION


def digest_of(folder):
    """Return what identifies a wheelhouse, as C(ppctl wheelhouse) has written it."""
    digest = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            digest.update(f"{name}\0{hashlib.sha256(file.read()).hexdigest()}\n".encode())
    return digest.hexdigest()


class Installation:
    """One version of ppctl on the host."""

    def __init__(self, module):
        self.module = module
        self.wanted = module.params
        self.id = self.wanted["digest"][:12]
        self.path = os.path.join(self.wanted["path"], self.id)
        self.wheels = os.path.join(self.path, "wheelhouse")
        self.links = {
            os.path.join(self.wanted["path"], "current"): self.id,
            self.wanted["link"]: os.path.join(self.wanted["path"], "current", "bin", "ppctl"),
        }

    @property
    def marker(self):
        """Written last: without it an installation is half-made, and made anew."""
        return os.path.join(self.path, "complete")

    def is_complete(self):
        """Return whether it is there and whole."""
        return os.path.exists(self.marker) and os.access(os.path.join(self.path, "bin", "ppctl"), os.X_OK)

    def pending_links(self):
        """Return the links that do not lead where they are to, by path."""
        return {
            path: to for path, to in self.links.items() if not os.path.islink(path) or os.readlink(path) != to
        }

    def run(self, *argv, **environment):
        """Run a program; where it fails remove what is half-made, and fail with what it says."""
        code, out, err = self.module.run_command(
            list(argv), environ_update={"UV_NO_CONFIG": "1", "LC_ALL": "C.UTF-8", **environment}
        )
        if code != 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self.module.fail_json(msg=f"ppctl cannot be installed: {(err or out).strip()[-3000:]}", rc=code)

    def lock(self):
        """Return the open lock file: another controller that installs on this host has ended by then."""
        os.makedirs(os.path.dirname(self.wanted["path"]), exist_ok=True)
        # Closed to others: whoever may read it may hold it.
        descriptor = os.open(f"{self.wanted['path']}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.fdopen(descriptor, "w")

    def bring_about(self, before):
        """Install it, unless another controller has, and keep the one of before; with the lock."""
        if not self.is_complete():
            self.make()
        elif self.wanted["archive"] and os.path.exists(self.wanted["archive"]):
            os.unlink(self.wanted["archive"])
        self.set_links(self.pending_links())
        self.remove_old(before)

    def make(self):
        """Install it from nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(self.path, mode=0o755)
        if self.wanted["archive"]:
            self.from_wheelhouse()
        else:
            self.from_index()
        with open(self.marker, "w", encoding="utf-8") as file:
            file.write(self.wanted["digest"] + "\n")

    def from_wheelhouse(self):
        """Install with the uv that is in the wheelhouse: quick, and python3-venv is not needed."""
        os.makedirs(self.wheels, mode=0o755)
        with tarfile.open(self.wanted["archive"]) as tar:
            for member in tar.getmembers():
                # Only what `ppctl wheelhouse` puts there: plain files with plain names.
                if not member.isreg() or os.path.basename(member.name) != member.name:
                    self.module.fail_json(msg=f"{self.wanted['archive']} is no wheelhouse: {member.name}")
                target = os.path.join(self.wheels, member.name)
                with open(target, "wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
                os.chmod(target, 0o644)
        if digest_of(self.wheels) != self.wanted["digest"]:
            shutil.rmtree(self.path, ignore_errors=True)
            self.module.fail_json(
                msg=f"{self.wanted['archive']} is another wheelhouse than was asked for, or a part of one: "
                "does another controller bring its own to this host? Run the playbook again"
            )
        uv = self.unpack_uv()
        lock = os.path.join(self.wheels, "ppctl.lock")
        offline = ("--offline", "--no-cache", "--no-config")
        # Over the directory that is there: uv keeps what is in it.
        venv = (uv, "venv", "--quiet", "--allow-existing", "--no-project", "--no-python-downloads", *offline)
        self.run(*venv, "--python", self.wanted["python"], self.path)
        self.run(
            *(
                uv,
                "pip",
                "install",
                "--quiet",
                *offline,
                "--python",
                os.path.join(self.path, "bin", "python"),
            ),
            *("--no-index", "--find-links", self.wheels, "--require-hashes", "--requirement", lock),
            # Now, or the first `ppctl up --dry-run` would write byte code, and change the host in check mode.
            "--compile-bytecode",
        )
        os.unlink(uv)
        os.unlink(self.wanted["archive"])

    def unpack_uv(self):
        """Return the path of the wheelhouse's uv for this machine, unpacked; fail where it has none."""
        machine = os.uname().machine
        for wheel in sorted(glob.glob(os.path.join(self.wheels, "uv-*.whl"))):
            if machine not in os.path.basename(wheel):
                continue
            with zipfile.ZipFile(wheel) as archive:
                member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
                target = os.path.join(self.path, "uv.once")
                with open(target, "wb") as file:
                    file.write(archive.read(member))
            os.chmod(target, 0o700)
            return target
        return self.module.fail_json(
            msg=f"the wheelhouse is not for {machine}; build one: ppctl wheelhouse --platform {machine} ..."
        )

    def from_index(self):
        """Install with the host's own pip."""
        python = os.path.join(self.path, "bin", "python")
        # Not on the command line, which everybody on the host can read.
        index = {"PIP_INDEX_URL": self.wanted["index_url"]} if self.wanted["index_url"] else {}
        self.run(self.wanted["python"], "-m", "venv", self.path)
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.run(*pip, self.wanted["requirement"], **index)

    def set_links(self, links):
        """Make links, or point them elsewhere, each at once."""
        for path, to in links.items():
            temporary = f"{path}.new"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(to, temporary)
            os.replace(temporary, path)

    def remove_old(self, kept):
        """Remove every installation but this one and the one that is `kept`."""
        for entry in os.scandir(self.wanted["path"]):
            if entry.is_dir(follow_symlinks=False) and entry.name not in (self.id, kept):
                shutil.rmtree(entry.path, ignore_errors=True)


def main():
    module = AnsibleModule(
        argument_spec={
            **INSTALLATION,
            "digest": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "requirement": {"type": "str"},
            "index_url": {"type": "str"},
        },
        mutually_exclusive=[("archive", "requirement"), ("archive", "index_url")],
        supports_check_mode=True,
    )
    installation = Installation(module)
    current = os.path.join(module.params["path"], "current")
    before = os.readlink(current) if os.path.islink(current) else ""
    build = not installation.is_complete()
    links = installation.pending_links()
    changed = build or bool(links)
    if changed and not module.check_mode:
        if build and not (module.params["archive"] or module.params["requirement"]):
            module.fail_json(msg="ppctl is not installed, and neither archive nor requirement is given")
        os.makedirs(os.path.dirname(module.params["link"]), exist_ok=True)
        with installation.lock():
            installation.bring_about(before)
    module.exit_json(
        changed=changed,
        path=installation.path,
        diff={
            "before_header": "ppctl",
            "after_header": "ppctl",
            "before": f"{before or 'not installed'}\n",
            "after": f"{installation.id}\n" if changed else f"{before}\n",
        },
    )


if __name__ == "__main__":
    main()
