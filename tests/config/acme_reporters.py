"""Reporters of a distribution that the tests of configuration install."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from llmevents import OptionError
from llmevents.reporting import ReporterStatus


if TYPE_CHECKING:
    from decimal import Decimal

    from llmevents import Bus
    from llmevents.metrics import MetricStore

calls: list[str] = []
"""What was called, in order."""

released = threading.Event()
"""Lets `Hanging` go on."""


class Acme:
    """Has an option of every kind that settings can have."""

    def __init__(
        self,
        *,
        port: int = 1,
        name: str = "acme",
        ratio: float | None = None,
        live: bool = False,
        mode: Literal["fast", "safe"] = "fast",
        tags: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        path: str | os.PathLike[str] | None = None,
        token: str | None = None,
        url: str | None = None,
        precise: Decimal | None = None,
        event: threading.Event | None = None,
    ) -> None:
        if port < 0:
            raise OptionError(port, "port", "a port")
        if token is not None and len(token) < 10:
            raise OptionError(token, "token", "a longer token")
        self.options = {k: v for k, v in locals().items() if k != "self"}

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        calls.append(f"{type(self).__name__}.start")

    def flush(self, timeout: float) -> bool:
        calls.append(f"{type(self).__name__}.flush")
        return True

    def stop(self, timeout: float) -> None:
        calls.append(f"{type(self).__name__}.stop {os.getpid()}")

    def status(self) -> ReporterStatus:
        return ReporterStatus(accepted=1, delivered=1)


class Required(Acme):
    def __init__(self, address: str) -> None:
        super().__init__()


class Anything(Acme):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options


class Service(Acme):
    def __init__(self, *, service_name: str = "") -> None:
        super().__init__()
        self.service_name = service_name


class Hanging(Acme):
    def flush(self, timeout: float) -> bool:
        return released.wait()

    def stop(self, timeout: float) -> None:
        calls.append("Hanging.stop begun")
        released.wait()


class Broken(Acme):
    def flush(self, timeout: float) -> bool:
        msg = "flush is broken"
        raise OSError(msg)

    def stop(self, timeout: float) -> None:
        msg = "stop is broken"
        raise OSError(msg)


class Failing(Acme):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        msg = "the port is taken"
        raise OSError(msg)


class Exploding(Acme):
    def __init__(self) -> None:
        msg = "https://me:hunter2@example.com/ is broken"
        raise RuntimeError(msg)
