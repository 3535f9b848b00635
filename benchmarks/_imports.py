"""What importing costs, each time in a new interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter_ns

from benchmarks._timing import Claim


OPTIONAL = (
    "blinker",
    "structlog",
    "rich",
    "typer",
    "wrapt",
    "openai",
    "httpx",
    "httpx2",
)
"""Modules that ``import llmevents`` must leave alone."""

HELP_LIMIT = "3 x python -c pass, and import typer"

CLAIMS = (
    Claim("import llmevents", "import blinker", 1.5),
    Claim("optional modules imported", "", 0),
    Claim("llmevents --help", HELP_LIMIT, 1.0),
    Claim("instrument(), with the SDKs imported", "", 50_000_000),
)

SDKS = (
    "anthropic",
    "boto3",
    "cohere",
    "google.genai",
    "langchain_core.callbacks",
    "mistralai.client",
    "ollama",
    "openai",
)

TIMED = (
    "import time; begin = time.perf_counter(); import {module}; "
    "print(time.perf_counter() - begin)"
)

WHOLE = {
    "python -c pass": "pass",
    "llmevents --help": (
        "import sys; from llmevents.cli import main; sys.argv[1:] = ['--help']; main()"
    ),
}
"""What is timed from the start of the interpreter to its end."""

INSTRUMENTED = (
    f"import time, warnings, llmevents, {', '.join(SDKS)}; "
    "warnings.simplefilter('ignore'); begin = time.perf_counter(); "
    "llmevents.instrument(); print(time.perf_counter() - begin)"
)

MOST_INSTRUMENTED = 10
"""Times at the most: the SDKs take seconds to import."""


def measure(rounds: int) -> dict[str, float]:
    """Return the best import times in nanoseconds, and how many modules came along.

    Both modules are loaded from bytecode of the same new cache, as they are on a
    user's machine from the second time on.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return _measure(rounds, environment)


def _measure(rounds: int, environment: dict[str, str]) -> dict[str, float]:
    best: dict[str, float] = {}
    for _ in range(rounds):
        for module in ("blinker", "llmevents", "typer"):
            name = f"import {module}"
            source = TIMED.format(module=module)
            nanoseconds = float(_run(source, environment)) * 1e9
            best[name] = min(best.get(name, nanoseconds), nanoseconds)
        for name, source in WHOLE.items():
            begin = perf_counter_ns()
            _run(source, environment)
            nanoseconds = float(perf_counter_ns() - begin)
            best[name] = min(best.get(name, nanoseconds), nanoseconds)
    best[HELP_LIMIT] = 3 * best["python -c pass"] + best["import typer"]
    best["instrument(), with the SDKs imported"] = 1e9 * min(
        float(_run(INSTRUMENTED, environment))
        for _ in range(min(rounds, MOST_INSTRUMENTED))
    )
    listed = (
        f"import llmevents, sys; print(len(set({OPTIONAL!r}) & sys.modules.keys()))"
    )
    best["optional modules imported"] = float(_run(listed, environment))
    return best


def _run(source: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", source]
    done = subprocess.run(  # noqa: S603  # our own interpreter and source
        command, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout
