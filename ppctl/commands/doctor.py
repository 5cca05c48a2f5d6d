"""`ppctl doctor`: what is wrong with an index, and what to type against it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from ppctl import checks, index
from ppctl.checks.base import Finding, Severity, Subject
from ppctl.errors import EXIT_FAILED, EXIT_OK, PpctlError
from ppctl.layout import Layout
from ppctl.machine import Machine
from ppctl.output import Output
from ppctl.server.text import printable

_ORDER = list(Severity)
_STYLES = {
    Severity.PROBLEM: ("✗", "bad"),
    Severity.WARNING: ("!", "warn"),
    Severity.SKIPPED: ("-", "dim"),
    Severity.OK: ("✓", "good"),
}
_PLURALS = {
    Severity.PROBLEM: "problems",
    Severity.WARNING: "warnings",
    Severity.SKIPPED: "skipped",
    Severity.OK: "ok",
}


def doctor(home: Path, machine: Machine, *, upstream: bool = False) -> int:
    """Examine the index at `home` and print the findings, the worst first.

    `upstream`: also ask the other index which projects it has.

    Returns 1 if there is a problem, else 0: warnings and checks that could not be made are told, but
    do not fail. Raises UsageError where there is no index at all.
    """
    findings = sorted(_examine(home, machine, upstream), key=lambda finding: _ORDER.index(finding.severity))
    counts = Counter(finding.severity for finding in findings)
    _show(findings, counts, machine.out)
    data = {
        "home": home,
        "counts": {severity.value: counts[severity] for severity in _ORDER},
        "findings": [finding.to_data() for finding in findings],
    }
    return machine.out.result(data, exit_code=EXIT_FAILED if counts[Severity.PROBLEM] else EXIT_OK)


def _examine(home: Path, machine: Machine, upstream: bool) -> list[Finding]:
    try:
        found = index.load(machine.host, home)
    except PpctlError as e:
        if not _is_there(Layout(home), machine):
            raise
        broken = Finding(Severity.PROBLEM, e.message, "", e.hint, checks.SETTINGS.name)
        return [broken, *checks.skip_others("ppctl.yml has to be mended first")]
    return checks.examine(Subject(found, machine, ask_upstream=upstream))


def _is_there(layout: Layout, machine: Machine) -> bool:
    """Return whether there is, or was, an index: a missing ppctl.yml beside a manifest is a finding."""
    try:
        return any(machine.host.stat(path) for path in (layout.settings, layout.manifest))
    except PpctlError:
        return False


def _show(findings: list[Finding], counts: Counter[Severity], out: Output) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        if finding.severity in (Severity.PROBLEM, Severity.WARNING):
            place = f"{finding.where}: " if finding.where else ""
            out.text(_line(finding.severity, finding.check, width, place + finding.message, out))
            if finding.mend:
                out.text(
                    " " * (_mark_width(out) + width + 4) + out.style("mend: ", "dim") + _safe(finding.mend)
                )
    for reason, names in _skipped(findings).items():
        out.info(_line(Severity.SKIPPED, "", 0, f"not checked: {', '.join(names)}: {reason}", out))
    for finding in findings:
        if finding.severity is Severity.OK:
            out.info(_line(Severity.OK, finding.check, width, finding.message, out))
    summary = [f"{counts[s]} {s.value if counts[s] == 1 else _PLURALS[s]}" for s in _ORDER if counts[s]]
    out.info(", ".join(summary))


def _skipped(findings: list[Finding]) -> dict[str, list[str]]:
    """Return the checks that were not made by the reason (and what would help), which is often the same."""
    reasons = defaultdict(list)
    for finding in findings:
        if finding.severity is Severity.SKIPPED:
            hint = f" ({finding.mend})" if finding.mend else ""
            reasons[finding.message + hint].append(finding.check)
    return reasons


def _line(severity: Severity, check: str, width: int, text: str, out: Output) -> str:
    sign, style = _STYLES[severity]
    mark = sign if _has_signs(out) else severity.value.ljust(_mark_width(out))
    middle = f"  {check.ljust(width)}  " if width else "  "
    return out.style(mark, style) + middle + _safe(text, " " * (len(mark) + len(middle)))


def _has_signs(out: Output) -> bool:
    """Return whether results go to a terminal that can show the signs; else words stand there."""
    encoding = (getattr(out.stdout, "encoding", None) or "").lower().replace("-", "")
    return out.stdout.isatty() and encoding == "utf8"


def _mark_width(out: Output) -> int:
    return 1 if _has_signs(out) else max(len(severity.value) for severity in Severity)


def _safe(text: str, indent: str = "") -> str:
    return f"\n{indent}".join(printable(line) for line in text.splitlines())
