"""The StatsD reporter: metrics as lines in datagrams, plain or for DogStatsD.

    pip install "llmevents[statsd]"

It reads the metric store every ten seconds or so, in a thread of its own, and nothing
else. In TOML its table is ``[reporters.statsd]`` of llmevents.toml.
"""

from __future__ import annotations


try:
    # Only to say what is missing, and how to get it; it has no types.
    import statsd  # type: ignore[import-untyped]  # noqa: F401
except ModuleNotFoundError as error:
    _MESSAGE = (
        f"the StatsD reporter needs {error.name!r}, which is not installed; "
        'run: pip install "llmevents[statsd]"'
    )
    raise ModuleNotFoundError(_MESSAGE, name=error.name, path=error.path) from error

from llmevents_statsd._reporter import StatsDReporter


__all__ = ["StatsDReporter"]
