"""How many recorded exchanges come out right: ``python -m benchmarks truth``.

Each exchange is sent through the real SDK of its provider and answered with the bytes
that were recorded; what the events say of it is held against what those bytes state.
Then the same is asked of the peers that instrument the openai SDK, each in a process of
its own, as all of them patch the same functions. There is no network, and no chance: the
numbers are the same every time.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._truth_peers import PEERS, replay_peer


if TYPE_CHECKING:
    from llmevents.testing import CapturedEvents, FakeProvider
    from llmevents.testing.provider import Exchange

OPENAI = "openai"

BASE_URLS: Mapping[str, str] = {
    OPENAI: "https://api.openai.com/v1",
    "together": "https://api.together.xyz/v1",
    "groq": "https://api.groq.com/openai/v1",
}
"""Providers that are asked through the openai SDK -> where they are."""

NAMES: Mapping[str, str] = {
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "together": "together_ai",
    "vertex": "gcp.vertex_ai",
}
"""Provider in the recordings -> in events, where that differs."""

PREFIXES: Mapping[str, str] = {
    "text_completion": "llm.completion",
    "embeddings": "llm.embedding",
    "rerank": "llm.rerank",
}
"""Operation of a recording -> prefix of its events, where it is no chat."""

HTTP_ERROR = 400
WRONG_SHOWN = 20

Send = Callable[["Exchange"], object]

Key = tuple[str, str, bool]
"""Provider, operation, and whether it was streamed."""


class Outcome(NamedTuple):
    """What the events of one exchange came to; no complaint is exact."""

    key: Key
    complaints: list[str]


def replay_all() -> list[Outcome]:
    """Send every exchange through its SDK, instrumented, and look at the events."""
    import llmevents
    from llmevents import Bus
    from llmevents.testing import FakeProvider, capture
    from llmevents.testing.provider import read_exchanges
    from tests.data import EXCHANGES

    bus = Bus(strict=True)
    outcomes = []
    llmevents.instrument(bus=bus)
    try:
        with FakeProvider() as provider, _senders(provider) as senders:
            for exchange in read_exchanges(EXCHANGES):
                with capture(bus=bus, scope="process") as events:
                    senders[exchange.provider](exchange)
                outcomes.append(Outcome(_key(exchange), _wrongs(exchange, events)))
    finally:
        llmevents.uninstrument()
    return outcomes


def _key(exchange: Exchange) -> Key:
    return exchange.provider, exchange.operation, exchange.stream


def _wrongs(exchange: Exchange, events: CapturedEvents) -> list[str]:
    """Return what events say wrongly: counts, provider, model, status, HTTP status."""
    from tests.instrumentation.truth import complaints

    found = complaints(exchange, events, _prefix(exchange))
    if not events:
        return found
    failed = exchange.status >= HTTP_ERROR
    expected = {
        "provider": NAMES.get(exchange.provider, exchange.provider),
        "model": _model(exchange),
        "status": "error" if failed else "success",
        "http_status": exchange.status if failed else None,
    }
    said = events[-1].metadata
    return found + [
        f"{exchange.id}: {key} is {value!r}, told as {said.get(key)!r}"
        for key, value in expected.items()
        if said.get(key) != value
    ]


def _prefix(exchange: Exchange) -> str:
    if exchange.provider == "bedrock":
        # Of the models that were recorded these complete a text.
        completes = ("titan-text", "command-light-text")
        is_completion = any(part in exchange.path for part in completes)
        is_chat = exchange.operation == "converse" or not is_completion
        return "llm.chat" if is_chat else "llm.completion"
    return PREFIXES.get(exchange.operation, "llm.chat")


def _model(exchange: Exchange) -> object:
    """Return the model that was asked for: in the body, or else in the path."""
    if exchange.provider == "bedrock":
        from tests.instrumentation.bedrock_sdk import model_in

        return model_in(exchange)
    if exchange.provider in {"google", "vertex"}:
        return exchange.path.rpartition("/")[2].partition(":")[0]
    return exchange.request.get("model")


@contextmanager
def _senders(provider: FakeProvider) -> Iterator[dict[str, Send]]:
    """Provide a function for each provider that asks it like a recorded request."""
    from tests.instrumentation.anthropic_sdk import replay_anthropic
    from tests.instrumentation.bedrock_sdk import ask, make_client

    root = provider.base_url.removesuffix("/v1")
    bedrock = make_client(root)

    def answered(send: Send) -> Send:
        def serve_and_send(exchange: Exchange) -> object:
            with provider.serve(exchange):
                return send(exchange)

        return serve_and_send

    with ExitStack() as stack:
        google = _google(provider, root, stack)
        yield {
            **{name: _openai(name, stack) for name in BASE_URLS},
            **_small(root, answered, stack),
            "anthropic": lambda exchange: replay_anthropic(provider, exchange),
            "bedrock": answered(lambda exchange: ask(bedrock, exchange)),
            "google": google,
            "vertex": google,
        }


def _openai(name: str, stack: ExitStack) -> Send:
    """Return what asks through the openai SDK; no server is needed for that."""
    from tests.instrumentation.replay_openai import replay_openai
    from tests.instrumentation.sdk import client_of, http

    current: list[Exchange] = []

    # Request and response are the HTTP library's.
    def answer(_request: object) -> Any:  # noqa: ANN401
        (exchange,) = current
        kind = exchange.content_type or "application/json"
        return http.Response(
            exchange.status,
            headers={"content-type": kind},
            content=exchange.response,
        )

    client = stack.enter_context(
        client_of(answer, base_url=BASE_URLS[name], max_retries=0)
    )

    def send(exchange: Exchange) -> object:
        current[:] = [exchange]
        return replay_openai(client, exchange)

    return send


def _small(
    root: str, answered: Callable[[Send], Send], stack: ExitStack
) -> dict[str, Send]:
    """Return what asks the providers of which there are few recordings."""
    import cohere
    import ollama
    from mistralai.client import Mistral

    from tests.instrumentation.replay_cohere import replay_cohere
    from tests.instrumentation.replay_mistral import replay_mistral
    from tests.instrumentation.replay_ollama import replay_ollama

    mistral = stack.enter_context(Mistral(api_key="test", server_url=root))
    llama = ollama.Client(root)
    stack.enter_context(llama._client)  # noqa: SLF001  # it has no other way to be closed
    ranker = cohere.ClientV2(api_key="test", base_url=root)
    return {
        "mistral": answered(lambda exchange: replay_mistral(mistral, exchange)),
        "ollama": answered(lambda exchange: replay_ollama(llama, exchange)),
        "cohere": answered(lambda exchange: replay_cohere(ranker, exchange)),
    }


def _google(provider: FakeProvider, root: str, stack: ExitStack) -> Send:
    from tests.instrumentation.replay_google_genai import (
        as_answered,
        client_for,
        kind_of_client,
        replay_google_genai,
    )

    clients: dict[str, Any] = {}

    def send(exchange: Exchange) -> object:
        kind = kind_of_client(exchange)
        if kind not in clients:
            clients[kind] = client_for(exchange, root)
            stack.callback(clients[kind].close)
        with provider.serve(as_answered(exchange)):
            return replay_google_genai(clients[kind], exchange)

    return send


Table = dict[Key, list[int]]
"""How many, and how many of them are right in one or several ways."""


def _count(outcomes: Iterable[tuple[Key, list[bool]]]) -> Table:
    table: Table = defaultdict(list)
    for key, rights in outcomes:
        counts = table[key] or [0] * (1 + len(rights))
        added = zip(counts, [True, *rights], strict=True)
        table[key] = [count + right for count, right in added]
    return dict(sorted(table.items()))


def _sum(table: Table) -> list[int]:
    return [sum(column) for column in zip(*table.values(), strict=True)]


def _print_ours(table: Table) -> None:
    print("| provider | operation | streaming | exact / total |")
    print("| --- | --- | --- | ---: |")
    for (provider, operation, stream), (total, exact) in table.items():
        streaming = "yes" if stream else "no"
        print(f"| {provider} | {operation} | {streaming} | {exact} / {total} |")
    total, exact = _sum(table)
    print(f"| all | | | {exact} / {total} |")


def _print_peers(ours: Table, peers: Mapping[str, Table]) -> None:
    titles = [f"{name} {version(PEERS[name])}" for name in peers]
    print(
        "| operation | streaming | exchanges | llmevents | " + " | ".join(titles), "|"
    )
    print("| --- | --- | ---: |" + " ---: |" * (1 + len(peers)))
    for key, (total, exact) in ours.items():
        streaming = "yes" if key[2] else "no"
        cells = [_cell(peer[key]) for peer in peers.values()]
        print(f"| {key[1]} | {streaming} | {total} | {exact} |", " | ".join(cells), "|")
    total, exact = _sum(ours)
    cells = [_cell(_sum(peer)) for peer in peers.values()]
    print(f"| all | | {total} | {exact} |", " | ".join(cells), "|")


def _cell(counts: list[int]) -> str:
    _, exact, one_span, tokens = counts
    return f"{exact} ({one_span}, {tokens})"


def _ask_apart(peer: str) -> Table:
    """Return what a peer comes to in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.truth", peer]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own command
    rows = json.loads(done.stdout.splitlines()[-1])
    return _count(((key[0], key[1], key[2]), rights) for key, rights in rows)


def main(arguments: list[str]) -> int:
    """Print both tables, and return 1 if an exchange of ours is not exact."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if arguments:
        with ExitStack() as stack:
            print(json.dumps(replay_peer(arguments[0], _openai(OPENAI, stack))))
        return 0
    outcomes = replay_all()
    table = _count((each.key, [not each.complaints]) for each in outcomes)
    _print_ours(table)
    wrong = [line for each in outcomes for line in each.complaints]
    print(*wrong[:WRONG_SHOWN], sep="\n")
    print("Of the peers: exact (one span for the call, all tokens right).\n")
    ours = {key: counts for key, counts in table.items() if key[0] == OPENAI}
    _print_peers(ours, {peer: _ask_apart(peer) for peer in PEERS})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
