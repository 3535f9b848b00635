"""The pricer: which source prices a call, and its plan."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK
from llmevents._errors import OptionError
from llmevents.llm._windows import DAY, utc_period
from llmevents.llm.pricing._book import PriceBook
from llmevents.llm.pricing._library import Library, is_on_event_loop, library
from llmevents.llm.pricing._names import canonical
from llmevents.llm.pricing._plan import Price, RatePlan
from llmevents.llm.pricing._recent import Recent
from llmevents.llm.pricing._sources import Listed, Query, Source


if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

    from llmevents.llm.usage import Usage

GENAI = 1
"""Place of genai-prices among the sources."""

CONFIG_KEYS = ("models", "built_in", "genai_prices", "litellm_prices")

Key: TypeAlias = tuple[
    "str | None", "str | None", "str | None", "str | None", bool, int
]
"""Provider, model, response model, service tier, batch, and day since 1970 in UTC."""


class _Entry(NamedTuple):
    """What has been found for one key so far.

    Attributes:
        plans: Of the sources that were asked, in their order.
        asked: How many sources were asked.
        since: From when it holds, within its day.
        until: When it ends.
    """

    plans: tuple[RatePlan, ...]
    asked: int
    since: int
    until: int


class _Found(NamedTuple):
    """What was found so far, for as long as the prices stay as they are."""

    book: PriceBook
    snapshot: DataSnapshot | None
    sources: tuple[Source | None, ...]
    entries: Recent[Key, _Entry]


class Pricer:
    """Prices calls.

    From these sources, in this order:

    1. an explicit override, given with the call;
    2. what the provider stated with its response;
    3. your own price book;
    4. genai-prices, if it is installed (``pip install "llmevents[prices]"``);
    5. LiteLLM's list, if a file is given;
    6. the built-in table.

    Each is asked for the model that answered, and then for the one that was asked
    for. If none prices anything of what a call used, the call is unpriced: the cost
    is unknown, and never 0.

    genai-prices takes most of a second to load. It is loaded in a thread of its own,
    at the first call or by `warm_up`. Until it is there, a call that ends in a plain
    thread waits for it, at most 2 seconds from the begin of loading; one that ends on
    an event loop does not, and is priced by what there is. The prices of models that
    the built-in table has are the same in both. Start with `warm_up` to have the same
    prices from the first call on.

    Safe to use from any thread; takes no lock when it prices.

    Args:
        prices: A price book, or what makes one.
        built_in: Whether to use the built-in sources at all: the built-in table, and
            genai-prices.
        genai_prices: Whether to use genai-prices.
        litellm_prices: A copy of LiteLLM's ``model_prices_and_context_window.json``.

    Raises:
        OptionError: A price is wrong, or the file cannot be used.

    Examples:
        >>> from llmevents.llm import Usage
        >>> from llmevents.llm.pricing import Pricer
        >>> pricer = Pricer({"acme/scan": {"per_page": 0.01}}, genai_prices=False)
        >>> pricer.price(
        ...     Usage(input_tokens=1000, output_tokens=500),
        ...     provider="openai",
        ...     model="gpt-4o",
        ... )
        Price(cost_nano_usd=7500000, source='builtin', price_date='2026-11-21')
    """

    __slots__ = (
        "__weakref__",
        "_book",
        "_built_in",
        "_found",
        "_library",
        "_litellm",
        "_lock",
    )

    def __init__(
        self,
        prices: PriceBook | Mapping[str, object] | None = None,
        *,
        built_in: bool = True,
        genai_prices: bool = True,
        litellm_prices: str | PathLike[str] | None = None,
    ) -> None:
        self._book = prices if isinstance(prices, PriceBook) else PriceBook(prices)
        self._built_in = built_in
        self._library: Library | None = library if built_in and genai_prices else None
        self._litellm: Source | None = None
        if litellm_prices is not None:
            from llmevents.llm.pricing._litellm import LiteLLMPrices

            self._litellm = LiteLLMPrices(litellm_prices)
        self._found = self._renew()
        self.after_fork_in_child()
        _forksafe.registry.register(self)

    @classmethod
    def from_config(cls, table: Mapping[str, object]) -> Pricer:
        """Make one from a table of settings.

        Args:
            table: ``models`` (a price book), ``built_in``, ``genai_prices`` and
                ``litellm_prices``, as the arguments of the class.

        Raises:
            OptionError: A key is unknown or a value is wrong.
        """
        check_config(table)
        models = table.get("models")
        path = table.get("litellm_prices")
        return cls(
            models if isinstance(models, Mapping) else None,
            built_in=table.get("built_in") is not False,
            genai_prices=table.get("genai_prices") is not False,
            litellm_prices=path if isinstance(path, str) else None,
        )

    def after_fork_in_child(self) -> None:
        """Replace the lock: the parent may have held it."""
        self._lock = threading.Lock()

    def price(
        self,
        usage: Usage,
        *,
        provider: str | None,
        model: str | None,
        response_model: str | None = None,
        service_tier: str | None = None,
        batch: bool = False,
        at: int | None = None,
        override: int | None = None,
        stated: int | None = None,
    ) -> Price | None:
        """Return what a call cost, or None: no source has a price for it.

        Takes 2 to 3 microseconds for a model that it has priced before that day.

        Args:
            usage: What the call used.
            provider: Any of the provider's names; None: whoever has the model.
            model: The model that was asked for.
            response_model: The model that answered, if that is known.
            service_tier: The provider's, as it stated it: ``"flex"``.
            batch: Whether the call was part of a batch.
            at: When it was made, in nanoseconds since the Unix epoch; now if None.
            override: What it cost in nano-dollars, for sure.
            stated: What it cost in nano-dollars, as the provider says.
        """
        if override is not None:
            return Price(override, "override", None)
        if stated is not None:
            return Price(stated, "provider", None)
        if at is None:
            at = SYSTEM_CLOCK.time_ns()
        found = self._found
        known = self._library
        if found.book is not self._book or (
            known is not None and known.current() is not found.snapshot
        ):
            found = self._renew()
        key = (provider, model, response_model, service_tier, batch, at // DAY)
        entry = found.entries.young.get(key) or found.entries.get(key)
        if entry is None or not entry.since <= at < entry.until:
            return self._search(found, key, usage, at)
        return _priced(entry.plans, usage) or self._search(found, key, usage, at, entry)

    def add_price(self, provider: str | None, model: str, **prices: object) -> None:
        """Add a price of your own, or replace one, while calls are being made.

        Args:
            provider: The provider; None: any.
            model: The model; ``"*"``: all of the provider's.
            prices: As in a table of `PriceBook`; ``from_`` stands for ``from``.

        Raises:
            OptionError: A price or a key is wrong.
        """
        if "from_" in prices:
            prices["from"] = prices.pop("from_")
        key = model if provider is None else f"{provider}/{model}"
        with self._lock:
            self._book = self._book.adding(key, prices)

    def invalidate(self) -> None:
        """Forget what was resolved: the next call of each model asks the sources.

        What changes by itself, such as a price that was added, newer data of
        genai-prices, a new day, needs no such call.
        """
        self._renew()

    def _renew(self) -> _Found:
        """Begin to find anew, in what the sources are by now."""
        book, snapshot = self._book, self._snapshot()
        genai: Source | None = None
        if snapshot is not None:
            from llmevents.llm.pricing._genai import GenaiPrices

            genai = GenaiPrices(snapshot)
        table: Source | None = None
        if self._built_in:
            from llmevents.llm.pricing._builtin import built_in

            table = built_in()
        sources = (book, genai, self._litellm, table)
        self._found = found = _Found(book, snapshot, sources, Recent())
        return found

    def warm_up(self, *, wait: bool = False, timeout: float | None = None) -> bool:
        """Load genai-prices, so that the first calls need not.

        Args:
            wait: Whether to return only when it is loaded. Do not on an event loop.
            timeout: Seconds to wait at most; None: until it is loaded.

        Returns:
            Whether everything is loaded that is going to be.
        """
        if self._library is None:
            return True
        if wait:
            return self._library.wait(-1.0 if timeout is None else timeout)
        self._library.begin()
        return self._library.settled

    def describe(self, *, wait: bool = True) -> Iterator[Listed]:
        """Yield all prices that calls may be priced by, the first source first.

        Args:
            wait: Whether to wait for genai-prices. Do not on an event loop.
        """
        self.warm_up(wait=wait)
        for source in self._renew().sources:
            if source is not None:
                yield from source.describe()

    def _snapshot(self) -> DataSnapshot | None:
        return None if self._library is None else self._library.current()

    def _search(
        self,
        found: _Found,
        key: Key,
        usage: Usage,
        at: int,
        entry: _Entry | None = None,
    ) -> Price | None:
        """Ask the sources that were not asked yet, until one has a price."""
        entry = entry or _Entry((), 0, *utc_period(at, DAY))
        is_whole = True
        price: Price | None = None
        for source in found.sources[entry.asked :]:
            if entry.asked == GENAI and self._is_awaited(found):
                if self._is_here(found):
                    return self._search(self._renew(), key, usage, at)
                is_whole = False
            entry = _asked(entry, source, key, at)
            price = price or _priced(entry.plans, usage)
            if price is not None:
                break
        if is_whole:
            found.entries.put(key, entry)
        return price

    def _is_awaited(self, found: _Found) -> bool:
        """Return whether genai-prices is still to come."""
        return (
            found.snapshot is None
            and self._library is not None
            and not self._library.settled
        )

    def _is_here(self, found: _Found) -> bool:
        """Wait for genai-prices where one may; return whether it has come."""
        if self._library is None or is_on_event_loop():
            self.warm_up()
        else:
            self._library.wait()
        return self._snapshot() is not found.snapshot


def _asked(entry: _Entry, source: Source | None, key: Key, at: int) -> _Entry:
    """Return an entry that has asked one source more."""
    entry = entry._replace(asked=entry.asked + 1)
    if source is None:
        return entry
    provider, model, response_model, tier, batch, _ = key
    for name in dict.fromkeys(filter(None, (response_model, model))):
        query = Query(
            canonical(provider),
            name.strip().lower(),
            tier.lower() if tier else None,
            batch or tier == "batch",
            at,
        )
        plan = source.find(query)
        if plan is not None:
            since, until = source.holds(query)
            entry = entry._replace(
                plans=(*entry.plans, plan),
                since=max(since, entry.since),
                until=min(until, entry.until),
            )
    return entry


def _priced(plans: tuple[RatePlan, ...], usage: Usage) -> Price | None:
    for plan in plans:
        cost = plan.cost(usage)
        if cost is not None:
            return Price(cost, plan.source, plan.date)
    return None


def check_config(table: Mapping[str, object]) -> None:
    """Check a table of settings; see `Pricer.from_config`.

    Raises:
        OptionError: A key is unknown or a value is wrong.
    """
    for key, value in table.items():
        if key not in CONFIG_KEYS:
            expected = f"without the key {key!r}; known: {', '.join(CONFIG_KEYS)}"
            raise OptionError(dict(table), "prices", expected)
        if key == "models":
            if not isinstance(value, Mapping):
                expected = "a table such as {'openai/gpt-4o' = {input = 2.5}}"
                raise OptionError(value, "prices.models", expected)
            PriceBook(value)
        elif key == "litellm_prices":
            if not isinstance(value, str):
                expected = "the path of a JSON file, as text"
                raise OptionError(value, "prices.litellm_prices", expected)
        elif not isinstance(value, bool):
            raise OptionError(value, f"prices.{key}", "true or false")
