"""Calls of tools in responses: how many, and of which; never with what arguments."""

from __future__ import annotations

from collections.abc import Iterator

from llmevents.llm._fields import as_text, look_up


HOLDERS = ("function", "functionCall", "function_call", "toolUse", "custom")
"""Where a block has the call, if not in itself: OpenAI, Google's wire and SDK, Bedrock,
and OpenAI's custom tools."""

IDS = ("call_id", "id", "toolUseId")

CALLS = frozenset(
    {
        "tool_use",  # Anthropic
        "tool_call",  # LangChain
        "function_call",  # OpenAI's responses, and Google's interactions
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
    }
)
"""Types of blocks that ask the caller to run something."""


def tool_calls(blocks: object, *, all_are: bool) -> Iterator[tuple[str | None, str]]:
    """Yield id and name of each call that begins in *blocks*, a list or a single one.

    What carries on a call, as the parts of a stream do, has no name and is left out.

    Args:
        blocks: Of a message; most are none.
        all_are: Whether each block that has a name is a call.
    """
    for block in blocks if isinstance(blocks, (list, tuple)) else (blocks,):
        call = _call(block, all_are=all_are)
        if call is not None:
            yield call


def _call(block: object, *, all_are: bool) -> tuple[str | None, str] | None:
    for holder in HOLDERS:
        held = look_up(block, holder)
        name = as_text(look_up(held, "name"))
        if name is not None:
            return _id(block) or _id(held), name
    kind = as_text(look_up(block, "type"))
    if kind not in CALLS and not all_are:
        return None
    name = as_text(look_up(block, "name"))
    if name is None and kind in CALLS and not all_are:
        name = kind
    return None if name is None else (_id(block), name)


def _id(block: object) -> str | None:
    for key in IDS:
        found = as_text(look_up(block, key))
        if found is not None:
            return found
    return None
