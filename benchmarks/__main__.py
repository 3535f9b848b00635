"""Measures everything: ``python -m benchmarks``; see README.md."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterable

from benchmarks import _imports, _langchain, _ledger, _metrics, _sdk
from benchmarks._suites import SUITES as CORE_SUITES
from benchmarks._timing import Claim, measure


IMPORTS = "imports"
MEMORY = "memory"

SUITES = {
    **CORE_SUITES,
    "metrics": _metrics.metrics,
    "reporters": _metrics.reporters,
    "otel": _metrics.otel_spans,
    "scrape": _metrics.scrape,
    "ledger": _ledger.ledger,
}

CALLS = {"sdk": _sdk, "langchain": _langchain}
"""Suites whose candidates have a process each."""

Report = dict[str, object]
"""``best``: nanoseconds by candidate; ``claims``: what was held against what."""


def run(name: str, rounds: int) -> Report:
    """Measure one suite in this process."""
    if name == IMPORTS:
        # An interpreter takes as long to start as hundreds of blocks.
        best = _imports.measure(max(5, rounds // 100))
        return _report(best, _imports.CLAIMS)
    if name == MEMORY:
        return _report(_metrics.memory(), _metrics.MEMORY_CLAIMS)
    if name in CALLS:
        return _report(CALLS[name].measure(rounds), CALLS[name].CLAIMS)
    suite = SUITES[name]()
    return _report(measure(suite.candidates, rounds), suite.claims)


def _report(best: dict[str, float], claims: Iterable[Claim]) -> Report:
    return {
        "best": {name: round(value, 1) for name, value in best.items()},
        "claims": [
            {
                "candidate": claim.candidate,
                "against": claim.against or "limit in nanoseconds",
                "measured": round(claim.ratio(best), 4),
                "limit": round(claim.limit, 4),
                "kept": claim.ratio(best) <= claim.limit,
            }
            for claim in claims
        ],
    }


def _run_apart(name: str, rounds: int) -> Report:
    """Measure one suite in a process of its own: some switch things on for good."""
    command = [sys.executable, "-m", "benchmarks", "--suite", name, "--json"]
    command += ["--rounds", str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own command
    report: dict[str, Report] = json.loads(done.stdout)["suites"]
    return report[name]


def _print(reports: dict[str, Report]) -> None:
    for name, report in reports.items():
        print(f"\n{name}")
        best, claims = report["best"], report["claims"]
        assert isinstance(best, dict)  # noqa: S101  # made by _report()
        assert isinstance(claims, list)  # noqa: S101  # likewise
        for candidate, value in best.items():
            print(f"  {value:14,.1f}  {candidate}")
        for claim in claims:
            sign = "ok  " if claim["kept"] else "OVER"
            print(
                f"  {sign} {claim['measured']:.3f} <= {claim['limit']:.3f}  "
                f"{claim['candidate']} / {claim['against']}"
            )


def main() -> int:
    """Measure, print, and return 1 if a limit was not kept."""
    if sys.argv[1:2] == ["ledger-scale"]:
        from benchmarks import ledger_scale

        return ledger_scale.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*SUITES, *CALLS, MEMORY, IMPORTS]
    commands = ["truth", "ledger-scale"]
    parser.add_argument("command", nargs="?", choices=commands, help="see README.md")
    parser.add_argument("--suite", choices=names, help="only this one, in this process")
    parser.add_argument("--rounds", type=int, default=3000, help="blocks per candidate")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args()
    if options.command:
        from benchmarks import truth

        return truth.main([])
    if options.suite:
        reports = {options.suite: run(options.suite, options.rounds)}
    else:
        reports = {name: _run_apart(name, options.rounds) for name in names}
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({**machine, "suites": reports}, indent=2))
    else:
        _print(reports)
    claims = [claim for report in reports.values() for claim in _claims(report)]
    return 0 if options.suite or all(claim["kept"] for claim in claims) else 1


def _claims(report: Report) -> list[dict[str, object]]:
    claims = report["claims"]
    assert isinstance(claims, list)  # noqa: S101  # made by _report()
    return claims


if __name__ == "__main__":
    sys.exit(main())
