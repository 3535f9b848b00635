"""Telling the form of a response, or of a part of one, by what is in it."""

from __future__ import annotations

from collections.abc import Mapping

from llmevents.llm._fields import Fields
from llmevents.llm._forms import (
    ANALYSIS,
    CHAT,
    COHERE,
    COHERE_END,
    CONVERSE,
    DATA,
    EMBEDDINGS,
    GENERATIONS,
    GOOGLE,
    IMAGES,
    INTERACTION,
    LANGCHAIN,
    LANGCHAIN_CHUNK,
    LLAMA,
    MESSAGE,
    MESSAGE_DELTA,
    NOTHING,
    OCR,
    OLLAMA,
    OUTPUTS,
    RANKING,
    REALTIME,
    RESPONSE,
    RESULT,
    STATED,
    TITAN,
    TRANSCRIPT,
    WHOLE,
    Form,
)


def _wraps(*inside: str | int) -> Form:
    return Form("wrapped", inside=inside, usage=(), model=(), id=(), tier=())


BY_TYPE: Mapping[str, Form] = {
    "message": MESSAGE,
    "message_start": _wraps("message"),
    "message_delta": MESSAGE_DELTA,
    # Anthropic's stream helper puts the whole message here.
    "message_stop": _wraps("message"),
    "content_block_start": Form(
        "block",
        usage=(),
        model=(),
        id=(),
        calls=((WHOLE, ("content_block",)),),
        certain=True,
    ),
    "content_block_delta": NOTHING,
    "content_block_stop": NOTHING,
    "ping": NOTHING,
    "response.created": _wraps("response"),
    "response.in_progress": _wraps("response"),
    "response.output_text.delta": NOTHING,
    "response.output_item.done": Form(
        "item", usage=(), model=(), id=(), calls=((WHOLE, ("item",)),), certain=True
    ),
    "response.completed": _wraps("response"),
    "response.incomplete": _wraps("response"),
    "response.failed": _wraps("response"),
    "response.done": _wraps("response"),  # Realtime
    "image_generation.completed": STATED._replace(name="image", one="images"),
    "image_edit.completed": STATED._replace(name="image", one="images"),
    "message-start": COHERE_END._replace(name="cohere_start"),
    "message-end": COHERE_END,
    "content-delta": NOTHING,
    "tool-call-start": COHERE_END._replace(
        name="cohere_call", calls=((("delta", "message"), ("tool_calls",)),), id=()
    ),
    "ai": LANGCHAIN,
    "AIMessageChunk": LANGCHAIN_CHUNK,
    "ChatGeneration": _wraps("message"),
    "ChatGenerationChunk": _wraps("message"),
}
"""Value of ``type`` -> form; other types are told by their keys."""

BY_OBJECT: Mapping[str, Form] = {
    "response": RESPONSE,
    "realtime.response": REALTIME,
    "chat.completion": CHAT,
    "chat.completion.chunk": CHAT,
    "text_completion": CHAT,
    "list": DATA,
    "conversation.response": STATED._replace(name="conversation", id=()),
}
"""Value of ``object`` -> form."""

BY_EVENT_TYPE: Mapping[str, Form] = {
    "stream-end": _wraps("response"),  # Cohere
    "text-generation": NOTHING,
    "interaction.created": _wraps("interaction"),
    "interaction.completed": _wraps("interaction"),
    "step.delta": NOTHING,
}
"""Value of ``event_type`` -> form."""

BY_KEY: tuple[tuple[str, Form], ...] = (
    ("response_metadata", LANGCHAIN),
    ("llm_output", RESULT),
    ("candidates", GOOGLE),
    ("embeddings", EMBEDDINGS),
    ("usageMetadata", GOOGLE),
    ("usage_metadata", GOOGLE),
    ("usage_info", OCR),
    ("analyzeResult", _wraps("analyzeResult")),
    ("prompt_eval_count", OLLAMA),
    ("done_reason", OLLAMA),
    ("eval_count", OLLAMA),
    ("done", OLLAMA),
    ("stopReason", CONVERSE),
    ("messageStop", CONVERSE),
    ("contentBlockStart", CONVERSE),
    ("meta", COHERE),
    ("finish_reason", COHERE),
    ("generation_token_count", LLAMA),
    ("inputTextTokenCount", TITAN),
    ("results", RANKING),
    ("generations", GENERATIONS),
    ("outputs", OUTPUTS),
    ("generatedImages", IMAGES["generatedImages"]),
    ("generated_images", IMAGES["generated_images"]),
    ("modelId", ANALYSIS),
    ("model_id", ANALYSIS),
    ("segments", TRANSCRIPT),
    ("words", TRANSCRIPT),
    ("chunk", _wraps("chunk", "bytes")),
    ("data", DATA),
    ("interaction", _wraps("interaction")),
    ("steps", INTERACTION),
    ("usage", STATED),
    ("metadata", CONVERSE),
)
"""Key that a part has, with any value but None -> form; the first counts."""


def recognise(part: Fields) -> Form | None:
    """Return the form of *part*, or None if it is none of a response."""
    if part.get("choices") is not None:
        return CHAT
    for key, forms in _DISCRIMINATORS:
        value = part.get(key)
        if type(value) is str and value in forms:
            return forms[value]
    for key, form in BY_KEY:
        if part.get(key) is not None:
            return form
    return None


_DISCRIMINATORS = (
    ("type", BY_TYPE),
    ("object", BY_OBJECT),
    ("event_type", BY_EVENT_TYPE),
)
