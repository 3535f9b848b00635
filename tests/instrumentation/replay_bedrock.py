"""Recorded traffic of Bedrock, through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from llmevents.testing import FakeProvider
from tests.instrumentation.bedrock_sdk import ask, make_client
from tests.instrumentation.replaying import Ask, root


@contextmanager
def asking(provider: FakeProvider) -> Iterator[Ask]:
    yield partial(ask, make_client(root(provider)))
