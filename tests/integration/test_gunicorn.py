"""A real gunicorn: the totals over its workers are the requests that it served.

Of a worker that is killed, what it had neither shown nor written is lost, which is
what it did in the last second at most; nothing of those that are replaced is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmevents.metrics import Counter, MetricStore, Sum
from llmevents_prometheus._processes import SharedSnapshots


pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and find_spec("gunicorn") is None,
    reason="run: pip install gunicorn",
)

SECONDS = 120.0
WORKERS = 4
MAX_REQUESTS = 60
TOKENS = 12

APPLICATION = f"""
import os

from llmevents import Bus
from llmevents.metrics import Counter, Distribution, MetricStore, Sum
from llmevents_prometheus import PrometheusReporter

bus = Bus()
store = MetricStore([
    Counter("llm.chat.stop.count", tags=("model",)),
    Sum("llm.chat.stop.input_tokens", tags=("model",)),
    Distribution("llm.chat.stop.duration", unit=("nanosecond", "second")),
])
store.attach(bus)
reporter = PrometheusReporter(port=None, multiprocess_dir=os.environ["METRICS"])
reporter.start(bus, store)
metrics = reporter.wsgi_app()


def app(environ, start_response):
    def start(status, headers, *more):
        return start_response(status, [*headers, ("X-Pid", str(os.getpid()))], *more)

    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start)
    measurements = {{"input_tokens": {TOKENS}, "duration": 1_000_000_000}}
    bus.execute("llm.chat.stop", measurements, {{"model": "gpt-4o"}})
    start("200 OK", [("Content-Length", "0")])
    return []
"""

SETTINGS = f"""
workers = {WORKERS}
max_requests = {MAX_REQUESTS}
max_requests_jitter = 10
control_socket_disable = True

def post_fork(server, worker):
    if server.cfg.preload_app:
        import application
        application.reporter.flush(1.0)
"""


class Server:
    """gunicorn, and what it has answered."""

    def __init__(self, port: int, master: int) -> None:
        self.port = port
        self.master = master
        self.served = 0
        self.answers: Tally[int] = Tally()
        self._lock = threading.Lock()

    def get(self, path: str) -> tuple[int, str]:
        """Return who answered, and what."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200
        finally:
            connection.close()
        pid = int(response.headers["X-Pid"])
        with self._lock:
            self.answers[pid] += 1
            self.served += path == "/"
        return pid, body

    def calls(self) -> int:
        """Return how many calls all workers have counted; tokens must agree."""
        _, page = self.get("/metrics")
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        calls = int(values.get("llm_chat_stop_count_total", 0))
        assert values.get("llm_chat_stop_input_tokens_total", 0) == calls * TOKENS
        assert values.get("llm_chat_stop_duration_count", 0) == calls
        return calls

    def load(self, requests: int) -> None:
        """Send requests, a few at a time."""
        threads = [
            threading.Thread(
                target=lambda: [self.get("/") for _ in range(requests // WORKERS)]
            )
            for _ in range(WORKERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def youngest(self) -> int:
        """Return the worker that has answered least, of those that have at all."""
        alive = [pid for pid in self.answers if is_child(pid, self.master)]
        return min(alive, key=self.answers.__getitem__)


def is_child(pid: int, master: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    state, parent = status.rpartition(")")[2].split()[:2]
    return state != "Z" and int(parent) == master


def wait_until(server: Server, calls: int) -> None:
    """Wait until all calls are shown; each worker writes once a second."""
    deadline = time.monotonic() + SECONDS
    while (shown := server.calls()) != calls:
        assert shown < calls
        assert time.monotonic() < deadline, f"{shown} of {calls} calls are shown"


@contextmanager
def gunicorn(directory: Path, *options: str) -> Iterator[Server]:
    """Run gunicorn with `APPLICATION` on a free port; stop it in good order."""
    (directory / "application.py").write_text(APPLICATION)
    (directory / "settings.py").write_text(SETTINGS)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "--config", "settings.py"),
            *("--bind", f"fd://{listener.fileno()}", "--log-level", "warning"),
            *(*options, "application:app"),
        ]
        with subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "METRICS": str(directory / "metrics")},
            pass_fds=[listener.fileno()],
        ) as process:
            try:
                server = Server(listener.getsockname()[1], process.pid)
                # The socket listens already, so that this waits for the first worker.
                server.calls()
                yield server
                process.terminate()
                assert process.wait(SECONDS) == 0
            finally:
                process.kill()


@contextmanager
def watching(server: Server) -> Iterator[list[str]]:
    """Scrape all the time; yield what goes wrong, such as totals that go down."""
    wrong: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        shown = 0
        while not stop.wait(0.02):
            try:
                now = server.calls()
            except (OSError, HTTPException):
                continue  # it had asked the worker that was killed
            except Exception as error:  # noqa: BLE001  # the thread would hide it
                wrong.append(repr(error))
                return
            if now < shown:
                wrong.append(f"{shown} calls, then {now}")
            shown = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_the_totals_are_the_requests_that_were_served(
    tmp_path: Path, options: list[str]
) -> None:
    metrics = tmp_path / "metrics"
    with gunicorn(tmp_path, *options) as server:
        with watching(server) as wrong:
            server.load(600)
        wait_until(server, 600)
        assert len(server.answers) > WORKERS, "no worker was replaced"
        assert len(os.listdir(metrics)) <= 2 * WORKERS

        victim = server.youngest()
        before = server.answers[victim]
        while server.answers[victim] < before + 5:
            server.get("/")
        unseen = server.answers[victim] - before
        os.kill(victim, signal.SIGKILL)
        with watching(server) as wrong_again:
            server.load(200)
        served = server.served

    shared = SharedSnapshots(str(metrics))
    store = MetricStore(
        [
            Counter("llm.chat.stop.count", tags=("model",)),
            Sum("llm.chat.stop.input_tokens", tags=("model",)),
        ]
    )
    shared.start(store)
    families = shared.merged(store.snapshot()).families
    shared.stop(SECONDS)
    (calls,) = families["llm.chat.stop.count"].series
    (tokens,) = families["llm.chat.stop.input_tokens"].series

    assert isinstance(calls.raw, int)
    assert served - unseen <= calls.raw <= served
    assert tokens.raw == calls.raw * TOKENS
    assert wrong == []
    assert wrong_again == []
    assert sorted(os.listdir(metrics)) == ["ended-v1.json", "lock"]
