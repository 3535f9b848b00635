"""The wrappers around LangChain's models, put on once for all handlers."""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

from langchain_core.language_models import chat_models

from llmevents.instrumentation import _langchain_scopes as scopes


if TYPE_CHECKING:
    from llmevents.instrumentation._patching import Patches, Wrapper

CHAT: Mapping[str, Wrapper] = {
    "generate": scopes.generating,
    "agenerate": scopes.generating_async,
    "stream": scopes.streaming,
    "astream": scopes.streaming_async,
    "_generate_with_cache": scopes.asking,
    "_agenerate_with_cache": scopes.asking_async,
    "_iter_v2_events": scopes.asking_in_steps,
    "_aiter_v2_events": scopes.asking_in_steps_async,
    "_convert_cached_generations": scopes.finding_in_cache,
}
"""Methods of ``BaseChatModel`` -> what goes around them, as of langchain-core 1.7.

A method that a version lacks is left out.
"""

TEXT: Mapping[str, Wrapper] = {
    "generate": scopes.generating,
    "agenerate": scopes.generating_async,
    "stream": scopes.streaming,
    "astream": scopes.streaming_async,
    "_generate_helper": scopes.asking,
    "_agenerate_helper": scopes.asking_async,
}
"""Methods of ``BaseLLM`` likewise."""

LLMS = "langchain_core.language_models.llms"


class Models:
    """LangChain's classes of models, watched while anybody wants it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._users = 0
        self._is_watched_for_ever = False
        self._patches: Patches | None = None

    def watch(self) -> None:
        """Watch them from now on; for handlers that were made by hand."""
        with self._lock:
            if self._is_watched_for_ever:
                return
            self._is_watched_for_ever = True
        self.acquire()

    def acquire(self) -> None:
        """Count one more who wants it. Without wrapt nothing can be watched."""
        with self._lock:
            self._users += 1
            if self._patches is not None:
                return
            try:
                import wrapt
            except ModuleNotFoundError:
                return
            from llmevents.instrumentation._patching import Patches

            self._patches = patches = Patches()
            _wrap(chat_models.BaseChatModel, CHAT, patches)

        def imported(llms: ModuleType) -> None:
            with self._lock:
                if self._patches is patches:
                    _wrap(llms.BaseLLM, TEXT, patches)

        # Not under the lock, which an import under way needs for its hook.
        wrapt.register_post_import_hook(imported, LLMS)

    def release(self) -> None:
        """Count one fewer; without any, the classes get their methods back."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._patches is not None:
                self._patches.undo()
                self._patches = None


def _wrap(owner: type, methods: Mapping[str, Wrapper], patches: Patches) -> None:
    for name, wrapper in methods.items():
        if name in vars(owner):
            patches.wrap(owner, name, wrapper)


models = Models()
"""Those of this process."""
