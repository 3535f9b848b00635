"""Real servers that tests talk to, on loopback, each ended with its block."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest


if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

SECONDS = 90.0
"""Long enough for a busy machine; it only runs out where something is broken."""

ROOT = Path(__file__).parents[2]

IN_CI = os.environ.get("CI") == "true"
"""There a missing server must not pass for a skipped test."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port on loopback that nobody has."""
    with socket.socket(socket.AF_INET, kind) as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once *condition* is true; a server may not be up yet."""
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(URLError):
            if condition():
                return
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


# --- StatsD ---------------------------------------------------------------------------

STATSD_REMEDY = "run: npm install --prefix .ci/npm statsd@0.9.0"

BACKEND = """\
exports.init = function (startup, config, events) {
  events.on('flush', function (time, metrics) {
    require('fs').writeFileSync(config.flushed, JSON.stringify(metrics));
  });
  return true;
};
"""

_ENTRY = re.compile(r"(?:'([^']+)'|([A-Za-z_]\w*)): (-?[0-9.]+(?:e[+-]?[0-9]+)?)")


def _daemon_script() -> Path | None:
    folders = [ROOT / ".ci" / "npm" / "node_modules"]
    given = os.environ.get("STATSD_NODE_MODULES")
    if given:
        folders.append(Path(given))
    scripts = [folder / "statsd" / "stats.js" for folder in folders]
    return next((script for script in scripts if script.is_file()), None)


needs_statsd = pytest.mark.skipif(
    not IN_CI and (shutil.which("node") is None or _daemon_script() is None),
    reason=f"the StatsD daemon is not installed; {STATSD_REMEDY}",
)


class StatsD:
    """The daemon, on loopback; it may be started and stopped again and again."""

    def __init__(self, folder: Path) -> None:
        script = _daemon_script()
        assert script is not None, STATSD_REMEDY
        self.port = free_port(socket.SOCK_DGRAM)
        self._management = free_port(socket.SOCK_STREAM)
        self._flushed = folder / "flushed.json"
        self._log = folder / "log.txt"
        backend, config = folder / "backend.js", folder / "config.json"
        backend.write_text(BACKEND)
        settings = {
            "port": self.port,
            "address": "127.0.0.1",
            "mgmt_port": self._management,
            "mgmt_address": "127.0.0.1",
            "backends": [str(backend)],
            "flushInterval": 600_000,
            "flushed": str(self._flushed),
        }
        config.write_text(json.dumps(settings))
        self._command = [shutil.which("node") or "node", str(script), str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT
            )
        wait_for(self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError):
            return "health: up" in self.ask("health", "\n")
        return False

    def stop(self) -> None:
        """End it; what came in is flushed."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(SECONDS)
            self._process = None

    def flushed(self) -> Any:  # noqa: ANN401  # JSON
        """End it; return what it flushed."""
        self.stop()
        return json.loads(self._flushed.read_text())

    def ask(self, question: str, end: str = "END\n") -> str:
        address = ("127.0.0.1", self._management)
        with socket.create_connection(address, SECONDS) as opened:
            opened.sendall(question.encode())
            answer = b""
            while not answer.endswith(end.encode()) and (got := opened.recv(65_536)):
                answer = (answer + got).replace(b"END\n\n", b"END\n")
        return answer.decode()

    def read(self, kind: str) -> dict[str, float]:
        """Return its ``counters`` or its ``gauges``, without those about itself."""
        found = {
            quoted or plain: float(value)
            for quoted, plain, value in _ENTRY.findall(self.ask(kind))
        }
        return {key: value for key, value in found.items() if key[:7] != "statsd."}

    def own(self) -> dict[str, float]:
        """Return its counters about itself."""
        found = {
            quoted: float(value)
            for quoted, _, value in _ENTRY.findall(self.ask("counters"))
        }
        return {key[7:]: found[key] for key in found if key[:7] == "statsd."}

    def wait_for_lines(self, count: int) -> None:
        """Wait until *count* lines have come in; none of them may be bad."""
        wait_for(lambda: self.own()["metrics_received"] >= count)
        own = self.own()
        assert (own["metrics_received"], own["bad_lines_seen"]) == (count, 0)


# --- Prometheus -----------------------------------------------------------------------

needs_prometheus = pytest.mark.skipif(
    not IN_CI and not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="run: apt-get install -y --no-install-recommends prometheus",
)


class Prometheus:
    """A Prometheus (2.42, as Debian 12 has it) that scrapes one target each second."""

    def __init__(
        self, folder: Path, *, target_port: int | None = None, token: str | None = None
    ) -> None:
        self.target_port = free_port() if target_port is None else target_port
        self.base = f"http://127.0.0.1:{free_port()}"
        job: dict[str, Any] = {
            "job_name": "llmevents",
            "static_configs": [{"targets": [f"127.0.0.1:{self.target_port}"]}],
        }
        if token is not None:
            job["authorization"] = {"credentials": token}
        timing = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config = folder / "prometheus.json"
        config.write_text(json.dumps({"global": timing, "scrape_configs": [job]}))
        self._command = [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.base.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        self._log = folder / "prometheus.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON
        """Return the data of an answer of the HTTP API."""
        data = urlencode(parameters).encode()
        with urlopen(f"{self.base}/api/v1/{path}", data, SECONDS) as response:  # noqa: S310  # loopback
            return json.load(response)["data"]

    def value(self, expression: str) -> float:
        """Return the only value of what PromQL makes of *expression*; 0 for none."""
        result = self.ask("query", query=expression)["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else 0.0

    def wait_for(self, read: Callable[[Self], T], expected: T) -> T:
        """Return what *read* returns, which is *expected* unless that never comes."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = None
            with suppress(URLError):
                found = read(self)
            if found == expected or (found is not None and time.monotonic() > deadline):
                return found
            time.sleep(0.1)
