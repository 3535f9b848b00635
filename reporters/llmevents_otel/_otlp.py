"""Requests to an OTLP endpoint, by OpenTelemetry's own exporters.

An exporter encodes and compresses, knows the environment variables and the TLS
settings. Left to itself it also retries, which hides how often, waits where nothing
can interrupt it, takes a redirect for a success, and logs every failure. So it is given
a session that always answers "200" and keeps the true outcome for us.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from time import monotonic
from typing import Any, Protocol

import requests

from llmevents_otel._deadline import Deadline, GuardedAdapter
from llmevents_otel._retry import DELIVERED, Action, Outcome, of_error, of_status


LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read: what is rejected fits into few."""

ENCODING_FAILED = Outcome(action=Action.SPLIT, reason="encode_error")
"""Nothing was sent: one of the records cannot be encoded."""


class Sender(Protocol):
    """Sends the records of one signal."""

    def send(self, records: Sequence[Any], timeout: float) -> Outcome:
        """Send one request, within *timeout* seconds. Never raises."""

    def abort(self) -> None:
        """Break off the request under way, from another thread."""

    def close(self) -> None:
        """Close connections and the exporter."""


class RecordingSession(requests.Session):
    """Does a request once, keeps what came of it, and tells the exporter it went well.

    Attributes:
        deadline: Of the request under way.
        outcome: Of the last request; None if there was none.
    """

    def __init__(self, count_rejected: Callable[[bytes], int]) -> None:
        super().__init__()
        self.deadline = Deadline()
        self.outcome: Outcome | None = None
        self._count_rejected = count_rejected
        for scheme in ("http://", "https://"):
            self.mount(scheme, GuardedAdapter(self.deadline))

    def request(  # type: ignore[override]  # it returns what an exporter looks at
        self,
        method: str,
        url: str,
        **options: Any,  # noqa: ANN401  # those of requests
    ) -> requests.Response:
        """Do the request; the true outcome is in `outcome` afterwards."""
        options["timeout"] = max(0.001, self.deadline.at - monotonic())
        # Headers with credentials are for this address and no other.
        options["allow_redirects"] = False
        options["stream"] = True
        if self.verify is not True:
            # Else REQUESTS_CA_BUNDLE would win over OTEL_EXPORTER_OTLP_CERTIFICATE.
            options["verify"] = self.verify
        try:
            with super().request(method, url, **options) as response:
                self.outcome = self._read(response)
        except Exception as error:  # noqa: BLE001  # whatever it is has a meaning
            self.outcome = of_error(error)
        answer = requests.Response()
        answer.status_code = 200
        answer.reason = "OK"
        answer._content = b""  # noqa: SLF001  # an answer made by hand has no other way
        return answer

    def _read(self, response: requests.Response) -> Outcome:
        body = response.raw.read(LONGEST_ANSWER, decode_content=True)
        outcome = of_status(response.status_code, response.headers)
        if outcome.action is not Action.DONE or not body:
            return outcome
        rejected = self._count_rejected(body)
        if rejected <= 0:
            return outcome
        return Outcome(action=Action.DONE, reason="rejected", rejected=rejected)


class OTLPSender:
    """Sends by one of OpenTelemetry's OTLP/HTTP exporters.

    Args:
        make_exporter: Gets the session, returns the exporter.
        export: Hands records to the exporter; False if that failed.
        count_rejected: Reads from an answer how many records were refused.
    """

    def __init__(
        self,
        make_exporter: Callable[[requests.Session], Any],
        export: Callable[[Any, Sequence[Any]], bool],
        count_rejected: Callable[[bytes], int],
    ) -> None:
        self._session = RecordingSession(count_rejected)
        with filtered(logging.getLogger("opentelemetry.util.re"), _HideHeaders()):
            self._exporter = make_exporter(self._session)
        self._export = export
        self._logger = logging.getLogger(type(self._exporter).__module__)

    def send(self, records: Sequence[Any], timeout: float) -> Outcome:
        """Send one request, within *timeout* seconds. Never raises."""
        session = self._session
        session.outcome = None
        session.deadline.at = monotonic() + timeout
        try:
            with filtered(self._logger, _Silence()):
                self._export(self._exporter, records)
        except Exception:  # noqa: BLE001  # encoders raise all kinds
            return ENCODING_FAILED
        outcome: Outcome | None = self._session.outcome
        return ENCODING_FAILED if outcome is None else outcome

    def abort(self) -> None:
        """Break off the request under way, from another thread."""
        self._session.deadline.abort()

    def close(self) -> None:
        """Close connections and the exporter."""
        self._exporter.shutdown()


class ForeignSender:
    """Sends by an exporter of the user's, which has its own way of trying again."""

    def __init__(
        self, exporter: object, export: Callable[[Any, Sequence[Any]], bool]
    ) -> None:
        self._exporter = exporter
        self._export = export

    def send(self, records: Sequence[Any], timeout: float) -> Outcome:  # noqa: ARG002
        """Hand *records* to the exporter."""
        try:
            done = self._export(self._exporter, records)
        except Exception as error:  # noqa: BLE001  # foreign code
            return Outcome(
                action=Action.DROP,
                reason="exporter_error",
                error_type=type(error).__name__,
            )
        if done:
            return DELIVERED
        return Outcome(action=Action.DROP, reason="exporter_failure")

    def abort(self) -> None:
        """Do nothing: there is no way to."""

    def close(self) -> None:
        """Do nothing: the exporter is the user's."""


class _Silence(logging.Filter):
    """Drops what this thread logs: we log failures ourselves, and not each."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


class _HideHeaders(logging.Filter):
    """Takes out what OpenTelemetry logs of a malformed header: all of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = "a header in an OTEL_EXPORTER_OTLP_*HEADERS variable is malformed"
        record.args = ()
        return True


@contextmanager
def filtered(logger: logging.Logger, what: logging.Filter) -> Iterator[None]:
    """Have *logger* filtered for a while."""
    logger.addFilter(what)
    try:
        yield
    finally:
        logger.removeFilter(what)
