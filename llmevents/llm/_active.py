"""Which guards are attached to which bus."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._types import Metadata
    from llmevents.llm.budgets._guard import BudgetGuard
    from llmevents.llm.budgets._reservation import Reservation

# Insertion, removal and list() of a dict are one step each, so there is no lock.
_attached: dict[BudgetGuard, object] = {}


def add(guard: BudgetGuard) -> bool:
    """Add a guard; return whether it was not there."""
    mark = object()
    return _attached.setdefault(guard, mark) is mark


def remove(guard: BudgetGuard) -> bool:
    """Remove a guard; return whether it was there."""
    return _attached.pop(guard, None) is not None


def active_guards(bus: Bus) -> tuple[BudgetGuard, ...]:
    """Return the guards that are attached to *bus*, in the order they were."""
    if not _attached:
        return ()
    return tuple([guard for guard in list(_attached) if guard.bus is bus])


def reserve(
    bus: Bus, metadata: Metadata, *, refuse: bool = True
) -> tuple[Reservation, ...]:
    """Reserve what a call may use with all guards of its bus, or with none.

    Args:
        bus: The call's.
        metadata: What is known of it.
        refuse: Whether budgets may refuse it; a call that is over they can only count.

    Raises:
        BudgetExceededError: A budget has no room. Nothing is reserved.
    """
    guards = active_guards(bus)
    if len(guards) < 2:  # noqa: PLR2004  # nothing to give back if the only one refuses
        return tuple([guard.begin(metadata, refuse=refuse) for guard in guards])
    reservations: list[Reservation] = []
    try:
        # Not in one step: those before the one that refuses have to be known.
        reservations.extend(guard.begin(metadata, refuse=refuse) for guard in guards)
    except BaseException:
        for reservation in reservations:
            reservation.release()
        raise
    return tuple(reservations)
