"""Cost thresholds: an event once a call, or calls together, cost more than so much."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from llmevents import _forksafe
from llmevents._bus import Bus
from llmevents._catalogue import INFERENCE_ENDS
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._errors import OptionError
from llmevents._options import check_text
from llmevents._show import show
from llmevents._subscription import Subscription
from llmevents._types import EventName, Measurements, Metadata
from llmevents.llm._money import to_nano
from llmevents.llm._windows import calendar_period


if TYPE_CHECKING:
    from typing_extensions import Self

Window: TypeAlias = Literal["hour", "day", "week", "month"]
"""A calendar period in UTC. Weeks begin on Monday."""

WINDOWS: tuple[Window, ...] = ("hour", "day", "week", "month")

EVENT = ("llm", "cost", "threshold_exceeded")

KEYS = 10_000
"""Keys of one scope whose sums are kept."""

CONFIG_KEYS = frozenset({"usd", "scope", "window"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CostThreshold:
    """A cost that is not to be exceeded without notice. It stops nothing.

    Attributes:
        usd: US dollars. Exceeded means more, not as much.
        scope: ``"call"``: of each call by itself; ``"total"``: of all calls together;
            else a key of the metadata, such as ``"user_id"``, ``"session_id"`` or
            ``"model"``: of all calls with the same value of it. Calls that lack the
            key do not count.
        window: For which period costs add up; None: since the start. Of no meaning
            for calls.

    Raises:
        OptionError: A value is wrong.
    """

    usd: object
    scope: str = "total"
    window: Window | None = None
    limit: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values, and work out the limit in nano-dollars."""
        check_text(self.scope, "scope")
        if self.window is not None and self.window not in WINDOWS:
            expected = f"{', '.join(map(repr, WINDOWS))} or None"
            raise OptionError(self.window, "window", expected)
        object.__setattr__(self, "limit", to_nano(self.usd, "usd"))


class _Sample(NamedTuple):
    """What one call cost, and whose it is, by the position of the threshold."""

    cost: int
    at: int
    keys: tuple[str | None, ...]


class _Sums:
    """What has been spent under one threshold, by key, in its present window."""

    __slots__ = ("_by_key", "_end", "_limit", "_room", "forgotten", "threshold")

    def __init__(self, threshold: CostThreshold, room: int) -> None:
        self.threshold = threshold
        self.forgotten = 0
        self._limit = threshold.limit
        self._room = room
        self._end = 0
        self._by_key: dict[str, int] = {}

    def add(self, key: str, cost: int, at: int) -> int | None:
        """Add a cost; return the sum if it is this one that exceeds the threshold."""
        window = self.threshold.window
        if window is not None and at >= self._end:
            self._by_key.clear()
            self._end = calendar_period(window, at).end
        before = self._by_key.pop(key, 0)
        after = before + cost
        if len(self._by_key) >= self._room:
            del self._by_key[next(iter(self._by_key))]
            self.forgotten += 1
        self._by_key[key] = after
        return after if before <= self._limit < after else None


class CostThresholds:
    """Emits ``llm.cost.threshold_exceeded`` when costs pass thresholds.

    It listens to the ends of inference calls and reads their ``cost_nano_usd``. A
    threshold of ``"call"`` is told of every call that is dearer. Any other is told
    of once for each key and window, by the call that passes it, exactly, whatever
    the number of threads.

    A handler never waits here: it leaves its cost in a queue, and whoever finds
    nobody else at work adds up what is there. So the event may come from the thread
    of another call, and with the context of that one.

    Memory is bounded: of each scope the 10,000 keys that were charged last are kept.
    A key that is forgotten begins again at 0 when it comes back; `forgotten` counts
    how often that may have happened. A forked child begins at 0 too.

    Args:
        bus: The bus to listen to, and to emit on.
        thresholds: The thresholds, or tables with ``usd``, ``scope`` and ``window``.
        clock: Where the time is from that windows go by.
        max_keys: How many keys to keep for each threshold.

    Raises:
        OptionError: A threshold is wrong.

    Examples:
        >>> from llmevents import Bus
        >>> bus = Bus()
        >>> alerts = bus.attach(
        ...     "alerts",
        ...     "llm.cost.threshold_exceeded",
        ...     lambda event, measurements, metadata, config: print(dict(metadata)),
        ... )
        >>> with CostThresholds(bus, [CostThreshold(usd="0.01", scope="user_id")]):
        ...     for _ in range(3):
        ...         bus.execute(
        ...             "llm.chat.stop", {"cost_nano_usd": 6_000_000}, {"user_id": "ada"}
        ...         )
        {'scope': 'user_id', 'key': 'ada'}
    """

    __slots__ = (
        "__weakref__",
        "_attached",
        "_bus",
        "_call_limits",
        "_clock",
        "_max_keys",
        "_queue",
        "_scopes",
        "_sums",
        "_turn",
        "thresholds",
    )

    def __init__(
        self,
        bus: Bus,
        thresholds: Iterable[CostThreshold | Mapping[str, object]],
        *,
        clock: Clock = SYSTEM_CLOCK,
        max_keys: int = KEYS,
    ) -> None:
        self.thresholds = tuple(map(as_threshold, thresholds))
        self._bus = bus
        self._clock = clock
        self._max_keys = max_keys
        self._call_limits = [
            each.limit for each in self.thresholds if each.scope == "call"
        ]
        self._scopes = [each.scope for each in self.thresholds if each.scope != "call"]
        self.after_fork_in_child()
        _forksafe.registry.register(self)
        self._attached: Subscription = bus.attach(
            ("llmevents.llm.pricing", id(self)), INFERENCE_ENDS, self._call_ended
        )

    def after_fork_in_child(self) -> None:
        """Begin anew: what was spent is the parent's."""
        self._queue: deque[_Sample] = deque()
        self._turn = allocate_lock()
        self._sums = [
            _Sums(each, self._max_keys)
            for each in self.thresholds
            if each.scope != "call"
        ]

    @property
    def forgotten(self) -> int:
        """How many keys were forgotten for lack of room."""
        return sum(sums.forgotten for sums in self._sums)

    def detach(self) -> None:
        """Listen no longer. Does nothing the second time."""
        self._attached.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def _call_ended(
        self,
        _event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        _config: object,
    ) -> None:
        cost = measurements.get("cost_nano_usd")
        if not isinstance(cost, int):
            return
        for limit in self._call_limits:
            if cost > limit:
                self._emit_call(cost, limit, metadata)
        if self._scopes:
            keys = tuple(
                "" if scope == "total" else _key(metadata.get(scope))
                for scope in self._scopes
            )
            self._queue.append(_Sample(cost, self._clock.time_ns(), keys))
            # Looked at again after each turn: what was left during it is nobody's.
            turn = self._turn
            while self._queue and turn.acquire(blocking=False):
                try:
                    passed = list(self._add_up())
                finally:
                    turn.release()
                for measured, facts in passed:
                    self._bus.execute(EVENT, measured, facts)

    def _add_up(self) -> Iterator[tuple[Measurements, Metadata]]:
        """Add up what is queued; yield the events of thresholds that it passes."""
        with suppress(IndexError):
            while True:
                sample = self._queue.popleft()
                for sums, key in zip(self._sums, sample.keys, strict=True):
                    total = None
                    if key is not None:
                        total = sums.add(key, sample.cost, sample.at)
                    if total is not None:
                        threshold = sums.threshold
                        facts = {"scope": threshold.scope}
                        yield (
                            {
                                "cost_nano_usd": total,
                                "threshold_nano_usd": threshold.limit,
                            },
                            {**facts, "key": key} if key else facts,
                        )

    def _emit_call(self, cost: int, limit: int, metadata: Metadata) -> None:
        facts = {"scope": "call"}
        for key in ("provider", "model", "span_id"):
            if key in metadata:
                facts["key" if key == "span_id" else key] = metadata[key]
        self._bus.execute(
            EVENT, {"cost_nano_usd": cost, "threshold_nano_usd": limit}, facts
        )


def as_threshold(given: object) -> CostThreshold:
    """Return the threshold that was meant.

    Args:
        given: A threshold, or a table with ``usd``, and ``scope`` and ``window`` if
            need be; see `CostThreshold`.

    Raises:
        OptionError: It is neither, or one of its values is wrong.
    """
    if isinstance(given, CostThreshold):
        return given
    table = dict(given) if isinstance(given, Mapping) else {}
    if "usd" not in table or not table.keys() <= CONFIG_KEYS:
        expected = "a table with usd, and scope and window if need be"
        raise OptionError(given, "cost threshold", expected)
    return CostThreshold(**table)


def _key(value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    return show(value)
