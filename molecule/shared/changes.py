"""Run the playbook with molecule's inventory, and print as JSON what it changes.

For each change: host, module, action, target (a path, a user) and diff; the last three may be empty.

    changes.py [--check]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def main() -> int:
    """Return the exit code of Ansible; what it said is on stderr when it failed."""
    folder, project = (os.environ[f"MOLECULE_{name}_DIRECTORY"] for name in ("EPHEMERAL", "PROJECT"))
    sys.path.append(project)
    from tests.fleet.support import EVENTS, changes_in

    argv = [
        "ansible-playbook",
        "--inventory",
        f"{folder}/inventory",
        *sys.argv[1:],
        f"{project}/ansible/site.yml",
    ]
    done = subprocess.run(
        argv,
        env={**os.environ, **EVENTS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout, done.stderr, file=sys.stderr)
        return done.returncode
    print(json.dumps([[*change, *[""] * (5 - len(change))] for change in changes_in(done.stdout)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
