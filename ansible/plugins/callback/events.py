# Copyright: the ppctl authors. MIT license (see LICENSE)

from __future__ import annotations

DOCUMENTATION = r"""
---
name: events
type: stdout
short_description: What a play does, as lines of JSON
description:
  - Writes one JSON object a line, for C(ppctl --on), which shows them to people.
  - Holds only what ppctl's modules return for it; arguments are never written.
version_added: "0.1.0"
author: The ppctl authors (@ppctl)
"""

import json
import sys

from ansible.plugins.callback import CallbackBase

KEYS = (
    *("changed", "failed", "changes", "results", "msg", "pending", "indexes"),
    *("ppctl_index_name", "ppctl_users_index"),
)
# Of no interest to whoever waits.
SILENT = ("ansible.builtin.validate_argument_spec", "validate_argument_spec")


def step(task):
    """Return the name of a task, without that of its role."""
    return task.get_name(include_role_fqcn=False).rpartition(" : ")[2]


class CallbackModule(CallbackBase):
    """Tells each result of each host at once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "ppctl.fleet.events"

    def _write(self, event, **fields):
        # Not through the display: that would also write to the log file that an operator may have set.
        sys.stdout.write(json.dumps({"event": event, **fields}, default=str) + "\n")
        sys.stdout.flush()

    def _tell(self, state, result):
        data = result._result
        # Only the modules of ppctl loop; an item of theirs is one index.
        parts = [dict(each) for each in data["results"]] if result._task.loop else [dict(data)]
        self._write(
            "result",
            host=result._host.get_name(),
            state=state,
            action=result._task.resolved_action or result._task.action,
            step=step(result._task),
            changed=bool(data.get("changed")),
            message=str(data.get("msg", "")),
            parts=[{key: part[key] for key in KEYS if key in part} for part in parts],
        )

    def v2_playbook_on_play_start(self, play):
        variables = play.get_variable_manager().get_vars(play=play)
        self._write("hosts", hosts=list(variables.get("ansible_play_hosts_all", [])))

    def v2_runner_on_start(self, host, task):
        if task.action not in SILENT:
            self._write("start", host=host.get_name(), step=step(task))

    def v2_runner_on_skipped(self, result):
        self._write("skipped", host=result._host.get_name())

    def v2_runner_on_ok(self, result, **_kwargs):
        self._tell("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False, **_kwargs):
        if not ignore_errors:
            self._tell("failed", result)

    def v2_runner_on_unreachable(self, result, **_kwargs):
        self._tell("unreachable", result)
