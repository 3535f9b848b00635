"""Price books: tables of prices that somebody wrote down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

from llmevents._errors import OptionError
from llmevents.llm.pricing._names import candidates, canonical, spellings
from llmevents.llm.pricing._plan import RatePlan
from llmevents.llm.pricing._schema import Table, read_tables
from llmevents.llm.pricing._sources import Listed, Query, all_day, show_prices


if TYPE_CHECKING:
    from llmevents.llm.pricing._plan import CostSource

ANY = "*"
"""In place of a model: all of a provider's."""


class PriceBook:
    """Prices of your own, for anything that has a unit. Immutable.

    It is a mapping ``{"provider/model": prices}``. Without a provider, a price is
    for the model wherever it runs; ``"provider/*"`` is for all models of a provider
    that have no price of their own here. Names are compared in lower case. A model's
    price is also that of its dated versions: ``gpt-4o-2024-08-06`` takes that of
    ``gpt-4o`` if it has none itself.

    A table of prices has these keys; all prices are US dollars, as numbers or text:

    - for ``per`` tokens (1,000,000 unless said otherwise): ``input``, ``output``,
      ``cache_read``, ``cache_write``, ``cache_write_1h``, ``tool_input``,
      ``audio_input``, ``image_input``, ``reasoning``, ``audio_output``,
      ``image_output``. What has no price costs what the whole costs that it is part
      of;
    - for other units: ``per_page``, ``per_image``, ``per_search``, ``per_character``,
      ``per_request``, each also as ``per_1k_pages`` and ``per_1m_pages``;
      ``per_second``, ``per_minute`` and ``per_hour`` of audio;
    - ``tiers``: a list of tables with ``above`` and the prices that *all* tokens have
      once the input is longer than that;
    - ``service_tiers``: what differs in a tier of the provider, and in ``batch``;
    - ``from`` and ``until``: the first day, and the day on which it ends, in UTC.
      For several periods, give a list of tables.

    Args:
        prices: As above.
        source: Who states them, for ``Price.source``.

    Raises:
        OptionError: A price or a key is wrong; the message says where, and what is
            possible.

    Examples:
        >>> book = PriceBook({"acme/tiny-1": {"input": 0.5, "output": "1.5"}})
        >>> len(book.adding("acme/scan", {"per_page": 0.01}))
        2
    """

    __slots__ = ("_by_model", "_source", "_tables", "_written")

    def __init__(
        self, prices: Mapping[str, object] | None = None, *, source: CostSource = "user"
    ) -> None:
        self._source = source
        self._fill(
            {
                _lower(key): read_tables(key, given)
                for key, given in (prices or {}).items()
            }
        )

    def _fill(self, written: dict[str, tuple[Table, ...]]) -> None:
        self._written = written
        self._tables = {_normal(key): tables for key, tables in written.items()}
        self._by_model: dict[str, tuple[Table, ...]] = {}
        for key, tables in written.items():
            self._by_model.setdefault(key.partition("/")[2], tables)

    def __len__(self) -> int:
        return len(self._tables)

    def adding(self, key: str, prices: object) -> PriceBook:
        """Return a book with one price more; what it had for *key* is replaced.

        Raises:
            OptionError: As the class.
        """
        book = PriceBook(source=self._source)
        book._fill({**self._written, _lower(key): read_tables(key, prices)})
        return book

    def find(self, query: Query) -> RatePlan | None:
        """Return the plan for a query, or None: the book has no price for that day."""
        for tables in self._matching(query.provider, query.model):
            for table in reversed(tables):
                if table.holds_on(query.day):
                    return self._plan(table, query)
        return None

    def holds(self, query: Query) -> tuple[int, int]:
        """Return the day of a query: prices change at midnight, in UTC."""
        return all_day(query)

    def describe(self) -> Iterator[Listed]:
        """Yield what the book has, for people."""
        for key, tables in sorted(self._tables.items()):
            provider, slash, model = key.partition("/")
            if not slash:
                provider, model = "", key
            for table in tables:
                yield Listed(
                    provider,
                    model,
                    show_prices(table.prices),
                    self._source,
                    _iso(table.checked or table.start),
                    table.source,
                )

    def _plan(self, table: Table, query: Query) -> RatePlan:
        is_batch = query.batch and "batch" in table.service_tiers
        prices = table.prices_of("batch" if is_batch else query.tier)
        return RatePlan(prices, self._source, _iso(table.checked or table.start))

    def _matching(
        self, provider: str | None, model: str
    ) -> Iterator[tuple[Table, ...]]:
        """Yield what may be meant by a model, the most literal first."""
        nothing: tuple[Table, ...] = ()
        for vendor, name in candidates(provider, model):
            for spelling in spellings(name):
                yield self._tables.get(f"{vendor}/{spelling}", nothing)
                # A model's own name may have a slash: then it is as it was written.
                yield self._written.get(spelling, nothing)
                if vendor is None:
                    yield self._by_model.get(spelling, nothing)
        yield self._tables.get(f"{provider}/{ANY}", nothing)


def _lower(key: object) -> str:
    if not isinstance(key, str) or not key.strip("/ "):
        expected = "text such as 'openai/gpt-4o' or 'gpt-4o'"
        raise OptionError(key, "name of a priced model", expected)
    return key.strip().lower()


def _normal(key: str) -> str:
    head, slash, model = key.partition("/")
    return f"{canonical(head)}/{model}" if slash else head


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
