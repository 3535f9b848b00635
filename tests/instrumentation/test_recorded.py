"""Recorded traffic of providers, through the real SDKs, against what its bodies state.

What is sent without a server is in ``test_openai_recorded.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple

import pytest

from llmevents import Bus
from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange
from tests.data import needs_data
from tests.instrumentation.replaying import (
    Replayed,
    model_in,
    recorded,
    replay,
    replay_async,
    replay_unnoticed,
    wrongs,
)


pytestmark = needs_data


class Way(NamedTuple):
    """How to ask: with which client, and what for."""

    name: str
    is_async: bool
    options: Mapping[str, object]


SYNC = Way("sync", is_async=False, options={})
ASYNC = Way("async", is_async=True, options={})
RAW_SYNC = Way("raw-sync", is_async=False, options={"raw": True})
RAW_ASYNC = Way("raw-async", is_async=True, options={"raw": True})


class SDK(NamedTuple):
    """An SDK, and what events say of all that was recorded of its providers.

    The module ``replay_<name>`` provides what asks: ``asking`` and ``asking_later``; and
    ``as_answered`` if an exchange has to be another for this SDK.
    """

    name: str
    module: str
    """What it is imported as."""

    providers: Mapping[str, str]
    """Name in the recordings -> name in events."""

    total: int
    """How many exchanges there are."""

    failed: tuple[int, ...] = ()
    """The HTTP status of each that failed."""

    stated: Mapping[str, int] = {}
    """Key of metadata -> how many calls state it."""

    used: Mapping[str, int] = {}
    """Measurement that is no count of tokens -> its sum."""

    ways: tuple[Way, ...] = (SYNC, ASYNC)

    ignored: tuple[str, ...] = ()
    """Warnings that are the SDK's own."""


SDKS = (
    SDK(
        name="anthropic",
        module="anthropic",
        providers={"anthropic": "anthropic"},
        total=25,
        stated={"stream": 7, "finish_reasons": 25, "response_model": 25},
        ways=(SYNC, ASYNC, RAW_SYNC, RAW_ASYNC),
        # Of models that were recorded long ago.
        ignored=("ignore:The model:DeprecationWarning",),
    ),
    SDK(
        name="bedrock",
        module="boto3",
        providers={"bedrock": "aws.bedrock"},
        total=86,
        failed=(400, 400, 400, 400),
        ways=(SYNC,),
    ),
    SDK(
        name="cohere",
        module="cohere",
        providers={"cohere": "cohere"},
        total=1,
        used={"searches": 1},
    ),
    SDK(
        name="google_genai",
        module="google.genai",
        providers={"google": "gcp.gemini", "vertex": "gcp.vertex_ai"},
        total=74,
        failed=(400, 400, 404),
        stated={"stream": 14, "response_model": 69},
        # It makes a subclass of the session of aiohttp.
        ignored=("ignore:Inheritance class:DeprecationWarning",),
    ),
    SDK(
        name="mistral",
        module="mistralai.client",
        providers={"mistral": "mistral_ai"},
        total=6,
        stated={"stream": 6, "finish_reasons": 6},
    ),
    SDK(
        name="ollama",
        module="ollama",
        providers={"ollama": "ollama"},
        total=10,
        failed=(404,),
        stated={"stream": 2},
    ),
)


CASES = [
    pytest.param(
        sdk,
        way,
        marks=[pytest.mark.filterwarnings(each) for each in sdk.ignored],
        id=f"{sdk.name}-{way.name}",
    )
    for sdk in SDKS
    for way in sdk.ways
]


@pytest.mark.parametrize(("sdk", "way"), CASES)
def test_every_exchange_is_measured_as_stated_and_passed_through(
    sdk: SDK, way: Way, provider: FakeProvider
) -> None:
    """What the events say is true; neither the caller nor the server notices."""
    pytest.importorskip(
        sdk.module, reason=f"{sdk.module} is missing, or of another major"
    )
    module = import_module(f"tests.instrumentation.replay_{sdk.name}")
    exchanges: Sequence[Exchange] = recorded(*sdk.providers)
    if hasattr(module, "as_answered"):
        exchanges = [module.as_answered(each) for each in exchanges]

    def ask_all(bus: Bus) -> list[Replayed]:
        if way.is_async:
            asking_later = partial(module.asking_later, **way.options)
            return replay_async(provider, exchanges, bus, asking_later)
        asking = partial(module.asking, **way.options)
        return replay(provider, exchanges, bus, asking)

    watched = replay_unnoticed(sdk.name, ask_all)
    assert wrongs(watched) == []
    assert len(watched) == sdk.total
    sent = [(call.path, call.request) for call in provider.calls]
    assert sent[sdk.total :] == sent[: sdk.total]
    ends = [each.events[-1] for each in watched]
    said = [end.metadata for end in ends]
    assert [
        (end["provider"], end["model"], end.get("stream", False)) for end in said
    ] == [
        (sdk.providers[each.provider], model_in(each), each.stream)
        for each in exchanges
    ]
    assert [(end["status"], end.get("http_status")) for end in said] == [
        ("error", each.status) if each.status >= 400 else ("success", None)
        for each in exchanges
    ]
    failed = [end["http_status"] for end in said if end["status"] == "error"]
    assert failed == [*sdk.failed]
    stated = {key: sum(bool(end.get(key)) for end in said) for key in sdk.stated}
    assert stated == sdk.stated
    used = {key: sum(end.measurements[key] for end in ends) for key in sdk.used}
    assert used == sdk.used
