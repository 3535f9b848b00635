"""Whose OpenTelemetry providers are used: the user's where there are any, else ours."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.sdk._logs import LoggerProvider as SDKLoggerProvider
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from llmevents_otel._processors import Offer, OfferLogRecords, OfferSpans


def scope() -> InstrumentationScope:
    """Return what all of our telemetry says that it comes from."""
    # Costs 30 ms to import.
    from importlib.metadata import version

    return InstrumentationScope("llmevents", version("llmevents"))


def make_resource(
    service_name: str | None, attributes: Mapping[str, Any] | Resource
) -> Resource:
    """Return the resource: the environment's, with what the options say over it."""
    if isinstance(attributes, Resource):
        given = attributes
        if service_name is not None:
            given = given.merge(Resource({SERVICE_NAME: service_name}))
    else:
        named = {} if service_name is None else {SERVICE_NAME: service_name}
        given = Resource.create({**attributes, **named})
    if SERVICE_INSTANCE_ID in given.attributes:
        return given
    return given.merge(_instance())


def _instance() -> Resource:
    return Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())})


class ProcessResource:
    """The resource of the metrics of this process.

    Two processes that send the same series under the same resource overwrite each
    other's, so that a forked child has to be another instance.
    """

    __slots__ = ("_is_given", "_pid", "_resource")

    def __init__(self, resource: Resource, *, is_given: bool) -> None:
        self._resource = resource
        self._is_given = is_given
        self._pid = os.getpid()

    def __call__(self) -> Resource:
        """Return it."""
        if self._pid != os.getpid() and not self._is_given:
            self._pid = os.getpid()
            self._resource = self._resource.merge(_instance())
        return self._resource


def user_tracer_provider(given: trace.TracerProvider | None) -> Any:  # noqa: ANN401
    """Return the provider that was *given*, or the global one; None if not set."""
    if given is not None:
        return given
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def user_logger_provider(given: LoggerProvider | None) -> Any:  # noqa: ANN401
    """Return the provider that was *given*, or the global one; None if not set."""
    if given is not None:
        return given
    provider = get_logger_provider()
    # What stands in for it has a private class, and no way to tell otherwise.
    is_proxy = type(provider).__name__ == "ProxyLoggerProvider"
    return None if is_proxy else provider


def own_tracer_provider(resource: Resource, offer: Offer) -> SDKTracerProvider:
    """Return a provider whose spans are offered to our exporter."""
    provider = SDKTracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(OfferSpans(offer))
    return provider


def own_logger_provider(resource: Resource, offer: Offer) -> SDKLoggerProvider:
    """Return a provider whose log records are offered to our exporter."""
    provider = SDKLoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(OfferLogRecords(offer))
    return provider
