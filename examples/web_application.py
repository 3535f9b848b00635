"""Who asks, and what it costs: a Flask application whose answers are cached.

Runs without a server and without a model; a client's three requests are enough.
"""

from __future__ import annotations

import flask

import llmevents
from llmevents import llm
from llmevents.llm.cache import cached
from llmevents.web import WSGIMiddleware


app = flask.Flask(__name__)
app.wsgi_app = WSGIMiddleware(  # type: ignore[method-assign]  # as Flask's documentation has it
    app.wsgi_app, headers={"X-User-Id": "user_id"}
)


@cached({}, name="answers")
@llm.chat(provider="acme", model="tiny-1")
def answer(question: str) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": len(question)}}


@app.get("/ask")
def ask() -> str:
    answer(flask.request.args["question"])
    return "42"


@llmevents.on("llm.cache.*", "llm.*.stop", "http.**.stop", handler_id="show")
def show(
    event: llmevents.EventName,
    measurements: llmevents.Measurements,
    metadata: llmevents.Metadata,
    config: object,
) -> None:
    tokens = measurements.get("input_tokens", "-")
    print(f"{'.'.join(event):26} user={metadata['user_id']:6} tokens={tokens}")


client = app.test_client()
for user in ("ada", "grace", "ada"):
    client.get("/ask?question=why", headers={"X-User-Id": user})
