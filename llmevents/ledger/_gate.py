"""`Gate`: one thread at a time, whatever signals, finalizers and forks do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident


class NestedError(RuntimeError):
    """This thread is in the middle of other work of the same object."""

    def __init__(self) -> None:
        super().__init__(
            "a signal handler or a finalizer cannot do this in the middle of other "
            "work of the same store in the same thread; do it outside of the handler"
        )


class Gate:
    """Lets one thread in, and makes a fork wait until it is out.

    An exception that a signal handler raises, at any moment, leaves nothing locked.
    """

    def __init__(self) -> None:
        # Only its owner can release it, and no thread gets as far as taking it twice.
        self._lock = RLock()
        self._inside: set[int] = set()
        self._forks: set[int] = set()

    @property
    def is_inside(self) -> bool:
        """Whether this thread is inside, or waits to be."""
        return get_ident() in self._inside

    @property
    def is_forking(self) -> bool:
        """Whether this thread forks, or has forked, with nobody inside."""
        return get_ident() in self._forks

    @contextmanager
    def alone(self, timeout: float | None = None) -> Iterator[bool]:
        """Keep other threads out.

        Gives False if they have not come out within *timeout* seconds.

        Raises:
            NestedError: This thread is inside.
        """
        me = get_ident()
        if me in self._inside:
            raise NestedError
        try:
            # Before it waits: a finalizer that runs while it does must not wait too.
            self._inside.add(me)
            try:
                seconds = -1 if timeout is None else max(0, timeout)
                yield self._lock.acquire(timeout=seconds)
            finally:
                # Not by what acquire() has returned: an exception out of a signal
                # handler can come between that and whatever notes it. And before
                # anything else is called, for it can come after each call.
                try:  # noqa: SIM105  # a call
                    self._lock.release()
                except RuntimeError:
                    pass
        finally:
            self._inside.discard(me)

    def before_fork(self, patience: float) -> None:
        """Wait until nobody is inside, for *patience* seconds at most."""
        me = get_ident()
        if me in self._inside:
            return
        # What hooks and finalizers do before the fork is over must not wait for it.
        self._inside.add(me)
        if self._lock.acquire(timeout=patience):
            self._forks.add(me)
        else:
            self._inside.discard(me)

    def after_fork_in_parent(self) -> bool:
        """Let others in again; return whether `before_fork` has kept them out."""
        me = get_ident()
        if me not in self._forks:
            return False
        self._forks.discard(me)
        self._lock.release()
        self._inside.discard(me)
        return True
