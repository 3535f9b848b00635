"""Cache events: what a cache had, had not, stored and dropped.

For a cache of your own, say what happened:

    >>> from llmevents.llm.cache import Cache
    >>> from llmevents.testing import capture
    >>> answers = Cache("answers")
    >>> with capture("llm.cache.**") as events:
    ...     answers.hit(entry_size=2048)
    >>> events.names(), events[0].measurements
    (['llm.cache.hit'], {'count': 1, 'entry_size': 2048})

`ObservedCache` does so for any mapping, and `cached` puts one in front of a function.
While nobody listens, an event costs one look-up.
"""

from llmevents.llm.cache._cached import cached
from llmevents.llm.cache._events import Cache
from llmevents.llm.cache._keys import hash_key
from llmevents.llm.cache._observed import ObservedCache, byte_size


__all__ = [
    "Cache",
    "ObservedCache",
    "byte_size",
    "cached",
    "hash_key",
]
