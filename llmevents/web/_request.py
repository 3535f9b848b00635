"""What both kinds of middleware know of a request, and how they learn it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from llmevents._bus import Bus, default_bus
from llmevents._errors import OptionError
from llmevents._switch import disabled
from llmevents.web._parse import MAX_TEXT, MAX_VALUE, parse_from


if TYPE_CHECKING:
    from llmevents._types import Metadata

PREFIX: Final = "http.server.request"

METHODS: Final = frozenset(
    {
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY",
        "TRACE",
    }
)  # fmt: skip
"""The methods that OpenTelemetry knows (HTTP spans, v1.41.0); others are ``_OTHER``."""

SERVER_ERROR: Final = 500

MAX_PATH: Final = 1024
"""Characters of a path that are kept."""

MAX_FIELDS: Final = 64
"""Parameters of one query that are looked at."""

# A scope or an environment: the server's own, of any types.
Environment: TypeAlias = "Mapping[str, Any]"
ContextOf: TypeAlias = "Callable[[Any], Metadata | None]"
"""Makes context of a scope (ASGI) or an environment (WSGI)."""


class Facts(NamedTuple):
    """A request, as the span tells of it."""

    method: str
    scheme: str
    path: str

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the span's start."""
        path = self.path[:MAX_PATH].partition("?")[0].partition("#")[0]
        known = {
            "http_method": self.method if self.method in METHODS else "_OTHER",
            "url_scheme": self.scheme,
            "url_path": path,
        }
        return {key: value for key, value in known.items() if value}


class Settings:
    """The options of a middleware.

    Attributes:
        bus: Where to emit.
        disabled: Whether llmevents is turned off from outside.
        headers: Name in lower case -> key of the context.
    """

    __slots__ = ("_context", "_from_parameter", "_query", "bus", "disabled", "headers")

    def __init__(
        self,
        *,
        bus: Bus | None,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        from_parameter: str | None,
        context: ContextOf | None,
    ) -> None:
        from inspect import iscoroutinefunction

        if iscoroutinefunction(context):
            expected = (
                "a function that is no coroutine function; await before, in a "
                "middleware of your own that enters llmevents.context()"
            )
            raise OptionError(context, "context", expected)
        self.bus = default_bus if bus is None else bus
        self.disabled = disabled()
        self.headers = {
            name.lower(): key for name, key in _checked(headers, "headers").items()
        }
        self._query = _checked(query, "query")
        self._from_parameter = from_parameter
        self._context = context

    def is_heard(self) -> bool:
        """Whether anybody listens to requests."""
        return not self.bus.is_quiet(PREFIX)

    def context_of(
        self, environment: Environment, query: str, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the ambient metadata of a request; what cannot be read is left out.

        Args:
            environment: The scope or the environment.
            query: The query string.
            headers: The headers that were asked for, by the key of the context.
        """
        values: dict[str, Any] = {}
        if query and (self._query or self._from_parameter is not None):
            values.update(self._of_query(query))
        values.update({key: value[:MAX_VALUE] for key, value in headers.items()})
        if self._context is not None:
            try:
                values.update(self._context(environment) or {})
            except Exception:  # noqa: BLE001  # telemetry must not cost a request
                self.bus.refuse_value()
        return values

    def _of_query(self, query: str) -> dict[str, Any]:
        from urllib.parse import parse_qsl

        try:
            fields = dict(
                reversed(
                    parse_qsl(
                        query[: 4 * MAX_TEXT],
                        errors="replace",
                        max_num_fields=MAX_FIELDS,
                    )
                )
            )
        except ValueError:
            self.bus.refuse_value()
            return {}
        values: dict[str, Any] = {}
        if self._from_parameter is not None:
            values.update(parse_from(fields.get(self._from_parameter)))
        for parameter, key in self._query.items():
            if parameter in fields:
                values[key] = fields[parameter][:MAX_VALUE]
        return values


def _checked(mapping: Mapping[str, str] | None, option: str) -> dict[str, str]:
    """Return a copy of an option that maps names to keys.

    Raises:
        OptionError: It is something else.
    """
    expected = "a mapping of names to keys of the context, all text"
    try:
        checked = dict(mapping or {})
    except (TypeError, ValueError):
        raise OptionError(mapping, option, expected) from None
    if not all(isinstance(text, str) for pair in checked.items() for text in pair):
        raise OptionError(mapping, option, expected)
    return checked


def outcome(status: int | None, route: str | None) -> dict[str, Any]:
    """Return the metadata that a request has at its end."""
    known: dict[str, Any] = {}
    if status is not None:
        known["http_status"] = status
        if status >= SERVER_ERROR:
            known["status"] = "error"
    if route is not None:
        known["http_route"] = route
    return known


# Routes and requests are the frameworks' own: any attribute may be anything.
def route_of(holder: Any, *names: str) -> str | None:  # noqa: ANN401
    """Return the text found by following attributes; None if there is none."""
    with suppress(Exception):
        for name in names:
            holder = getattr(holder, name)
        if isinstance(holder, str):
            return holder[:MAX_PATH]
    return None
