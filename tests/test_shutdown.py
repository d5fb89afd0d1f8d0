"""Between a signal and the server: a drain begins, and nobody else's handler is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from sse_polling import shutdown
from sse_polling.connections import Connection, registry
from sse_polling.lifecycle import node
from sse_polling.shutdown import listen


class Drain:
    """A drain that is over when the test says so."""

    why: str | None = None

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.within: list[float | None] = []
        self._callbacks: list[Callable[[], object]] = []

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def begin(self, why: str, *, within: float | None = None) -> None:
        self.begun.append(why)
        self.within.append(within)

    def when_over(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def is_told(self) -> bool:
        return True

    def cut(self) -> None:
        for connection in [*registry, *node.flushing]:
            connection.abort()

    def end(self) -> None:
        for callback in self._callbacks:
            callback()


class Server:
    """What a server does with a signal: it notes it."""

    def __init__(self, *, module: str = "a.server") -> None:
        self.heard: list[int] = []

        def handler(number: int, frame: Any) -> None:
            self.heard.append(number)

        handler.__module__ = module
        for number in shutdown.SIGNALS:
            signal.signal(number, handler)
        self.handler = handler


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drain]:
    drain = Drain()
    handlers = {number: signal.getsignal(number) for number in shutdown.SIGNALS}
    monkeypatch.setattr(shutdown, "draining", drain)
    monkeypatch.setattr(shutdown, "_watch", None)
    monkeypatch.setattr(shutdown, "let_go", lambda: None)  # pytest goes on
    monkeypatch.setattr(shutdown, "_let_go_after", lambda loop: None)  # and this would outlive the test
    monkeypatch.setattr(shutdown, "FLUSH_SECONDS", 0.01)
    for name in ("granian", "hypercorn.asyncio.run", "twisted.internet.reactor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield drain
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is a second one as soon as it comes."""
    monkeypatch.setattr(shutdown, "SAME_SECONDS", 0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("number", shutdown.SIGNALS)
async def test_a_server_that_waits_for_streams_is_told_at_once(drain: Drain, number: int) -> None:
    server = Server(module="uvicorn.server")
    listen()
    signal.raise_signal(number)
    assert drain.begun == ["signal"]
    assert server.heard == [number]


async def test_uvicorn_is_kept_until_the_drain_is_over(drain: Drain) -> None:
    class Uvicorn:
        server_state = SimpleNamespace(tasks=set())

        def handle_exit(self, number: int, frame: Any) -> None:
            pass

    Uvicorn.handle_exit.__module__ = "uvicorn.server"
    server = Uvicorn()
    signal.signal(signal.SIGTERM, server.handle_exit)
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: drain._callbacks)
    assert len(server.server_state.tasks) == 1
    drain.end()
    await until(lambda: not server.server_state.tasks)


async def test_uvicorn_is_told_later_where_there_are_websockets(drain: Drain) -> None:
    """It closes them with 1012 as soon as it is told, and none would be asked to leave."""
    heard: list[int] = []

    class Uvicorn:
        servers = (SimpleNamespace(close=lambda: heard.append(0)),)

        def handle_exit(self, number: int, frame: Any) -> None:
            heard.append(number)

    Uvicorn.handle_exit.__module__ = "uvicorn.server"
    signal.signal(signal.SIGTERM, Uvicorn().handle_exit)
    registry.take(socket := Connection(channels=("a",), door="websocket"))
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: drain._callbacks)
    assert heard == [0]  # nobody comes in any more
    registry.release(socket)
    drain.end()
    await until(lambda: len(heard) == 2)
    assert heard == [0, signal.SIGTERM]


async def test_any_other_server_is_told_when_the_drain_is_over(drain: Drain) -> None:
    server = Server()
    listen()
    signal.raise_signal(signal.SIGTERM)
    assert drain.begun == ["signal"]
    await until(lambda: drain._callbacks)
    await asyncio.sleep(0.05)
    assert server.heard == []
    drain.end()
    assert server.heard == []  # the last bytes are on their way
    await until(lambda: server.heard)
    assert server.heard == [signal.SIGTERM]


async def test_the_last_row_is_waited_for_and_then_the_database_let_go(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, let_go = False, mock.Mock()
    monkeypatch.setattr(drain, "is_told", lambda: told)
    monkeypatch.setattr(shutdown, "let_go", let_go)
    server = Server()
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: drain._callbacks)
    drain.end()
    await asyncio.sleep(0.1)
    assert (server.heard, let_go.mock_calls) == ([], [])
    told = True
    await until(lambda: server.heard)
    let_go.assert_called_once_with()


async def test_a_row_that_is_never_written_does_not_keep_the_server(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "is_told", lambda: False)
    monkeypatch.setattr(shutdown, "ROW_SECONDS", 0.05)
    server = Server()
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: drain._callbacks)
    drain.end()
    await until(lambda: server.heard)


@override_settings(SSE_POLLING={"DRAIN": {"seconds": 0, "ack_seconds": 0, "spread_seconds": 0}})
async def test_a_drain_that_is_never_over_does_not_keep_the_server(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "LATE_SECONDS", 0.01)
    server = Server()
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: server.heard)
    drain.end()
    await asyncio.sleep(0.05)
    assert server.heard == [signal.SIGTERM]


async def test_a_signal_that_a_parent_repeats_at_once_is_not_a_second_one(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hypercorn's parent tells its slower worker twice, one right after the other."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a parent")
    server = Server()
    listen()
    for _ in range(3):
        signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.05)
    assert server.heard == []
    assert drain.begun == ["signal"]


async def test_without_a_parent_a_second_ctrl_c_is_obeyed_at_once(drain: Drain) -> None:
    server = Server()
    listen()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)  # whoever started it passes the first one on
    assert server.heard == []
    signal.raise_signal(signal.SIGINT)
    assert server.heard == [signal.SIGINT]


@pytest.mark.usefixtures("_at_once")
async def test_what_a_parent_says_after_ctrl_c_is_not_a_second_signal(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a parent")
    server = Server()
    listen()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert server.heard == []
    signal.raise_signal(signal.SIGINT)
    assert server.heard == [signal.SIGINT]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("module", ["uvicorn.server", "a.server"])
async def test_a_second_signal_reaches_the_server_and_cuts_the_streams(drain: Drain, module: str) -> None:
    server = Server(module=module)
    cut: list[str] = []
    connection = Connection(channels=("news",), door="mount")
    connection.on_leave = lambda: cut.append(f"left: {connection.leaving}")
    connection.abort_transport = lambda: cut.append("aborted")
    registry.take(connection)
    flushing = Connection(channels=("news",), door="mount", abort_transport=lambda: cut.append("aborted"))
    node.flushing.add(flushing)
    try:
        listen()
        signal.raise_signal(signal.SIGTERM)
        told = len(server.heard)
        signal.raise_signal(signal.SIGTERM)
        assert len(server.heard) == told + 1
        await until(lambda: "aborted" in cut)
        assert cut == ["left: gone", "aborted", "aborted"]
        drain.end()
        await asyncio.sleep(0.05)
        assert len(server.heard) == told + 1
    finally:
        registry.release(connection)
        node.flushing.discard(flushing)


async def test_a_signal_that_is_ignored_stays_ignored(drain: Drain) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.raise_signal(signal.SIGINT)
    assert drain.begun == []


async def test_listening_again_changes_nothing(drain: Drain) -> None:
    Server()
    listen()
    ours, watch = signal.getsignal(signal.SIGTERM), shutdown._watch
    listen()
    assert signal.getsignal(signal.SIGTERM) == ours
    assert shutdown._watch is watch


async def _listen() -> None:
    listen()


@pytest.mark.parametrize("taken", [False, True])
def test_the_handlers_are_given_back_when_the_loop_ends(drain: Drain, taken: bool) -> None:
    found: Any = Server().handler

    async def main() -> None:
        nonlocal found
        listen()
        if taken:
            found = Server().handler
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [signal.getsignal(number) for number in shutdown.SIGNALS] == [found, found]


def test_the_handler_of_asyncio_run_ends_with_it(drain: Drain) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.run(_listen())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_happens(drain: Drain) -> None:
    server = Server()
    thread = threading.Thread(target=lambda: asyncio.run(_listen()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is server.handler
    assert shutdown._watch is None


def test_under_wsgi_nothing_happens(drain: Drain) -> None:
    server = Server()
    heard: list[Any] = []

    async def view() -> None:
        listen()
        heard.append(signal.getsignal(signal.SIGTERM))

    async_to_sync(view)()
    assert heard == [server.handler]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_of_hypercorn_is_told_by_a_task_that_ends(
    drain: Drain, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    from hypercorn.utils import ShutdownError, raise_shutdown

    monkeypatch.setitem(sys.modules, "hypercorn.asyncio.run", ModuleType("hypercorn.asyncio.run"))
    monkeypatch.setattr(shutdown, "LOOK_SECONDS", 0.01)
    Server()
    if when == "after":  # as when the application is started
        listen()
    told = asyncio.Event()
    task = asyncio.create_task(raise_shutdown(told.wait))
    if when == "before":
        listen()
    await until(lambda: shutdown._watch and shutdown._watch._found)
    assert drain.begun == []
    told.set()
    with pytest.raises(ShutdownError):
        await task
    await until(lambda: drain.begun)


async def test_twisted_accepts_nobody_while_it_drains(drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    port = SimpleNamespace(stopListening=lambda: closed.append("port"))
    loop = asyncio.get_running_loop()
    reactor = SimpleNamespace(_asyncioEventloop=loop, getReaders=lambda: [port, SimpleNamespace()])
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    Server()
    listen()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: closed)
    assert closed == ["port"]


async def test_granian_hears_only_the_first_signal(drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the third its handler would block the loop for good, in the middle of the drain."""
    monkeypatch.setitem(sys.modules, "granian", ModuleType("granian"))
    loop: Any = asyncio.get_running_loop()
    heard: list[int] = []
    for number in shutdown.SIGNALS:
        loop.add_signal_handler(number, heard.append, number)
    try:
        listen()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: heard)
        await until(lambda: not loop._signal_handlers)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
        assert heard == [signal.SIGTERM]
    finally:
        for number in shutdown.SIGNALS:
            loop.remove_signal_handler(number)


_START = """
import asyncio, os, signal, sys
import django
django.setup()
from sse_polling import shutdown
from sse_polling.draining import draining
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _START + code], check=False, capture_output=True, text=True, timeout=60
    )


def test_a_process_that_had_no_handler_dies_of_the_signal_after_the_drain() -> None:
    ended = run(
        "async def main():\n"
        "    shutdown.listen()\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    while not draining.is_over: await asyncio.sleep(0.01)\n"
        "    print('drained', flush=True)\n"
        "    await asyncio.sleep(30)\n"
        "asyncio.run(main())"
    )
    assert (ended.stdout, ended.returncode) == ("drained\n", -signal.SIGTERM), ended.stderr


def test_the_child_of_a_fork_has_the_handlers_from_before() -> None:
    ended = run(
        "handler = lambda number, frame: print('the server', flush=True)\n"
        "signal.signal(signal.SIGTERM, handler)\n"
        "async def main():\n"
        "    shutdown.listen()\n"
        "    if (child := os.fork()) == 0:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "        os._exit(shutdown._watch is not None)\n"
        "    _, status = os.waitpid(child, 0)\n"
        "    print(status, signal.getsignal(signal.SIGTERM) == shutdown._watch._on_signal)\n"
        "asyncio.run(main())"
    )
    assert ended.stdout == "the server\n0 True\n", ended.stderr


@pytest.mark.parametrize(("limit", "within"), [(5, 4.6), (0.4, 0.1), (0, 0.1)])  # a moment is left always
async def test_a_drain_is_told_after_how_many_seconds_uvicorn_cuts(
    drain: Drain, limit: float, within: float
) -> None:
    class Config:
        timeout_graceful_shutdown = limit

    class Patient:
        config = Config()

        def handle_exit(self, number: int, frame: Any) -> None:
            pass

    Patient.handle_exit.__module__ = "uvicorn.server"
    for number in shutdown.SIGNALS:
        signal.signal(number, Patient().handle_exit)
    shutdown.listen()
    signal.raise_signal(signal.SIGTERM)
    assert drain.within == [pytest.approx(within)]
