"""The collection as such: its READMEs are up to date, its modules are documented, it can be built."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from ppctl import __version__, fleet, wheelhouse
from ppctl.checks import programs
from tests.fleet.support import env, load
from tests.hosts import CHECKOUT

COLLECTION = CHECKOUT / "ansible"
MODULES = sorted(path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py"))


def run(*argv: str, cwd: Path = COLLECTION, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, env={**env(), **more}, cwd=cwd, check=False)


def files(folder: Path) -> list[Path]:
    """Return what is in a folder, without the byte code that Python leaves on the controller."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_the_readmes_are_up_to_date() -> None:
    done = run(sys.executable, str(CHECKOUT / "scripts" / "generate-collection-readme"), "--check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", sorted(path.name for path in (COLLECTION / "roles").iterdir()))
def test_every_default_is_in_the_argument_specs(role: str) -> None:
    specs = yaml.safe_load((COLLECTION / "roles" / role / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((COLLECTION / "roles" / role / "defaults/main.yml").read_text())
    assert {name: options[name]["default"] for name in defaults} == defaults


def test_a_user_of_the_inventory_has_the_keys_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = yaml.safe_load((COLLECTION / "roles/ppctl_users/meta/argument_specs.yml").read_text())
    users = specs["argument_specs"]["main"]["options"]["ppctl_users_common"]["options"]
    module = load("module_utils/ppctl", monkeypatch)

    def plain(options: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {key: value for key, value in option.items() if key not in ("description", "options")}
            | ({"options": plain(option["options"])} if "options" in option else {})
            for name, option in options.items()
        }

    assert plain(users) == plain(module.USERS["options"])


@pytest.mark.e2e
def test_the_modules_are_documented() -> None:
    done = run("ansible-doc", "--json", "--playbook-dir", ".", *[f"ppctl.fleet.{name}" for name in MODULES])
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert len(found) == len(MODULES) == 6
    for name, module in found.items():
        assert module["doc"]["short_description"] and module["examples"], name
        assert module["return"], name


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["lookup", "filter", "callback"])
def test_the_other_plugins_are_documented(kind: str) -> None:
    (path,) = (COLLECTION / "plugins" / kind).glob("*.py")
    done = run("ansible-doc", "--json", "--type", kind, "--playbook-dir", ".", f"ppctl.fleet.{path.stem}")
    assert json.loads(done.stdout)[f"ppctl.fleet.{path.stem}"]["doc"]["short_description"]


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_is_what_the_module_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(f"modules/{name}", monkeypatch)
    documentation = yaml.safe_load(module.DOCUMENTATION)
    options = documentation.get("options", {})
    for fragment in documentation.get("extends_documentation_fragment", []):
        file, _, part = fragment.removeprefix("ppctl.fleet.").partition(".")
        shared = load(f"doc_fragments/{file}", monkeypatch).ModuleDocFragment
        options |= yaml.safe_load(getattr(shared, part.upper() or "DOCUMENTATION"))["options"]
    assert taken(arguments_of(module, monkeypatch)) == described(options)


@pytest.mark.parametrize("path", sorted(COLLECTION.glob("plugins/*/*.py")), ids=lambda path: path.stem)
def test_examples_name_everything_in_full(path: Path) -> None:
    _, found, examples = path.read_text().partition('EXAMPLES = r"""')
    if not found:
        return
    for task in yaml.safe_load(examples.partition('"""')[0]):
        (action,) = set(task) - {"name", "register", "when", "vars"}
        assert action.count(".") == 2, action
    assert re.findall(r"""lookup\(["'][^."']+["']""", examples) == []


def test_the_collection_has_the_version_of_ppctl() -> None:
    galaxy = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    assert galaxy["version"] == __version__
    assert f"\n## {__version__}\n" in (COLLECTION / "CHANGELOG.md").read_text()


def test_the_drop_in_is_what_doctor_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = yaml.safe_load((COLLECTION / "roles/ppctl_host/vars/main.yml").read_text())
    assert variables["ppctl_host_drop_in_text"] == programs.DROP_IN
    host = load("module_utils/host", monkeypatch)
    right, edited, gone = (str(tmp_path / name) for name in ("right", "edited", "gone"))
    Path(right).write_text(programs.DROP_IN)
    Path(edited).write_text(f"{programs.DROP_IN}#")
    wanted = dict.fromkeys((right, edited, gone), programs.DROP_IN)
    Path(right).chmod(0o644)
    monkeypatch.setattr(host.os.path, "isdir", lambda path: False)
    assert host.outdated_drop_ins(wanted) == [], "another init"
    monkeypatch.setattr(host.os.path, "isdir", lambda path: True)
    assert host.outdated_drop_ins(wanted) == [edited, gone]
    Path(right).chmod(0o666)
    assert host.outdated_drop_ins(wanted) == [edited, gone, right]


@pytest.mark.parametrize(
    ("port", "message", "is_free"),
    [
        (3142, "port: 0.0.0.0:3142 is taken by systemd (pid 1)", True),
        (3141, "port: 0.0.0.0:3141 is taken by systemd (pid 1)", True),
        (3143, "port: 0.0.0.0:3143 is taken by systemd (pid 1)", False),
        (3142, "name: expected text", False),
        (3142, "", False),
    ],
)
def test_a_port_that_is_left_in_the_same_run_is_no_obstacle(
    port: int, message: str, is_free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("old", "# x\nname: old\nport: 3142\n"), ("older", "name: older\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ppctl.yml").write_text(text)
    params = {
        "settings": {"port": port},
        "leaving": [str(tmp_path / name) for name in ("old", "older", "gone")],
    }
    index = load("modules/ppctl_index", monkeypatch)
    assert index.will_be_free(SimpleNamespace(params=params), {"message": message}) is is_free
    params["leaving"] = [str(tmp_path / "gone")]
    assert not index.will_be_free(SimpleNamespace(params=params), {"message": message})


@pytest.mark.parametrize("short", [["ann", "bob"], [], None])
def test_short_passwords_are_warned_of(
    short: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {"changes": []} if short is None else {"changes": [], "short_passwords": short}
    said: list[str] = []
    fake = SimpleNamespace(
        params={
            "home": str(tmp_path),
            "users": [],
            "exclusive": False,
            "allow_weak": False,
            "executable": "/bin/sh",
        },
        check_mode=False,
        run_command=lambda *_, **__: (0, json.dumps({"version": 1, "result": result}), ""),
        warn=said.append,
        exit_json=lambda **_: None,
    )
    users = load("modules/ppctl_users", monkeypatch)
    monkeypatch.setattr(users, "AnsibleModule", lambda **_: fake)
    users.main()
    warning = f"{tmp_path}: short passwords, which are soon guessed: ann, bob"
    assert said == ([warning] if short else [])


def test_two_controllers_install_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would begin with removing what the other one has half-made."""
    install = load("modules/ppctl_install", monkeypatch)
    params = {"path": tmp_path / "opt/ppctl", "link": tmp_path / "bin/ppctl", "digest": "0" * 64}
    params["archive"] = tmp_path / "opt/ppctl.wheelhouse.tar"
    told: list[dict[str, Any]] = []
    fake = SimpleNamespace(
        params={name: str(value) for name, value in params.items()},
        check_mode=False,
        exit_json=lambda **result: told.append(result),
    )
    monkeypatch.setattr(install, "AnsibleModule", lambda **_: fake)
    made: list[str] = []
    monkeypatch.setattr(install.Installation, "make", lambda each: made.append(each.path))
    program = params["path"] / ("0" * 12) / "bin/ppctl"
    program.parent.mkdir(parents=True)
    params["archive"].touch()
    with open(f"{params['path']}.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        late = threading.Thread(target=install.main, daemon=True)
        late.start()
        late.join(0.3)
        assert late.is_alive() and made == []
        program.touch(mode=0o755)
        program.parent.with_name("complete").touch()
    late.join(60)
    assert made == [] and told[0]["changed"]
    assert params["link"].resolve() == program and not params["archive"].exists()


def test_the_wheelhouse_of_another_controller_is_not_installed_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both copy theirs to the same path; what is installed would be taken for the other one for ever."""
    for name in ("a.whl", "b.whl", "ppctl.lock"):
        (tmp_path / name).write_text(name)
    names = ["a.whl", "b.whl", "ppctl.lock"]
    (tmp_path / "ours.tar").write_bytes(wheelhouse.archive(tmp_path, names))
    (tmp_path / "other.tar").write_bytes(wheelhouse.archive(tmp_path, names[:2]))
    install = load("modules/ppctl_install", monkeypatch)
    digest = wheelhouse.digest_of(tmp_path / name for name in names)
    for archive, message in (("ours.tar", "the wheelhouse is not for"), ("other.tar", "another wheelhouse")):
        params = {"path": tmp_path / "opt", "link": tmp_path / "ppctl", "archive": tmp_path / archive}
        fake = SimpleNamespace(
            params={"digest": digest, **{name: str(value) for name, value in params.items()}},
            fail_json=lambda *, msg: pytest.fail(msg),
        )
        with pytest.raises(pytest.fail.Exception, match=message):
            install.Installation(fake).make()
    assert os.listdir(tmp_path / "opt") == []


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
    # They do what they do in place: here tell what they would make of this machine.
    path = this_machine(tmp_path, PYPI)
    argv = ("ansible-playbook", "--inventory", str(path), "--check", "--diff", "ppctl.fleet.site")
    before = files(tmp_path)
    done = run(*argv, **where, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "then: ppctl up (after the installation of ppctl)" in done.stdout and "adduser ann" in done.stdout
    assert files(tmp_path) == before


PYPI = """
    - name: pypi
      settings: {port: 3141, manager: systemd}
      users:
        - name: ann
          password: Walrus-secret-3
"""


def this_machine(folder: Path, indexes: str, **more: str) -> Path:
    """Write an inventory in which this machine is the host, with everything in `folder`, and return it."""
    wheelhouse = folder / "wheelhouse"
    wheelhouse.mkdir()
    python = ".".join(map(str, sys.version_info[:2]))
    (wheelhouse / "wheelhouse.json").write_text(
        json.dumps({"version": 1, "digest": "0" * 64, "pythons": [python]})
    )
    variables = {
        "ansible_connection": "local",
        "ansible_become": "false",
        "ansible_python_interpreter": sys.executable,
        "ppctl_host_python": sys.executable,
        "ppctl_host_path": str(folder / "opt"),
        "ppctl_host_link": str(folder / "bin" / "ppctl"),
        "ppctl_host_wheelhouse": str(wheelhouse),
        "ppctl_index_root": str(folder / "srv"),
        **more,
    }
    lines = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in variables.items())
    path = folder / "hosts.yml"
    listed = indexes.replace("\n", "\n  ")
    path.write_text(f"all:\n  hosts: {{here: }}\n  vars:\n{lines}    ppctl_indexes:{listed}\n")
    return path


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("indexes", "more", "message", "line"),
    [
        (
            PYPI.replace("password:", "pasword:"),
            {},
            "pypi: users: ann: unknown pasword; there are",
            "pasword",
        ),
        (
            PYPI + PYPI.replace("pypi", "team"),
            {},
            "pypi and team would both listen on port 3141",
            "name: team",
        ),
        (PYPI, {"ppctl_host_wheelhouse": "/nowhere"}, "build one: ppctl wheelhouse /nowhere", ""),
        (
            PYPI,
            {"ppctl_host_wheelhouse": "", "ppctl_host_index_url": "https://me:pw@mirror.example.com/simple/"},
            "ppctl_host_index_url has a login in it",
            "",
        ),
        (
            PYPI,
            {"ppctl_proxy_server_name": "x.example.com", "ppctl_proxy_key_src": "files/x.key"},
            "there is no files/x.key on the controller",
            "",
        ),
    ],
)
def test_what_is_wrong_in_an_inventory_is_told_with_its_place(
    tmp_path: Path, indexes: str, more: dict[str, str], message: str, line: str
) -> None:
    path = this_machine(tmp_path, indexes, **more)
    done = run("ansible-playbook", "--inventory", str(path), "--check", "site.yml")
    assert done.returncode == 2 and message in done.stdout + done.stderr, done.stdout
    assert "Walrus-secret-3" not in done.stdout + done.stderr
    if line:
        numbers = [number for number, text in enumerate(path.read_text().splitlines(), 1) if line in text]
        assert f"{path}:{numbers[0]}" in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.e2e
def test_a_roll_out_begins_with_the_first_host_of_the_inventory(tmp_path: Path) -> None:
    """With that one, not with the first that answers: once it was looked at, it lets the others go first."""
    looked = tmp_path / "looked"
    for name, script in (
        ("python", f'touch {looked}; exec {sys.executable} "$@"'),
        ("connection", f"rm {looked} 2>/dev/null && sleep 1; echo local"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    slow = {
        "ansible_python_interpreter": str(tmp_path / "python"),
        "ansible_connection": f"{{{{ lookup('pipe', '{tmp_path / 'connection'}') }}}}",
    }
    path = this_machine(tmp_path, PYPI)
    listed = json.dumps({"b": slow, "c": {}, "a": {}})
    path.write_text(path.read_text().replace("{here: }", listed))
    # Both plays, and of the second one what comes before the roles: a look at who has failed before.
    done = run("ansible-playbook", "--inventory", str(path), "--check", "--tags", "always", "site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    batches = done.stdout.split("\nPLAY [Deploy the indexes]")[1:]
    asked = [re.findall(r"^skipping: \[(\w+)\]", batch, re.M) for batch in batches]
    assert asked[0] == ["b"] and sorted(asked[1]) == ["a", "c"], done.stdout
    assert not looked.exists(), "it never let the others go first"


@pytest.mark.e2e
def test_the_example_inventory_can_be_read() -> None:
    done = run("ansible-inventory", "--inventory", "inventory/example", "--list")
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    assert hosts["pypi1.example.com"]["ppctl_index_settings"]["workers"] == 4
    assert [index["name"] for index in hosts["pypi-test1.example.com"]["ppctl_indexes"]] == [
        "team",
        "internal",
    ]


def test_what_is_asked_for_is_taken_as_it_is_typed() -> None:
    """Ansible's own way: `{{` in a password is a template, and without a terminal it is the word `None`."""
    asked = []
    for path in (COLLECTION / "playbooks").glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            asked += [(path.name, each) for each in play.get("vars_prompt", [])]
    assert asked
    assert [name for name, each in asked if each.get("unsafe") is not True or each.get("default") != ""] == []


@pytest.mark.e2e
def test_what_is_sent_to_hosts_is_no_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users' names come from hosts (`users copy`): none may run anything on the controller."""
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    inventory, trace = tmp_path / "hosts.yml", tmp_path / "trace"
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    inventory.write_text(json.dumps({"all": {"hosts": {"here": here}}}))
    hostile = f"{{{{ lookup('ansible.builtin.pipe', 'touch {trace}') }}}}"
    variables = {
        "ppctl_on": "all",
        "ppctl_command": ["adduser", hostile],
        "ppctl_stdin": hostile * 2,  # another text, so that the command is shown
        "ppctl_home": hostile,
        "ppctl_read_only": False,
    }
    target = fleet.Target("all", (str(inventory),))
    (found,) = fleet.run("playbooks/command.yml", target, variables, lambda _: None, options=["--check"])
    assert (found.state, found.parts[0]["msg"]) == ("ok", f"would run: ppctl adduser {hostile}")
    assert not trace.exists()


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
