"""Who uses how many tokens: a handler, a context, and the openai SDK.

Runs against the fake provider; point OpenAI() at your own and delete two lines.
"""

from __future__ import annotations

from collections import Counter

from openai import OpenAI

import llmevents
from llmevents.testing import FakeProvider


tokens: Counter[str] = Counter()


@llmevents.on("llm.chat.stop", "llm.chat.exception", handler_id="tokens by user")
def add(
    event: llmevents.EventName,
    measurements: llmevents.Measurements,
    metadata: llmevents.Metadata,
    config: object,
) -> None:
    tokens[metadata["user_id"]] += int(measurements.get("total_tokens", 0))


def ask(client: OpenAI, question: str) -> str | None:
    response = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": question}]
    )
    return response.choices[0].message.content


llmevents.instrument("openai")
with (
    FakeProvider() as provider,
    OpenAI(base_url=provider.base_url, api_key="none") as client,
):
    for user in ("ada", "grace", "ada"):
        with llmevents.context(user_id=user):
            ask(client, "What is an event bus?")

for user, count in tokens.most_common():
    print(f"{user:6} {count:4} tokens")
