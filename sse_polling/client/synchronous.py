"""The loop for threads: ask, read, wait, and again. The same as asynchronous.py, line by line."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from typing import Any, Unpack

import httpx
from httpx_sse import connect_sse

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
from .room import Room

__all__ = ["iter_events"]


def iter_events(
    url: str | httpx.URL,
    last_event_id: str | None = None,
    *,
    client: httpx.Client | None = None,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
    commit: Callable[[str], object] | None = None,
    sleep: Callable[[float], object] = time.sleep,
    **knobs: Unpack[Knobs],
) -> Generator[Event, None, None]:
    """Iterate over the events of a stream, from burst to burst, until its channels are finished.

    The blocking twin of :func:`~sse_polling.client.stream_events`, which would have the plain name, were that
    not the asynchronous one's by custom. See :mod:`sse_polling.client` for the contract and the knobs.
    """
    course = Course(url, last_event_id, **knobs)
    options: dict[str, Any] = {"headers": headers} if auth is None else {"headers": headers, "auth": auth}
    return _run(course, client, options, commit, sleep)


def _run(
    course: Course,
    client: httpx.Client | None,
    options: dict[str, Any],
    commit: Callable[[str], object] | None,
    sleep: Callable[[float], object],
) -> Generator[Event, None, None]:
    save = _saver(course, commit)
    with ExitStack() as stack:
        room: Room | None = None
        if client is None:
            room = stack.enter_context(Room.enter(course.address.origin))
            client = stack.enter_context(httpx.Client())
        while not course.is_over:
            try:
                with _opened(client, course, options, room) as response, closing(_body(response)) as body:
                    answer = course.answered(response)
                    if answer is Answer.REFUSED:
                        hurry(response)
                        course.refused(response, _beginning(body, course))
                    elif answer is Answer.STREAM:
                        for data in body:
                            for event in course.feed(data):
                                if event is not None:
                                    yield event
                                save()  # the consumer has come back, so it is done with that event
                            _say_goodbye(client, course, options, room)
                            if course.lets_go:
                                break
                        course.ended()
            except (Lost, Damaged) as error:
                course.failed(error)
            if not course.is_over:
                sleep(course.wait_seconds)


def _saver(course: Course, commit: Callable[[str], object] | None) -> Callable[[], None]:
    """Return what commits the course's cursor, if it has moved."""
    committed = course.last_event_id

    def save() -> None:
        nonlocal committed
        if commit is not None and committed != course.last_event_id:
            commit(course.last_event_id)
            committed = course.last_event_id

    return save


@contextmanager
def _opened(
    client: httpx.Client, course: Course, options: dict[str, Any], room: Room | None
) -> Iterator[httpx.Response]:
    """Send the course's request, through redirects, and close whatever answers it. Raises :exc:`Lost`."""
    headers = course.headers(options["headers"], closes=room is not None and room.is_crowded)
    sent = {**options, "headers": headers, "timeout": course.timeout}
    with ExitStack() as stack:
        if room is not None:
            stack.enter_context(room.connection())
        with on_the_way():
            opened = connect_sse(client, "GET", course.address.url, follow_redirects=False, **sent)
            response = stack.enter_context(opened).response
        # By hand: httpx would read a redirect's body to its end, however long. It has made the next request,
        # without what another host must not see.
        for _ in range(MAX_REDIRECTS):
            if (request := response.next_request) is None:
                break
            with on_the_way():
                response.close()
                response = client.send(request, stream=True, auth=None, follow_redirects=False)
            stack.callback(response.close)
        if response.next_request is not None:
            to = place(response.next_request.url)
            raise NotAStream(f"More than {MAX_REDIRECTS} redirects, the next to {to}.")
        yield response


def _body(response: httpx.Response) -> Generator[bytes, None, None]:
    """Yield the body as it comes, compressed if it is. Raises :exc:`Lost`."""
    with on_the_way():
        yield from response.iter_raw()


def _beginning(body: Generator[bytes, None, None], course: Course) -> bytes:
    """Return enough of a refusal's body for a sentence."""
    read = b""
    until = course.clock() + REFUSAL_SECONDS
    with suppress(Lost):
        for data in body:
            read += data
            if len(read) >= REFUSAL_BYTES or course.clock() >= until:
                break
    return read[:REFUSAL_BYTES]


def _say_goodbye(client: httpx.Client, course: Course, options: dict[str, Any], room: Room | None) -> None:
    """Ack, if the server has asked for it. It is no loss if that fails: letting go is an ack as well."""
    if (goodbye := course.goodbye()) is not None:
        url, form = goodbye
        sent = {**options, "data": form, "timeout": ACK_TIMEOUT, "follow_redirects": False}
        free = room.connection(waits=False) if room is not None else nullcontext()
        with suppress(httpx.HTTPError, Lost), free, client.stream("POST", url, **sent):
            pass  # whatever it says
