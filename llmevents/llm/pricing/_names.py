"""Providers and models under the names that others give them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping


def _aliases() -> dict[str, str]:
    names = {
        "aws": "aws.bedrock bedrock bedrock_converse aws_bedrock amazon_bedrock "
        "amazon-bedrock bedrock-runtime amazon",
        "azure": "azure.ai.openai azure.ai.inference azure.openai azure.ai azure_ai "
        "azure_openai azure-openai azure_text",
        "azure-di": "azure_di azure.ai.document_intelligence document_intelligence "
        "azure-document-intelligence azure_document_intelligence",
        "cohere": "cohere_chat cohere_v2 cohere-ai",
        "fireworks": "fireworks_ai fireworks-ai",
        "google": "gcp.gen_ai gcp.gemini gcp.vertex_ai gemini google_genai "
        "google-genai google_vertexai google_vertex_ai google-vertex google-gla "
        "google_ai google_gemini vertex vertexai vertex_ai google_generativeai",
        "google_search": "gcp.discovery_engine discovery_engine vertex_ai_search "
        "google_discovery",
        "google_speech": "gcp.speech google-speech google_cloud_speech",
        "google_translate": "gcp.translate google-translate google_translation "
        "google_cloud_translate",
        "google_vision": "gcp.vision google-vision google_cloud_vision",
        "mistral": "mistral_ai mistralai mistral-ai",
        "moonshotai": "moonshot_ai moonshot moonshot-ai",
        "openai": "text-completion-openai openai_chat",
        "perplexity": "perplexity_ai perplexity-ai",
        "together": "together_ai together-ai togetherai",
        "voyageai": "voyage voyage_ai voyage-ai",
        "x-ai": "x_ai xai x.ai",
        "zai": "z_ai z-ai z.ai",
    }
    return {
        alias: name
        for name, others in names.items()
        for alias in [name, *others.split()]
    }


ALIASES: Mapping[str, str] = _aliases()
"""How others write a provider -> the name that genai-prices has for it, if it has one.

From OpenTelemetry's GenAI conventions v1.41.0 (``gen_ai.provider.name``), LangChain's
``ls_provider``, LiteLLM's ``litellm_provider``, and the seeds of this project.
"""

VENDORS = frozenset(
    {"anthropic", "cohere", "deepseek", "google", "mistral", "moonshotai", "openai"}
    | {"perplexity", "voyageai", "x-ai", "zai", "groq", "azure", "aws", "together"}
    | {"fireworks", "cerebras", "ollama", "infinity", "tesseract"}
)
"""Providers that may stand before a slash in a model's name at a gateway."""

HOSTS = frozenset(
    {"together", "fireworks", "groq", "novita", "deepinfra", "cerebras", "baseten"}
    | {"nebius", "sambanova", "cloudflare", "databricks", "aws", "ovhcloud", "nscale"}
    | {"huggingface", "doubleword", "replicate", "ollama", "infinity", "vllm"}
)
"""Providers that run others' models at prices of their own: ``mistralai/...`` there is
no model at Mistral's price."""

_DATED = re.compile(r"(?:-latest|-\d{4}-\d{2}-\d{2}|[-@](?:19|20)\d{6}|-\d{3})$")
_FINE_TUNED = re.compile(r"(ft:[^:]+):.*", re.DOTALL)


def canonical(provider: str | None) -> str | None:
    """Return one name for all the names of a provider; None for none."""
    if not provider:
        return None
    name = provider.strip().lower()
    known = ALIASES.get(name)
    if known is None and name.startswith("vertex_ai-"):
        return (
            "google"  # LiteLLM: vertex_ai-language-models, vertex_ai-embedding-models
        )
    return known or name


def candidates(provider: str | None, model: str) -> Iterator[tuple[str | None, str]]:
    """Yield what may be meant by *model* at *provider*, the most literal first.

    Names of resources give way to the name in them, and ``vendor/model``, as
    gateways write it, to the vendor and its model.

    Args:
        provider: A canonical name, or None.
        model: As it was asked for or answered, in lower case.
    """
    yield provider, model
    if model.startswith(
        ("models/", "publishers/", "projects/", "arn:", "tunedmodels/")
    ):
        model = model.rpartition("/")[2]
        yield provider, model
    if provider in HOSTS or (provider or "").startswith("huggingface"):
        return
    while "/" in model:
        head, _, model = model.partition("/")
        vendor = canonical(head)
        if vendor in VENDORS or vendor == provider:
            yield vendor, model


def spellings(model: str) -> Iterator[str]:
    """Yield a model's name, and then without a date, version or training at its end.

    ``gpt-4o-2024-08-06`` may be meant by ``gpt-4o``, ``gemini-1.5-pro-002`` by
    ``gemini-1.5-pro``. A fine-tuned model is never meant by its base model, whose
    price is another: ``ft:gpt-4o:acme::1`` only by ``ft:gpt-4o``.
    """
    yield model
    tuned = _FINE_TUNED.fullmatch(model)
    if tuned:
        model = tuned[1]
        yield model
    plain = _DATED.sub("", model)
    if plain != model:
        yield plain
