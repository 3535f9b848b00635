"""`PrometheusReporter`: a collector, and a server for it if there is none."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from llmevents import LLMEventsError, OptionError
from llmevents.metrics import MetricDefinitionError
from llmevents_prometheus import _apps
from llmevents_prometheus._collector import Collector
from llmevents_prometheus._counts import Counts
from llmevents_prometheus._names import OWN, SUFFIXES, Exposed, collision, expose
from llmevents_prometheus._server import MetricsServer


if TYPE_CHECKING:
    from llmevents import Bus
    from llmevents.metrics import MetricStore, Snapshot
    from llmevents.reporting import ReporterStatus
    from llmevents_prometheus._apps import ASGIApp, WSGIApp
    from llmevents_prometheus._processes import SharedSnapshots

DEFAULT_PORT = 9568
"""As of ``telemetry_metrics_prometheus``, the reporter of Elixir."""

HIGHEST_PORT = 65_535

SHORTEST_TOKEN = 16
"""Characters: 128 bits, if each of them is any byte; more in hexadecimal."""

_LOGGER = "llmevents"


@dataclass(slots=True)
class _Session:
    """What there is between one start and one stop."""

    pid: int
    collector: Collector
    shared: SharedSnapshots | None = None
    server: MetricsServer | None = None


class PrometheusReporter:
    """Shows the metric store to Prometheus, in whichever format it asks for.

    By itself it answers at ``http://127.0.0.1:9568/metrics``. Where there is a
    registry or a web application already, it can be part of that instead::

        PrometheusReporter(port=None, registry=prometheus_client.REGISTRY)
        app.mount("/metrics", PrometheusReporter(port=None).asgi_app())

    A scrape reads the store in the thread that asks. Those who emit do not wait for
    it, and nothing is done between scrapes.

    Args:
        port: Where to listen; 0 for any port that is free, None for not at all.
        address: Likewise. Any but this machine's own addresses needs a *token*.
        registry: Where to collect, instead of in a registry of its own. A server of
            ours serves all of it.
        multiprocess_dir: A directory for those processes that are to be shown as
            one, such as the workers of a web server. Each of them then answers with
            the totals over all, and all may listen on one port.
        token: What to ask for as ``Authorization: Bearer``, 16 characters or more.

    Raises:
        OptionError: An option has a value that it cannot have.

    Examples:
        >>> from llmevents import Bus
        >>> from llmevents.metrics import Counter, MetricStore
        >>> from llmevents_prometheus import PrometheusReporter
        >>> bus, store = Bus(), MetricStore([Counter("llm.chat.stop.count")])
        >>> store.attach(bus)
        >>> reporter = PrometheusReporter(port=0)
        >>> reporter.start(bus, store)
        >>> from urllib.request import urlopen
        >>> bus.execute("llm.chat.stop", {})
        >>> for line in urlopen(reporter.url).read().decode().splitlines()[:3]:
        ...     print(line)
        # HELP llm_chat_stop_count_total Counter llm.chat.stop.count
        # TYPE llm_chat_stop_count_total counter
        llm_chat_stop_count_total 1.0
        >>> reporter.stop(1.0)
        >>> store.detach()
    """

    def __init__(
        self,
        *,
        port: int | None = DEFAULT_PORT,
        address: str = "127.0.0.1",
        registry: CollectorRegistry | None = None,
        multiprocess_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> None:
        _check_port(port)
        _check_token(token)
        _check_address(address, token)
        _check_registry(registry)
        self._port = port
        self._address = address
        self._registry = CollectorRegistry() if registry is None else registry
        self._directory = _checked_directory(multiprocess_dir)
        self._token = None if token is None else token.encode()
        self._counts = Counts()
        self._session: _Session | None = None
        self._shared: SharedSnapshots | None = None

    @property
    def port(self) -> int | None:
        """The port that it listens on; None if it does not."""
        server = self._server()
        return None if server is None else server.port

    @property
    def url(self) -> str | None:
        """Where the metrics are; None if it does not listen."""
        server = self._server()
        return None if server is None else server.url

    def start(self, bus: Bus, metrics: MetricStore) -> None:  # noqa: ARG002  # the protocol's
        """Begin to show *metrics*; *bus* is not used.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            MetricDefinitionError: A name or a label is none that Prometheus can
                have, or is taken, or `reporter_options` are wrong.
            OptionError: It cannot listen on this port or address.
        """
        if self._running() is not None:
            msg = "this reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        if self._session is not None:
            self._unregister(self._session)
        exposed = expose(metrics.definitions)
        shared = self._share()
        session = _Session(os.getpid(), self._collector(metrics, exposed, shared))
        self._register(session, exposed)
        try:
            if shared is not None:
                shared.start(metrics)
                session.shared = shared
            session.server = self._listen()
        except BaseException:
            self._end(session, time.monotonic())
            raise
        self._session = session

    def flush(self, timeout: float) -> bool:  # noqa: ARG002  # there is nothing to wait for
        """Show other processes what there is now; return whether that was done.

        Prometheus itself sees it at its next scrape.
        """
        # A forked child may take part in the totals, with the session of its parent.
        session = self._session
        if session is None or session.shared is None:
            return True
        try:
            session.shared.publish()
        except Exception:  # noqa: BLE001  # the directory, mostly
            return False
        return True

    def stop(self, timeout: float) -> None:
        """Finish the scrapes under way, and end; a second time does nothing.

        In a forked child it ends what the child does, not what its parent does.
        """
        session, self._session = self._session, None
        if session is not None:
            self._end(session, time.monotonic() + max(0.0, timeout))

    def status(self) -> ReporterStatus:
        """Return how many series were shown, summed over all scrapes.

        Dropped are series with a ``"bad_series"``: labels or values that Prometheus
        cannot have, which a definition with a function for its tags may come to.
        A scrape with a ``"scrape_error"`` could not show any, and counts as one.
        """
        return self._counts.status()

    def wsgi_app(self) -> WSGIApp:
        """Return a WSGI application that answers wherever it is mounted.

        It asks for the token, if there is one. Before the start and after the stop
        its page is empty.
        """
        return _apps.metrics_app(self._registry, self._token)

    def asgi_app(self) -> ASGIApp:
        """Return the same for ASGI. It runs in threads of the event loop's executor."""
        return _apps.to_asgi(self.wsgi_app())

    def _running(self) -> _Session | None:
        """Return the session, unless it belongs to a parent process."""
        session = self._session
        return session if session is not None and session.pid == os.getpid() else None

    def _server(self) -> MetricsServer | None:
        session = self._running()
        return None if session is None else session.server

    def _share(self) -> SharedSnapshots | None:
        """Return the totals over several processes, the same ones at each start.

        They know what this process has put into them already.
        """
        if self._shared is None and self._directory is not None:
            from llmevents_prometheus._processes import SharedSnapshots

            self._shared = SharedSnapshots(self._directory)
        return self._shared

    def _collector(
        self,
        metrics: MetricStore,
        exposed: tuple[Exposed, ...],
        shared: SharedSnapshots | None,
    ) -> Collector:
        if shared is None:
            return Collector(
                metrics.snapshot, exposed, self._counts, lambda: metrics.refused
            )

        def merged() -> Snapshot:
            return shared.merged(metrics.snapshot())

        return Collector(merged, exposed, self._counts, None)

    def _register(self, session: _Session, exposed: tuple[Exposed, ...]) -> None:
        try:
            self._registry.register(session.collector)
        except ValueError as error:
            raise _taken(exposed, str(error)) from error

    def _unregister(self, session: _Session) -> None:
        # Somebody may have emptied the registry.
        with suppress(KeyError):
            self._registry.unregister(session.collector)

    def _listen(self) -> MetricsServer | None:
        if self._port is None:
            return None
        is_local = _apps.is_loopback(self._address)
        page = _apps.own_page(self.wsgi_app(), check_host=self._token is None)
        server = MetricsServer(
            page, self._address, self._port, shared=self._directory is not None
        )
        if not is_local:
            logging.getLogger(_LOGGER).warning(
                "metrics can be read by other machines, at %s, in the clear, by those "
                "who have the token",
                server.url,
            )
        return server

    def _end(self, session: _Session, deadline: float) -> None:
        if session.server is not None and session.pid == os.getpid():
            session.server.stop(max(0.0, deadline - time.monotonic()))
        self._unregister(session)
        if session.shared is not None:
            session.shared.stop(max(0.0, deadline - time.monotonic()))


def _taken(exposed: tuple[Exposed, ...], complaint: str) -> MetricDefinitionError:
    """Return the error for names that the user's registry has already.

    The registry's *complaint* has them in quotes; as an attribute, it has them in the
    newest versions only.
    """
    other = "something in the registry that this reporter is to be part of"
    for each in exposed:
        for suffix in SUFFIXES[each.kind]:
            if repr(f"{each.name}{suffix}") in complaint:
                return collision(each, f"{each.name}{suffix}", other)
    reason = (
        f"it is one of llmevents' own, and belongs to {other}; perhaps to another "
        "PrometheusReporter, of which a registry can have one"
    )
    return MetricDefinitionError(next(iter(OWN)), reason)


def _check_port(port: object) -> None:
    if port is None or (type(port) is int and 0 <= port <= HIGHEST_PORT):
        return
    expected = f"None or an integer between 0 and {HIGHEST_PORT:,}"
    raise OptionError(port, "port", expected)


def _check_token(token: object) -> None:
    if token is None:
        return
    if (
        isinstance(token, str)
        and len(token) >= SHORTEST_TOKEN
        and token.strip() == token
    ):
        return
    shown = "[REDACTED]"
    expected = f"text of at least {SHORTEST_TOKEN} characters, without blanks around it"
    raise OptionError(shown, "token", expected)


def _check_address(address: object, token: str | None) -> None:
    if not isinstance(address, str) or not address:
        raise OptionError(address, "address", "an address or a name of this machine")
    if token is None and not _apps.is_loopback(address):
        expected = (
            "127.0.0.1, ::1 or localhost while there is no token; pass token= as well "
            "to let other machines read the metrics"
        )
        raise OptionError(address, "address", expected)


def _check_registry(registry: object) -> None:
    if registry is not None and not isinstance(registry, CollectorRegistry):
        raise OptionError(
            registry, "registry", "a prometheus_client.CollectorRegistry or None"
        )


def _checked_directory(directory: object) -> str | None:
    if directory is None:
        return None
    if isinstance(directory, (str, os.PathLike)):
        path = os.fspath(directory)
        if isinstance(path, str) and path:
            return path
    raise OptionError(directory, "multiprocess_dir", "a directory or None")
