"""Who answers behind an SDK that speaks OpenAI's language: told by the base URL.

The names are OpenTelemetry's (``gen_ai.provider.name``, semantic conventions v1.41.0),
and plain names where it has none. A host that is not known is ``openai``: that is
whose API it speaks, which is all that the client can know, and what OpenTelemetry's
own instrumentation says. Gateways that pass requests on are priced right by that,
since a price is looked up by the model's name, and servers of other models are priced
by nobody. A server that gives OpenAI's names to models of its own is the exception:
put ``llm.chat(provider="...")`` around its calls, or a price of zero in the price book.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


HOSTS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "amazonaws.com": "aws.bedrock",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "openrouter.ai": "openrouter",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "api.novita.ai": "novita",
    "api.sambanova.ai": "sambanova",
    "integrate.api.nvidia.com": "nvidia",
    "router.huggingface.co": "huggingface",
    "ollama.com": "ollama",
}
"""Host, or what a host ends in after a dot or a hyphen -> provider.

From the providers' own pages on compatibility with OpenAI. The hyphen is that of
``us-central1-aiplatform.googleapis.com``.
"""

PORTS: Mapping[int, str] = {11434: "ollama"}
"""Port that nobody else listens on -> provider, whatever the host is called."""

UNKNOWN = "openai"

MOST_SERVERS = 256
"""Base URLs remembered; programs that make a client for each call have many."""

_servers: dict[int, tuple[object, Mapping[str, object]]] = {}


def server_of(client: Any) -> Mapping[str, object]:
    """Return ``provider``, ``server_address`` and ``server_port`` of an SDK's client.

    The port is left out where it is the scheme's own. Remembered by the object that
    is the client's base URL, which a client has made for itself.
    """
    url = getattr(client, "_base_url", None)
    known = _servers.get(id(url))
    if known is not None and known[0] is url:
        return known[1]
    found = _server(client, url)
    if len(_servers) >= MOST_SERVERS:
        _servers.clear()
    _servers[id(url)] = (url, found)
    return found


def provider_of(host: str, port: int | None) -> str:
    """Return the provider that answers at *host*, by its domain or by the port."""
    if port is not None and port in PORTS:
        return PORTS[port]
    rest = host.lower().rstrip(".")
    while rest:
        if rest in HOSTS:
            return HOSTS[rest]
        cut = min((at for at in map(rest.find, ".-") if at >= 0), default=len(rest))
        rest = rest[cut + 1 :]
    return UNKNOWN


def _server(client: Any, url: Any) -> Mapping[str, object]:
    # By name: openai's Azure clients are imported lazily by nobody but their users.
    is_azure = "Azure" in type(client).__name__
    host, port = getattr(url, "host", None), getattr(url, "port", None)
    if not isinstance(host, str):
        host = ""
    provider = provider_of(host, port if isinstance(port, int) else None)
    stated = {
        "provider": "azure.ai.openai" if is_azure else provider,
        "server_address": host,
        "server_port": port,
    }
    return {key: value for key, value in stated.items() if value}
