"""The programs that developers use, in an environment where only the index under test can be reached."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.sites import Done

# Whoever is asked for anything else is asked through this proxy, and nobody listens there.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Developer:
    """Somebody with twine, pip and uv, and a folder of their own."""

    folder: Path
    reachable: str = "127.0.0.1"

    @property
    def home(self) -> Path:
        path = self.folder / "developer"
        path.mkdir(exist_ok=True)
        return path

    @property
    def env(self) -> dict[str, str]:
        """The environment: nothing of the machine's own pip, uv, netrc and proxies."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_RETRIES": "0",
            "UV_NO_CONFIG": "1",
            "UV_NO_CACHE": "1",
            "UV_HTTP_RETRIES": "0",
            "TWINE_NON_INTERACTIVE": "1",
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _NOWHERE),
            "no_proxy": self.reachable,
        }

    def run(self, *argv: str | Path, input: str = "", check: bool = True, **env: str) -> Done:
        done = subprocess.run(
            list(map(str, argv)),
            input=input,
            capture_output=True,
            text=True,
            env={**self.env, **env},
            cwd=self.home,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def virtualenv(self, name: str) -> Path:
        """Make a fresh virtualenv; returns its Python."""
        path = self.folder / name
        self.run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, path)
        return path / "bin" / "python"

    def twine(self, *arguments: str | Path, check: bool = True) -> Done:
        return self.run(
            *(sys.executable, "-m", "twine", "upload", "--disable-progress-bar", "--verbose"),
            *arguments,
            check=check,
        )

    def pip(self, python: Path, index: str, *requirements: str, check: bool = True) -> Done:
        """`pip install` into the virtualenv of `python`, from `index` alone."""
        return self.run(
            *(sys.executable, "-m", "pip", "--python", python, "install", "--no-input"),
            *("--index-url", index, "--trusted-host", self.reachable, *requirements),
            check=check,
        )

    def uv_pip(self, python: Path, index: str, *requirements: str, check: bool = True) -> Done:
        """`uv pip install` into the virtualenv of `python`, from `index` alone."""
        return self.run(
            *(sys.executable, "-m", "uv", "pip", "install", "--python", python, "--default-index", index),
            *requirements,
            check=check,
        )

    def uv_publish(self, url: str, user: str, password: str, *files: Path, check: bool = True) -> Done:
        return self.run(
            *(sys.executable, "-m", "uv", "publish", "--publish-url", url, "--username", user, *files),
            check=check,
            UV_PUBLISH_PASSWORD=password,
        )

    def version_of(self, python: Path, module: str) -> str:
        """Return the version of an installed test package, by importing it."""
        return self.run(python, "-I", "-c", f"import {module}; print({module}.version)").stdout.strip()
