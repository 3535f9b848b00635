"""Packets: as many lines as fit into one datagram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from llmevents_statsd._series import Change, Group


class Packet(NamedTuple):
    """One datagram: lines with newlines between them, and none at the end."""

    data: bytes
    lines: int
    changes: tuple[Change, ...]


def fill(groups: Iterable[Group], mtu: int) -> Iterator[Packet]:
    """Yield packets of at most *mtu* bytes, each as full as the order allows.

    Args:
        groups: None of them longer than *mtu*; what belongs together stays so.
        mtu: Bytes of a datagram's payload.
    """
    waiting: list[Group] = []
    size = 0
    for group in groups:
        if waiting and size + 1 + len(group.data) > mtu:
            yield _packet(waiting)
            waiting, size = [], 0
        size += len(group.data) + bool(waiting)
        waiting.append(group)
    if waiting:
        yield _packet(waiting)


def _packet(groups: list[Group]) -> Packet:
    return Packet(
        b"\n".join(group.data for group in groups),
        sum(group.lines for group in groups),
        tuple(group.change for group in groups),
    )
