"""The collection as such: its READMEs are up to date, its modules are documented, it can be built."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.fleet.support import env
from tests.hosts import CHECKOUT

COLLECTION = CHECKOUT / "ansible"
MODULES = sorted(path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py"))


def run(*argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, env={**env(), **more}, cwd=COLLECTION, check=False
    )


def test_the_readmes_are_up_to_date() -> None:
    done = run(sys.executable, str(CHECKOUT / "scripts" / "generate-collection-readme"), "--check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", sorted(path.name for path in (COLLECTION / "roles").iterdir()))
def test_every_default_is_in_the_argument_specs(role: str) -> None:
    specs = yaml.safe_load((COLLECTION / "roles" / role / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((COLLECTION / "roles" / role / "defaults/main.yml").read_text())
    assert {name: options[name]["default"] for name in defaults} == defaults


@pytest.mark.e2e
def test_the_modules_are_documented() -> None:
    done = run("ansible-doc", "--json", "--playbook-dir", ".", *[f"ppctl.fleet.{name}" for name in MODULES])
    found = json.loads(done.stdout)
    assert len(found) == len(MODULES) == 6
    for name, module in found.items():
        assert module["doc"]["short_description"] and module["examples"], name
        assert module["return"], name


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_is_what_the_module_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(name, monkeypatch)
    assert taken(arguments_of(module, monkeypatch)) == described(
        yaml.safe_load(module.DOCUMENTATION)["options"]
    )


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module of the collection, as Ansible does on a host: without an installed collection."""
    helpers = "ansible_collections.ppctl.fleet.plugins.module_utils"
    files = {f"{helpers}.{path.stem}": path for path in (COLLECTION / "plugins/module_utils").glob("*.py")}
    for parent in accumulate(helpers.split("."), "{}.{}".format):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for known, file in {**files, name: COLLECTION / f"plugins/modules/{name}.py"}.items():
        spec = importlib.util.spec_from_file_location(known, file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, known, module)
        spec.loader.exec_module(module)
    return module


def arguments_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the argument_spec that the module gives to Ansible."""
    given: dict[str, Any] = {}

    def stop(**options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "AnsibleModule", stop)
    with pytest.raises(KeyboardInterrupt):
        module.main()
    assert given["supports_check_mode"]
    return dict(given["argument_spec"])


def taken(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what an argument_spec says, without what documentation does not tell."""
    return {
        option: {
            key: value
            for key, value in each.items()
            if key not in ("no_log", "options", "mutually_exclusive")
        }
        | ({"options": taken(each["options"])} if "options" in each else {})
        for option, each in spec.items()
    }


def described(options: dict[str, Any]) -> dict[str, Any]:
    """Return what a module's documentation says of its options."""
    found = {}
    for option, each in options.items():
        kept = {key: value for key, value in each.items() if key not in ("description", "suboptions")}
        found[option] = kept | ({"options": described(each["suboptions"])} if "suboptions" in each else {})
    return found


def test_the_proxy_does_what_the_how_to_says() -> None:
    page = (CHECKOUT / "docs/how-to/nginx.md").read_text().partition("```nginx\n")[2].partition("```")[0]
    block = page.partition("location /pypi/ {")[2].partition("}")[0]
    wanted = [line.strip() for line in block.splitlines() if line.strip() and "proxy_pass" not in line]
    template = (COLLECTION / "roles/ppctl_proxy/templates/nginx.conf.j2").read_text()
    assert len(wanted) >= 7
    assert [line for line in wanted if line not in template] == []


@pytest.mark.e2e
def test_it_builds(tmp_path: Path) -> None:
    done = run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("ppctl-fleet-*.tar.gz")
    with tarfile.open(built) as tar:
        names = tar.getnames()
    assert "plugins/modules/ppctl_index.py" in names and "roles/ppctl_host/tasks/main.yml" in names
    assert not [name for name in names if name.startswith(("collections", "playbooks/collections"))]
    # Installed, its playbooks go by name.
    (tmp_path / "ansible.cfg").touch()
    where = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}
    done = run("ansible-galaxy", "collection", "install", "--offline", str(built), **where)
    assert done.returncode == 0, done.stderr
    inventory = str(COLLECTION / "inventory/example")
    done = run("ansible-playbook", "--syntax-check", "--inventory", inventory, "ppctl.fleet.site", **where)
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_the_example_inventory_can_be_read() -> None:
    done = run("ansible-inventory", "--inventory", "inventory/example", "--list")
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    assert hosts["pypi1.example.com"]["ppctl_index_settings"]["workers"] == 4
    assert [index["name"] for index in hosts["pypi-test1.example.com"]["ppctl_indexes"]] == [
        "team",
        "internal",
    ]


@pytest.mark.e2e
def test_every_playbook_is_understood() -> None:
    playbooks = sorted(f"playbooks/{path.name}" for path in (COLLECTION / "playbooks").glob("*.yml"))
    options = (
        "--syntax-check",
        "--inventory",
        "inventory/example",
        "--extra-vars",
        "user=a home=/srv/a password=x",
    )
    done = run("ansible-playbook", *options, *playbooks)  # one run: ansible takes a second to start
    assert done.returncode == 0, done.stderr
    assert len(playbooks) > 5 and all(f"playbook: {playbook}\n" in done.stdout for playbook in playbooks)
