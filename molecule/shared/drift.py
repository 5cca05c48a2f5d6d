"""Change by hand what ppctl has made on this host: edit, delete and open its files, each in turn.

    drift.py ROTATION HOME[:USER[:STRANGER]]...

With three rotations each file has been edited, deleted and opened once. USER is disabled, STRANGER is added.
Prints what was changed, one a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KINDS = ("edit", "delete", "open")
DIRECTORIES = (".", "packages", "logs", "run", "releases")


def main() -> None:
    rotation = int(sys.argv[1])
    for number, place in enumerate(sys.argv[2:], rotation):
        name, *users = place.split(":")
        home = Path(name)
        for command, user in zip(("disable", "adduser --generate"), users, strict=False):
            change_user(home, command, user)
            print(user)
        for position, path in enumerate(managed(home), number):
            change(path, KINDS[position % len(KINDS)])
            print(path)
        (home / "htpasswd").chmod(0o666)
        for name in DIRECTORIES:
            (home / name).chmod(0o777)
        print(home / "htpasswd", *((home / name).resolve() for name in DIRECTORIES), sep="\n")


def managed(home: Path) -> list[Path]:
    """Return every file and link that `ppctl up` has made for the index, its settings included."""
    manifest = json.loads((home / ".manifest.json").read_text())
    return [home / "ppctl.yml", home / "releases" / "current", *(home / path for path in manifest["paths"])]


def change_user(home: Path, command: str, user: str) -> None:
    argv = ["ppctl", *command.split(), user, "--home", str(home)]
    subprocess.run(argv, capture_output=True, check=True)


def change(path: Path, kind: str) -> None:
    if path.is_symlink():
        path.unlink()
        if kind == "edit":
            path.symlink_to("/nowhere")
    elif kind == "edit":
        with path.open("a") as file:
            file.write("# edited by hand\n")
    elif kind == "delete":
        path.unlink()
    else:
        path.chmod(0o666)
        os.chown(path, 65534, 65534)


if __name__ == "__main__":
    main()
