"""What responses and the parts of streams look like: where the usage is, and the facts.

A form is a table as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmevents.llm import _shapes
from llmevents.llm._fields import Path
from llmevents.llm._shape import Shape


Paths = tuple[Path, ...]

WHOLE: Path = ()
"""The part itself."""


class Form(NamedTuple):
    """One kind of response, or of part of one.

    Attributes:
        name: For the raw usage.
        inside: Where the response is that the part only wraps.
        usage: Where its usage may be; the first place that states any counts.
        shapes: The only shapes of its usage; any where there are none.
        extra: Places of further counts, and their shapes.
        lists: Count -> where the list is of which it is the length.
        one: The count that each such part adds one to.
        model: Where the model is that answered.
        id: Where the response's id is.
        tier: Where the service tier is, beside the usage itself.
        items: Where the list of choices is, if there may be several.
        reasons: Where, in each choice, the reason is why it ended.
        calls: What, in each choice, has calls of tools, and under which keys.
        vectors: Where the embeddings are.
        vector: Where, in each embedding, its numbers are.
        certain: Whether facts are read even if nothing else is there.
        adds: Whether usage adds up over parts, as LangChain's chunks do.
    """

    name: str
    inside: Path = WHOLE
    usage: Paths = ("usage",)
    shapes: tuple[Shape, ...] = ()
    extra: tuple[tuple[Path, Shape], ...] = ()
    lists: Mapping[str, Path] = {}
    one: str = ""
    model: Paths = ("model",)
    id: Paths = ("id",)
    tier: Paths = ("service_tier",)
    items: str = ""
    reasons: Paths = ()
    calls: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    vectors: Path = WHOLE
    vector: Path = "embedding"
    certain: bool = False
    adds: bool = False


CHAT = Form(
    "chat",
    # Moonshot has it in the first choice, Groq's streams in a place of its own.
    usage=("usage", ("choices", 0, "usage"), ("x_groq", "usage")),
    items="choices",
    reasons=("finish_reason", "stop_reason"),
    calls=(
        ("message", ("tool_calls", "function_call")),
        ("delta", ("tool_calls", "function_call")),
    ),
)

RESPONSE = Form(
    "response",
    extra=(("tool_usage", _shapes.TOOL_USAGE),),
    reasons=(("incomplete_details", "reason"), "status"),
    calls=((WHOLE, ("output",)),),
    certain=True,
)

REALTIME = RESPONSE._replace(name="realtime", extra=(), reasons=("status",))

DATA = Form(
    "data",
    shapes=(_shapes.OPENAI, _shapes.INPUT, _shapes.EMBEDDED),
    vectors="data",
)

MESSAGE = Form("message", reasons=("stop_reason",), calls=((WHOLE, ("content",)),))

MESSAGE_DELTA = Form(
    "message_delta", model=(), id=(), reasons=(("delta", "stop_reason"),), certain=True
)

GOOGLE = Form(
    "google",
    usage=("usageMetadata", "usage_metadata"),
    model=("modelVersion", "model_version"),
    id=("responseId", "response_id"),
    tier=(),
    items="candidates",
    reasons=("finishReason", "finish_reason"),
    calls=(("content", ("parts",)),),
)

INTERACTION = Form("interaction", reasons=("status",), calls=((WHOLE, ("steps",)),))

CONVERSE = Form(
    "converse",
    usage=("usage", ("metadata", "usage")),
    model=(),
    id=(),
    tier=(("serviceTier", "type"), ("metadata", "serviceTier", "type")),
    reasons=("stopReason", ("messageStop", "stopReason")),
    calls=(
        (("output", "message"), ("content",)),
        ("contentBlockStart", ("start",)),
    ),
    certain=True,
)

OLLAMA = Form(
    "ollama",
    usage=(WHOLE,),
    shapes=(_shapes.OLLAMA,),
    id=(),
    reasons=("done_reason",),
    calls=(("message", ("tool_calls",)),),
)

COHERE = Form(
    "cohere",
    usage=("usage", "meta"),
    id=("id", "response_id", "generation_id"),
    reasons=("finish_reason",),
    calls=(("message", ("tool_calls",)), (WHOLE, ("tool_calls",))),
)

COHERE_END = Form(
    "cohere_end",
    usage=(("delta", "usage"),),
    reasons=(("delta", "finish_reason"),),
    certain=True,
)

EMBEDDINGS = Form(
    "embeddings",
    usage=("usageMetadata", "usage_metadata", "meta", "usage", WHOLE),
    shapes=(
        _shapes.GOOGLE_EMBEDDING,
        _shapes.COHERE,
        _shapes.OPENAI,
        _shapes.OLLAMA,
        _shapes.TITAN,
    ),
    extra=(
        (WHOLE, _shapes.VERTEX_EMBEDDING),
        ("metadata", _shapes.CHARACTERS),
    ),
    vectors="embeddings",
    vector="values",
)

TITAN = Form(
    "titan",
    usage=(WHOLE,),
    shapes=(_shapes.TITAN,),
    model=(),
    id=(),
    items="results",
    reasons=("completionReason",),
    vectors="embedding",
    vector=WHOLE,
)

RANKING = Form("ranking", shapes=(_shapes.OPENAI, _shapes.COHERE, _shapes.EMBEDDED))
"""Voyage's, Jina's and others' rankings, and moderations."""

LLAMA = Form(
    "llama",
    usage=(WHOLE,),
    shapes=(_shapes.LLAMA,),
    model=(),
    id=(),
    reasons=("stop_reason",),
    certain=True,
)

GENERATIONS = Form(
    "generations",
    usage=("meta",),
    items="generations",
    reasons=("finish_reason",),
)

OUTPUTS = Form("outputs", model=(), id=(), items="outputs", reasons=("stop_reason",))

OCR = Form("ocr", usage=("usage_info",), lists={"pages": "pages"})

ANALYSIS = Form(
    "analysis",
    usage=(),
    lists={"pages": "pages"},
    model=("modelId", "model_id"),
    id=(),
)

IMAGES = {
    key: Form(key, lists={"images": key})
    for key in ("generatedImages", "generated_images")
}
"""Google's Imagen."""

TRANSCRIPT = Form("transcript", extra=((WHOLE, _shapes.VERBOSE),))

LANGCHAIN = Form(
    "langchain",
    usage=(
        "usage_metadata",
        ("response_metadata", "token_usage"),
        ("response_metadata", "usage"),
    ),
    model=tuple(
        ("response_metadata", key) for key in ("model_name", "model", "model_id")
    ),
    id=(("response_metadata", "id"), "id"),
    tier=(("response_metadata", "service_tier"),),
    reasons=tuple(
        ("response_metadata", key)
        for key in ("finish_reason", "stop_reason", "stopReason", "done_reason")
    ),
    calls=((WHOLE, ("tool_calls",)),),
    certain=True,
)

LANGCHAIN_CHUNK = LANGCHAIN._replace(name="langchain_chunk", adds=True)

RESULT = Form(
    "result",
    usage=(("llm_output", "token_usage"), ("llm_output", "usage")),
    model=(("llm_output", "model_name"), ("llm_output", "model")),
    id=(("llm_output", "id"),),
    tier=(("llm_output", "service_tier"),),
)
"""LangChain's ``LLMResult``; the messages in it are read before."""

STATED = Form("stated")
"""Anything else that has ``usage``."""

BARE = Form("bare", usage=(WHOLE,), model=(), id=(), tier=())
"""Nothing but a usage object."""

NOTHING = Form("nothing", usage=(), model=(), id=(), tier=())
