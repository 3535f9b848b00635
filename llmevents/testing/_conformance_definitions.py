"""Metrics to start a reporter with: of every type, and with odd names and texts."""

from __future__ import annotations

from collections.abc import Mapping

from llmevents.metrics import Counter, Distribution, LastValue, Metric, Sum, Summary


METRICS: Mapping[str, tuple[Metric, ...]] = {
    "no metric at all": (),
    "a Counter": (Counter("conformance.calls.total", event="llm.chat.*"),),
    "a Sum": (Sum("llm.chat.stop.output_tokens", tags=("model",), unit="token"),),
    "a Sum with monotonic=False": (
        Sum(
            "conformance.balance",
            event="llm.chat.stop",
            measurement=lambda _measurements, _metadata: -1,
            monotonic=False,
        ),
    ),
    "a LastValue": (LastValue("llm.chat.stop.duration", unit="nanosecond"),),
    "a Summary": (Summary("llm.chat.stop.duration", tags=("model", "missing")),),
    "a Distribution": (
        Distribution("llm.chat.stop.duration", unit=("nanosecond", "second")),
    ),
    "a metric whose tags a function makes": (
        Counter(
            "conformance.computed.total",
            event="llm.chat.*",
            tags=lambda measurements, _metadata: {"some": len(measurements)},
        ),
    ),
    "two definitions of one metric": tuple(
        Sum(
            "conformance.tokens.total",
            event="llm.chat.stop",
            measurement=f"{kind}_tokens",
            constant_tags={"token.type": kind},
        )
        for kind in ("input", "output")
    ),
}
"""What every reporter takes, or refuses when it is started."""

_TAGS = ("model", "text")

TAGGED: tuple[Metric, ...] = (
    Counter("conformance.hostile.count", event="llm.chat.*", tags=_TAGS),
    *(
        kind(
            f"conformance.hostile.{kind.__name__.lower()}",
            event="llm.chat.*",
            measurement="input_tokens",
            tags=_TAGS,
        )
        for kind in (Sum, LastValue, Summary, Distribution)
    ),
)
"""A metric of each type, with a tag of any text."""

ODD: Mapping[str, tuple[Metric, ...]] = {
    "a name with quotes and braces": (
        Counter(("odd", 'na"me{}', "x=1,y|z:#"), event="llm.chat.*"),
    ),
    "a name in another script": (Counter("zähler.данные.総数", event="llm.chat.*"),),
    "a name of a thousand letters": (Counter(f"n.{'x' * 1000}", event="llm.chat.*"),),
    "a tag with quotes and spaces": (
        Counter("odd.tag.total", event="llm.chat.*", tags=('mo"del {}=,|:#',)),
    ),
    "two tags that differ in punctuation": (
        Counter("odd.tags.total", event="llm.chat.*", tags=("a.b", "a_b")),
    ),
    "a description and a unit with line breaks": (
        Sum(
            "odd.text.total",
            event="llm.chat.*",
            measurement="input_tokens",
            unit='to\nken"}\x00',
            description='a\n# HELP b "c" \\ \ud800 \x00\x1b[0m',
        ),
    ),
    "a constant tag with line breaks": (
        Counter(
            "odd.constant.total",
            event="llm.chat.*",
            constant_tags={"text": 'a\nb"c\\ \ud800\x00'},
        ),
    ),
}
"""Likewise; back ends have rules of their own about names."""
