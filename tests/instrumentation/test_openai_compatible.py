"""Who answers behind a client of openai: told by its base URL."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from llmevents.instrumentation import _compatible
from llmevents.instrumentation._compatible import provider_of, server_of
from llmevents.testing import CapturedEvents
from tests.instrumentation.sdk import MESSAGES, answer, client_of


@pytest.mark.parametrize(
    ("host", "port", "provider"),
    [
        ("api.openai.com", None, "openai"),
        ("eu.api.openai.com", None, "openai"),
        ("mine.openai.azure.com", None, "azure.ai.openai"),
        ("mine.services.ai.azure.com", None, "azure.ai.inference"),
        ("api.groq.com", None, "groq"),
        ("API.GROQ.COM.", None, "groq"),
        ("api.deepseek.com", None, "deepseek"),
        ("api.mistral.ai", None, "mistral_ai"),
        ("api.perplexity.ai", None, "perplexity"),
        ("api.x.ai", None, "x_ai"),
        ("api.together.xyz", None, "together_ai"),
        ("openrouter.ai", None, "openrouter"),
        ("generativelanguage.googleapis.com", None, "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", None, "gcp.vertex_ai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", None, "aws.bedrock"),
        ("localhost", 11434, "ollama"),
        ("host.docker.internal", 11434, "ollama"),
        ("localhost", 8000, "openai"),
        ("llm-gateway.example", None, "openai"),
        ("notapi.groq.com.example", None, "openai"),
        ("xai", None, "openai"),
        ("", None, "openai"),
    ],
)
def test_a_provider_is_known_by_its_host(
    host: str, port: int | None, provider: str
) -> None:
    assert provider_of(host, port) == provider


def test_events_name_the_provider_and_its_address(events: CapturedEvents) -> None:
    refusal = {"error": {"message": "Refused."}}
    client = client_of(
        lambda _request: answer(refusal, 400),
        base_url="https://api.groq.com/openai/v1?key=canary",
    )
    with pytest.raises(openai.BadRequestError, match="Refused"):
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert events[0].metadata["provider"] == "groq"
    assert events[0].metadata["server_address"] == "api.groq.com"
    assert "canary" not in repr(events)


def test_a_client_whose_url_is_changed_is_told_by_the_new_one() -> None:
    client = client_of(answer, base_url="https://api.groq.com/openai/v1")
    assert server_of(client)["provider"] == "groq"
    assert server_of(client) is server_of(client)
    client.base_url = "https://api.x.ai/v1"
    assert server_of(client)["provider"] == "x_ai"
    assert server_of(client.with_options(timeout=1))["provider"] == "x_ai"


def test_so_many_servers_are_remembered_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_compatible, "_servers", {})
    monkeypatch.setattr(_compatible, "MOST_SERVERS", 2)
    clients = [client_of(answer, base_url="https://api.x.ai/v1") for _ in range(5)]
    for client in clients:
        assert server_of(client)["provider"] == "x_ai"
    assert len(_compatible._servers) <= 2


class _NoClient:
    """What has no base URL, or an odd one."""

    _base_url: Any = 3


@pytest.mark.parametrize("client", [None, _NoClient()], ids=["none", "odd"])
def test_a_client_without_a_url_is_openais(client: object) -> None:
    assert server_of(client) == {"provider": "openai"}
