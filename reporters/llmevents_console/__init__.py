"""The console reporter: metrics as a live table, or as lines where there is no terminal.

    pip install "llmevents[console]"

It reads the metric store about once a second, in a thread of its own, and nothing
else. In TOML its table is ``[reporters.console]`` of llmevents.toml.
"""

from __future__ import annotations


try:
    import rich  # noqa: F401  # only to say what is missing, and how to get it
except ModuleNotFoundError as error:
    _MESSAGE = (
        f"the console reporter needs {error.name!r}, which is not installed; "
        'run: pip install "llmevents[console]"'
    )
    raise ModuleNotFoundError(_MESSAGE, name=error.name, path=error.path) from error

from llmevents_console._reporter import ConsoleReporter


__all__ = ["ConsoleReporter"]
