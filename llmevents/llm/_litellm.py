"""What LiteLLM calls providers."""

from __future__ import annotations

from collections.abc import Mapping


PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "anthropic_text": "anthropic",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "ollama_chat": "ollama",
    "text-completion-codestral": "mistral_ai",
    "text-completion-openai": "openai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""LiteLLM's provider -> OpenTelemetry's name (GenAI conventions v1.41.0).

Names that are not here are the same in both, or OpenTelemetry has none; LiteLLM's
names for the parts of Vertex all begin with ``vertex_ai``.
"""


def named(provider: str) -> str:
    """Return OpenTelemetry's name of one of LiteLLM's providers."""
    if provider.startswith("vertex_ai"):
        return "gcp.vertex_ai"
    return PROVIDERS.get(provider, provider)
