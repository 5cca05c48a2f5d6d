"""ppctl.server is copied into releases: it gets along with what is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ppctl

PROGRAM = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import ppctl.server
assert ppctl.__file__.startswith(sys.argv[1]), ppctl.__file__
for module in pkgutil.iter_modules(ppctl.server.__path__):
    if module.name != "gunicorn_conf":  # reads its environment when it is imported
        importlib.import_module("ppctl.server." + module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.e2e
def test_it_imports_only_what_a_release_has(tmp_path: Path) -> None:
    package = Path(ppctl.__file__).parent
    shutil.copytree(package / "server", tmp_path / "ppctl" / "server")
    shutil.copy(package / "__init__.py", tmp_path / "ppctl")
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "pypiserver" in loaded
    assert not loaded & {"msgspec", "yaml", "click", "jinja2", "rich", "supervisor", "uv", "watchdog"}
