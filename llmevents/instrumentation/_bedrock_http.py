"""Attempts on the wire of botocore, which sends by urllib3 and repeats by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from llmevents.instrumentation._http import sending


if TYPE_CHECKING:
    from llmevents.instrumentation._patching import Wrapper


class _URL(NamedTuple):
    host: str | None
    port: int | None
    scheme: str


class _Request(NamedTuple):
    """A request as `llmevents.instrumentation._http` asks for it."""

    url: _URL
    headers: Mapping[str, Any]


class _Response(NamedTuple):
    """The answer to it."""

    status_code: int
    headers: Mapping[str, str]
    request: _Request


def attempting(service: str) -> Wrapper:
    """Return what goes around ``Endpoint._get_response``, which is one attempt.

    It returns the answer, or the error instead of raising it; whether there is to be
    another attempt is decided afterwards.
    """

    def getting(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        attempts = sending.get()
        if (
            attempts is None
            or len(args) < 2  # noqa: PLR2004  # request and operation
            or args[1].service_model.service_name != service
            or not attempts.takes(instance)
        ):
            return wrapped(*args, **kwargs)
        request = _request(args[0])
        span = attempts.begin(request)
        try:
            got = wrapped(*args, **kwargs)
        except BaseException as error:
            attempts.broken(error, span)
            raise
        success, failure = got
        if success is None:
            attempts.broken(failure, span)
        else:
            answer = success[0]
            attempts.answered(
                _Response(answer.status_code, answer.headers, request), span
            )
        return got

    return getting


def _request(request: Any) -> _Request:
    url: SplitResult = urlsplit(request.url)
    return _Request(_URL(url.hostname, url.port, url.scheme), request.headers)
