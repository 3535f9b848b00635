"""Making the parts of a usage fit the whole."""

from __future__ import annotations


def settle(known: dict[str, int]) -> None:
    """Correct *known* where its numbers show how a provider counts.

    - More cached input than input: the input excludes it. Some gateways pass on
      Anthropic's input as ``prompt_tokens``.
    - A total that has the reasoning beside the output: the output excludes it, as
      xAI's does ("Chat completions", usage).
    - A total that is less than input and output: it lacks the cached input. It is
      dropped, and so becomes their sum.
    """
    entered = known.get("input_tokens")
    if entered is None:
        return
    read = known.get("cache_read_tokens", 0)
    written = known.get("cache_write_tokens", 0)
    if read > entered or written > entered:
        entered = known["input_tokens"] = entered + read + written
    left, total = known.get("output_tokens"), known.get("total_tokens")
    if left is None or total is None:
        return
    reasoning = known.get("reasoning_tokens", 0)
    if reasoning and total == entered + left + reasoning:
        known["output_tokens"] = left + reasoning
    elif total < entered + left:
        del known["total_tokens"]
