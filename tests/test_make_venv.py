"""scripts/make-venv, with a pip and a uv that only say what the real ones would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import CHECKOUT

NO_NETWORK = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\nERROR: No matching"
)
UNKNOWN = (
    "cause: error sending request for url (https://i/)\n  cause: invalid peer certificate: UnknownIssuer"
)


def make_venv(folder: Path, *, pip: str = "", uv: str = "", **env: str) -> tuple[int, str, list[str]]:
    """Run it with shell code in the place of pip and uv. Returns exit code, what is told, uv's arguments."""
    tools = folder / "venv/bin"
    tools.mkdir(parents=True)
    for name, code in (("python", f'case "$*" in *install*) {pip or ":"};; esac'), ("uv", uv)):
        (tools / name).write_text(f'#!/bin/sh\n[ {name} = python ] || echo "$*" >> {folder}/asked\n{code}\n')
        (tools / name).chmod(0o755)
    done = subprocess.run(
        [Path(CHECKOUT) / "scripts/make-venv", sys.executable, folder / "venv"],
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    asked = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    return done.returncode, done.stderr.partition("first time\n")[2], asked


def says(text: str) -> str:
    return f"printf '%s\\n' \"{text}\"; exit 1"


def test_what_uv_has_kept_needs_no_network(tmp_path: Path) -> None:
    code, said, asked = make_venv(tmp_path)
    assert (code, said) == (0, "")
    assert [line.endswith("--offline") for line in asked] == [True]


def test_without_it_the_index_is_asked(tmp_path: Path) -> None:
    code, said, asked = make_venv(tmp_path, uv=f'case "$*" in *--offline) {says("not in the cache")};; esac')
    assert (code, said) == (0, "")
    assert [line.endswith("--offline") for line in asked] == [True, False]


def test_the_machines_authorities_are_taken_where_uvs_own_do_not_do(tmp_path: Path) -> None:
    code, said, _ = make_venv(tmp_path, uv=f'[ -n "$UV_SYSTEM_CERTS" ] || {{ {says(UNKNOWN)}; }}')
    assert (code, said) == (0, "")


@pytest.mark.parametrize(
    ("pip", "uv", "missing", "where"),
    [
        (NO_NETWORK, "", "uv", ""),
        ("", "cause: error sending request for url (http://a.b/c/)", "what ppctl needs", " (http://a.b)"),
    ],
)
def test_without_a_network_it_is_said_what_is_missing_and_what_to_do(
    tmp_path: Path, pip: str, uv: str, missing: str, where: str
) -> None:
    code, said, _ = make_venv(tmp_path, pip=pip and says(pip), uv=uv and says(uv))
    assert code == 1
    assert said.splitlines() == [
        f"error: {missing} is not on this machine, and the package index cannot be reached{where}",
        "hint: for a mirror: PIP_INDEX_URL=URL make up; "
        "without a network: docs/how-to/offline.md (make wheels)",
    ]


@pytest.mark.parametrize(
    ("complaint", "error", "hint"),
    [
        (UNKNOWN, "nobody here knows who has signed the index's certificate", "SSL_CERT_FILE"),
        ("No space left on device", "error: cannot install what ppctl needs\n", "WHEELS=DIR"),
    ],
)
def test_what_uv_complains_of_is_shown(tmp_path: Path, complaint: str, error: str, hint: str) -> None:
    code, said, _ = make_venv(tmp_path, uv=says(complaint))
    assert code == 1
    assert said.startswith(complaint)
    assert error in said and hint in said


def test_from_a_directory_nothing_else_is_asked(tmp_path: Path) -> None:
    wheels = tmp_path / "my wheels"
    wheels.mkdir()
    settings = 'printf "%s\\n" "$PIP_NO_INDEX $PIP_FIND_LINKS $UV_OFFLINE $UV_FIND_LINKS"'
    code, said, _ = make_venv(tmp_path, uv=f"{settings}; {says('click is missing')}", WHEELS="my wheels")
    assert code == 1
    assert said.startswith(f"1 {wheels} 1 {wheels}\nclick is missing\n")
    assert f"error: cannot install what ppctl needs from {wheels}" in said and "make wheels" in said


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    code, _, asked = make_venv(tmp_path, WHEELS="nowhere")
    assert (code, asked) == (1, [])
