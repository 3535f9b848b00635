"""Exercises the installed wheel where nothing optional is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path


REPORTERS = ("console", "ledger", "otel", "prometheus", "statsd")

PACKAGES = {"llmevents", *(f"llmevents_{name}" for name in REPORTERS)}


def main() -> None:
    """Check what the wheel holds, use the bus, and ask for what is not there."""
    import llmevents

    files = distribution("llmevents").files or []
    tops = {file.parts[0] for file in files if "dist-info" not in file.parts[0]}
    tops -= {".."}  # the command, in bin
    assert tops == PACKAGES, f"the wheel holds {sorted(tops)}, not {sorted(PACKAGES)}"
    assert any(file.name == "py.typed" for file in files), "py.typed is missing"
    assert "site-packages" in str(Path(llmevents.__file__)), "not the wheel"

    seen = []
    with llmevents.attach("wheel", "**", lambda *event: seen.append(event[:2])):
        with llmevents.span("wheel.check"):
            llmevents.execute("wheel.used", {"count": 1})
        with llmevents.llm.chat(provider="openai", model="gpt-4o") as call:
            call.usage(input_tokens=1000, output_tokens=500)
    names = [".".join(name) for name, _ in seen]
    expected = ["wheel.check.start", "wheel.used", "wheel.check.stop"]
    call_events = ["llm.chat.start", "llm.cost.calculated", "llm.chat.stop"]
    assert names == [*expected, *call_events], names
    assert seen[-1][1]["cost_nano_usd"] == 7_500_000, seen[-1]

    llmevents.attach_default_logger()
    llmevents.detach_default_logger()
    _refuses(
        'llmevents.instrument("openai")', 'pip install "llmevents[instrumentation]"'
    )
    _refuses("llmevents.ledger.SqlStore", 'pip install "llmevents[ledger]"')
    for name in REPORTERS:
        load = f"llmevents.reporting.load_reporter({name!r})"
        _refuses(load, f'pip install "llmevents[{name}]"')
    with llmevents.configure(logger=False) as telemetry:
        llmevents.execute("llm.chat.stop", {"input_tokens": 5}, {"model": "tiny-1"})
        assert telemetry.usage().input_tokens == 5
    command = Path(sys.executable).with_name("llmevents")
    done = subprocess.run(
        [command, "events"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done
    assert 'pip install "llmevents[cli]"' in done.stderr, done.stderr
    print(f"the wheel of llmevents {distribution('llmevents').version} works as it is")


def _refuses(source: str, remedy: str) -> None:
    """Check that *source* fails with a message that says what to install."""
    import llmevents

    try:
        eval(source, {"llmevents": llmevents})
    except ModuleNotFoundError as error:
        assert remedy in str(error), error
        assert error.name, error
    else:
        msg = f"{source} worked without its extra"
        raise AssertionError(msg)


main()
