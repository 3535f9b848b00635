"""Which span is the current one in OpenTelemetry's context, kept without tokens.

OpenTelemetry restores a context by a token, which may only be used in the context it
came from, and generators and tasks leave blocks in other contexts than they entered
them. Here nothing is held: what is current knows what it was put over, and leaving a
block puts that back if the block's span is still the current one. Other libraries'
spans within a block that were not ended are left with it, as by OpenTelemetry itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context, attach, create_key, get_current
from opentelemetry.trace import INVALID_SPAN, set_span_in_context


if TYPE_CHECKING:
    from opentelemetry.trace import Span

# OpenTelemetry has no public name for it.
(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())

NOWHERE = Context()


class Place:
    """A span of ours in contexts.

    Attributes:
        span_id: Ours, not OpenTelemetry's.
        span: OpenTelemetry's.
        outer: What was current when it became it; None if it never did.
        is_over: Whether its block was left.
        is_buried: Whether that was while another of ours was over it.
    """

    __slots__ = ("__weakref__", "is_buried", "is_over", "outer", "span", "span_id")

    span_id: str
    span: Span
    outer: Context | None
    is_over: bool
    is_buried: bool


class CurrentSpans:
    """One recorder's spans in the contexts of all tasks and threads."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = create_key("llmevents-span")

    def inside(self, parent_span_id: object, here: Context) -> Context | None:
        """Return the context within the block of *parent_span_id*, as seen from *here*.

        Spans of ours that are over it are passed over: a generator left them there
        when it gave an item. Without a parent, that is the context around all of ours.

        Returns:
            None if the parent has no block around here.
        """
        context = here
        place: Place | None = context.get(self._key)  # type: ignore[assignment]  # our key
        while place is not None and place.span_id != parent_span_id:
            # What has a place in a context has been entered.
            context = place.outer or NOWHERE
            place = self._place(context)
        return context if place is not None or parent_span_id is None else None

    def enter(self, place: Place, around: Context, here: Context) -> None:
        """Make the span current, over what *around* holds; *here* is current now."""
        place.outer = here
        attach(Context({**around, SPAN_KEY: place.span, self._key: place}))

    def leave(self, place: Place) -> None:
        """Put back what was current before, where that is still to be done.

        In a context that has nothing to do with the block, nothing is.
        """
        inner: Place | None = get_current().get(self._key)  # type: ignore[assignment]  # our key
        if inner is place:
            under: Context = place.outer or NOWHERE
            below: Place | None = under.get(self._key)  # type: ignore[assignment]  # likewise
            if below is None or not below.is_over:
                # As nearly always; what follows comes to the same.
                place.is_over = True
                attach(under)
                return
        while inner is not None and inner.is_over and inner is not place:
            # A span of another library that outlasted this block has put it back.
            inner = self._place(inner.outer or NOWHERE)
        place.is_over = True
        if inner is place:
            attach(self._without(place, "is_buried"))
        elif inner is not None and self._is_under(inner, place):
            place.is_buried = True
            return
        # Tasks of which each begins the next one in a block would keep all of them.
        place.outer = self._without(place, "is_over")

    def leave_unknown(self, span_id: str) -> None:
        """Leave the block of a span that was forgotten, if it is current."""
        place = self._place(get_current())
        if place is not None and place.span_id == span_id:
            self.leave(place)

    def current(self) -> Place | None:
        """Return the innermost of our spans in this context, open or not."""
        return self._place(get_current())

    def _place(self, context: Context) -> Place | None:
        place = context.get(self._key)
        return place if isinstance(place, Place) else None

    def _without(self, place: Place, mark: str) -> Context:
        """Return what was current before, or before that, if that has the *mark*."""
        context = place.outer or NOWHERE
        under: Place | None = context.get(self._key)  # type: ignore[assignment]  # our key
        while under is not None and getattr(under, mark):
            context = under.outer or NOWHERE
            under = self._place(context)
        return context

    def _is_under(self, inner: Place, place: Place) -> bool:
        under: Place | None = inner
        while under is not None and under is not place:
            under = self._place(under.outer or NOWHERE)
        return under is place
