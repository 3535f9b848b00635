"""`StatsDReporter`: options, and a thread between start and stop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from llmevents import LLMEventsError
from llmevents_statsd import _options
from llmevents_statsd._counts import Counts
from llmevents_statsd._lines import DogStatsD, Standard
from llmevents_statsd._metrics import plans
from llmevents_statsd._options import Options
from llmevents_statsd._series import Book
from llmevents_statsd._worker import Worker


if TYPE_CHECKING:
    from llmevents import Bus
    from llmevents.metrics import MetricStore
    from llmevents.reporting import ReporterStatus


class StatsDReporter:
    """Sends the metric store to a StatsD server, in datagrams.

    Counters and monotonic sums are sent as what came in since the last time,
    everything else that is a number as a gauge, distributions and summaries as values
    with sample rates. All is done in one daemon thread, host names included, and
    never waits for the network. What could not be sent is sent the next time; what
    the network loses without a word is lost.

    Args:
        host: Name or address of the server. A name is resolved when first needed, and
            again after a failure.
        port: UDP port.
        socket_path: Path of a Unix datagram socket, instead of *host* and *port*.
        format: ``"standard"``, or ``"datadog"`` for DogStatsD, which has tags.
        prefix: What all names begin with; a dot goes in between.
        tags: Global tags. A series that has the tag itself keeps its own.
        interval: Seconds between two looks at the store, 0.05 to 86,400. Servers of
            either kind show values every 10 seconds by default.
        mtu: Bytes of a datagram at most, 64 to 65,507. The default fits into an
            Ethernet frame, with room for tunnels.
        sample_rate: Lines to a value of a distribution or summary, more than 0 and at
            most 1. Nothing is lost: a line says for how many values it stands, and has
            their mean. By default 1 in the standard format, and a line per bucket in
            DogStatsD. A series has some 100 lines at a time at most. A metric's
            ``reporter_options={"statsd": {"sample_rate": 0.1}}`` win.

    Raises:
        OptionError: An option has a value that it cannot have.

    Examples:
        >>> import socket
        >>> from llmevents import Bus
        >>> from llmevents.metrics import Counter, MetricStore
        >>> from llmevents_statsd import StatsDReporter
        >>> server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        >>> server.bind(("127.0.0.1", 0))
        >>> bus = Bus()
        >>> store = MetricStore([Counter("llm.chat.stop.calls", tags=("model",))])
        >>> store.attach(bus)
        >>> reporter = StatsDReporter(port=server.getsockname()[1], prefix="shop")
        >>> reporter.start(bus, store)
        >>> bus.execute("llm.chat.stop", {}, {"model": "gpt-4o"})
        >>> reporter.stop(5.0)
        >>> server.recv(1432)
        b'shop.llm.chat.stop.calls.gpt-4o:1|c'
        >>> server.close()
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8125,
        socket_path: str | os.PathLike[str] | None = None,
        format: Literal["standard", "datadog"] = "standard",  # noqa: A002  # what it is called everywhere
        prefix: str = "",
        tags: Mapping[str, str | float] | None = None,
        interval: float = 10.0,
        mtu: int = 1432,
        sample_rate: float | None = None,
    ) -> None:
        self._options = Options(
            host=_options.read_host(host),
            port=_options.read_integer(port, "port", 1, _options.HIGHEST_PORT),
            socket_path=_options.read_path(socket_path),
            format=_options.read_format(format),
            prefix=_options.read_prefix(prefix),
            tags=_options.read_tags(tags),
            interval=_options.read_interval(interval),
            mtu=_options.read_integer(
                mtu, "mtu", _options.SMALLEST_MTU, _options.LARGEST_MTU
            ),
            sample_rate=_options.read_sample_rate(sample_rate),
        )
        self._worker: Worker | None = None
        self._metrics: MetricStore | None = None
        self._book: Book | None = None
        self._counts = Counts()

    def start(self, bus: Bus, metrics: MetricStore) -> None:  # noqa: ARG002  # the protocol's
        """Begin to send *metrics*; *bus* is not used.

        What the store holds already is sent too. After a stop, only what was not sent
        before, if it is the same store.

        Raises:
            LLMEventsError: It was started already, and not stopped.
            MetricDefinitionError: A metric has options for this reporter that there
                are not, or would be the same as another one.
        """
        if self._running() is not None:
            msg = "this reporter is started already; stop() it first"
            raise LLMEventsError(msg)
        options = self._options
        form = (DogStatsD if options.format == "datadog" else Standard)(
            options.prefix, options.tags
        )
        book = Book(plans(metrics.definitions, form, options.sample_rate), form)
        before = self._worker
        if before is not None and not before.belongs_here:
            # A parent process has sent what the book says, of a store of its own.
            before = self._book = None
            self._counts = Counts()
        if self._book is None or self._metrics is not metrics:
            self._book, self._metrics = book, metrics
        worker = Worker(metrics, self._book, self._counts, options, before)
        worker.start()
        self._worker = worker

    def flush(self, timeout: float) -> bool:
        """Send what there is now; return whether all was sent in *timeout* seconds."""
        worker = self._running()
        return worker is None or worker.flush(timeout)

    def stop(self, timeout: float) -> None:
        """Send what there is within *timeout* seconds, and end; then do nothing."""
        worker = self._running()
        if worker is not None:
            worker.stop(timeout)

    def status(self) -> ReporterStatus:
        """Return how many lines were handed to the operating system, or not.

        Dropped are those that could not be: by ``"oversize"`` (longer than the MTU),
        ``"negative"`` (a timer in the standard format) and ``"render_error"``, which
        are given up; by ``"refused"``, ``"unreachable"``, ``"unresolved"`` (the host's
        name), ``"would_block"``, ``"no_buffers"``, ``"too_long"`` (for the network),
        ``"stopped"`` and ``"send_error"``, whose numbers are sent in later lines.
        """
        return self._counts.status

    def _running(self) -> Worker | None:
        """Return the worker, unless it has ended or belongs to a parent process."""
        worker = self._worker
        return worker if worker is not None and worker.is_running() else None
