"""The Prometheus reporter: the metric store, to be scraped.

    pip install "llmevents[prometheus]"

It is a ``prometheus_client`` collector. By itself it serves what it collects at
http://127.0.0.1:9568/metrics; it can as well be part of a registry or an application
that is there already. In TOML its table is ``[reporters.prometheus]`` of llmevents.toml.
"""

from __future__ import annotations


try:
    import prometheus_client  # noqa: F401  # only to say what is missing, and how to get it
except ModuleNotFoundError as error:
    _MESSAGE = (
        f"the Prometheus reporter needs {error.name!r}, which is not installed; "
        'run: pip install "llmevents[prometheus]"'
    )
    raise ModuleNotFoundError(_MESSAGE, name=error.name, path=error.path) from error

from llmevents_prometheus._reporter import PrometheusReporter


__all__ = ["PrometheusReporter"]
