"""The loop for asyncio: ask, read, wait, and again. The same as synchronous.py, line by line."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any, Unpack

import httpx
from httpx_sse import aconnect_sse

from .address import place
from .attempts import (
    ACK_TIMEOUT,
    MAX_REDIRECTS,
    REFUSAL_BYTES,
    REFUSAL_SECONDS,
    Lost,
    hurry,
    on_the_way,
)
from .course import Answer, Course, Knobs
from .event import Event
from .exceptions import NotAStream
from .inflating import Damaged
from .room import AsyncRoom

__all__ = ["stream_events"]


def stream_events(
    url: str | httpx.URL,
    last_event_id: str | None = None,
    *,
    client: httpx.AsyncClient | None = None,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    commit: Callable[[str], object] | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    **knobs: Unpack[Knobs],
) -> AsyncGenerator[Event, None]:
    """Iterate over the events of a stream, from burst to burst, until its channels are finished.

    See :mod:`sse_polling.client` for the contract and the knobs. *commit* may be a coroutine function.
    """
    course = Course(url, last_event_id, **knobs)
    options: dict[str, Any] = {"headers": headers} if auth is None else {"headers": headers, "auth": auth}
    return _run(course, client, options, commit, sleep)


async def _run(
    course: Course,
    client: httpx.AsyncClient | None,
    options: dict[str, Any],
    commit: Callable[[str], object] | None,
    sleep: Callable[[float], Awaitable[object]],
) -> AsyncGenerator[Event, None]:
    save = _saver(course, commit)
    async with AsyncExitStack() as stack:
        room: AsyncRoom | None = None
        if client is None:
            room = stack.enter_context(AsyncRoom.enter(course.address.origin))
            client = await stack.enter_async_context(httpx.AsyncClient())
        while not course.is_over:
            try:
                async with (
                    _opened(client, course, options, room) as response,
                    aclosing(_body(response)) as body,
                ):
                    answer = course.answered(response)
                    if answer is Answer.REFUSED:
                        hurry(response)
                        course.refused(response, await _beginning(body, course))
                    elif answer is Answer.STREAM:
                        async for data in body:
                            for event in course.feed(data):
                                if event is not None:
                                    yield event
                                await save()  # the consumer has come back, so it is done with that event
                            await _say_goodbye(client, course, options, room)
                            if course.lets_go:
                                break
                        course.ended()
            except (Lost, Damaged) as error:
                course.failed(error)
            if not course.is_over:
                await sleep(course.wait_seconds)


def _saver(course: Course, commit: Callable[[str], object] | None) -> Callable[[], Awaitable[None]]:
    """Return what commits the course's cursor, if it has moved."""
    committed = course.last_event_id

    async def save() -> None:
        nonlocal committed
        if commit is not None and committed != course.last_event_id:
            done = commit(course.last_event_id)
            if inspect.isawaitable(done):
                await done
            committed = course.last_event_id

    return save


@asynccontextmanager
async def _opened(
    client: httpx.AsyncClient, course: Course, options: dict[str, Any], room: AsyncRoom | None
) -> AsyncIterator[httpx.Response]:
    """Send the course's request, through redirects, and close whatever answers it. Raises :exc:`Lost`."""
    headers = course.headers(options["headers"], closes=room is not None and room.is_crowded)
    sent = {**options, "headers": headers, "timeout": course.timeout}
    async with AsyncExitStack() as stack:
        if room is not None:
            await stack.enter_async_context(room.connection())
        with on_the_way():
            opened = aconnect_sse(client, "GET", course.address.url, follow_redirects=False, **sent)
            response = (await stack.enter_async_context(opened)).response
        # By hand: httpx would read a redirect's body to its end, however long. It has made the next request,
        # without what another host must not see.
        for _ in range(MAX_REDIRECTS):
            if (request := response.next_request) is None:
                break
            with on_the_way():
                await response.aclose()
                response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            stack.push_async_callback(response.aclose)
        if response.next_request is not None:
            to = place(response.next_request.url)
            raise NotAStream(f"More than {MAX_REDIRECTS} redirects, the next to {to}.")
        yield response


async def _body(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, compressed if it is. Raises :exc:`Lost`."""
    with on_the_way():
        async for data in response.aiter_raw():
            yield data


async def _beginning(body: AsyncGenerator[bytes, None], course: Course) -> bytes:
    """Return enough of a refusal's body for a sentence."""
    read = b""
    until = course.clock() + REFUSAL_SECONDS
    with suppress(Lost):
        async for data in body:
            read += data
            if len(read) >= REFUSAL_BYTES or course.clock() >= until:
                break
    return read[:REFUSAL_BYTES]


async def _say_goodbye(
    client: httpx.AsyncClient, course: Course, options: dict[str, Any], room: AsyncRoom | None
) -> None:
    """Ack, if the server has asked for it. It is no loss if that fails: letting go is an ack as well."""
    if (goodbye := course.goodbye()) is not None:
        url, form = goodbye
        sent = {**options, "data": form, "timeout": ACK_TIMEOUT, "follow_redirects": False}
        free = room.connection(waits=False) if room is not None else nullcontext()
        with suppress(httpx.HTTPError, Lost):
            async with free, client.stream("POST", url, **sent):
                pass  # whatever it says
