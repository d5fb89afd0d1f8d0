"""The contract of a stream, at both doors and on both servers, byte by byte."""

from __future__ import annotations

import asyncio
import json
import random
import re

from tests.harness.client import Cut, assert_clean_chunks
from tests.harness.eventsource import parse
from tests.harness.http import Response

from .served import Served, eventually, fresh, opening_id, retries

EARLIEST = {"last_event_id": "earliest"}


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# How a stream opens


async def test_a_stream_opens_with_retry_and_id_and_no_data(served: Served) -> None:
    channel = fresh()
    first, *_ = served.shell.publish(channel, "a", "b")
    response = await served.get(channel, query={"last_event_id": first})
    assert opening_id(response) == first
    assert re.match(rb"retry: \d+\nid: [^\n]+\n\nid: [^\n]+\ndata: b\n\nretry: \d+\n\n\Z", response.body)
    assert [message.data for message in parse(response.body)] == ["b"]


async def test_a_primed_stream_opens_with_an_empty_data_line(small: Served) -> None:
    channel = fresh()
    small.shell.publish(channel, "a")
    response = await small.get(channel, query=EARLIEST)
    assert re.match(rb"retry: \d+\nid: [^\n]+\ndata:\n\n", response.body)
    assert [message.data for message in parse(response.body)] == ["", "a"]
    assert_clean_chunks(response)


async def test_the_headers_say_what_proxies_must_not_do(served: Served) -> None:
    response = await served.get(fresh(), headers={"Accept-Encoding": "gzip, deflate, br"})
    assert response.status == 200
    assert response.header("content-type") == "text/event-stream"
    assert response.header("cache-control") == "no-cache, no-transform"
    assert response.header("content-encoding") == "identity"
    assert response.header("x-accel-buffering") == "no"
    assert re.fullmatch(r"[A-Za-z0-9_-]{22,}", response.header("x-sse-stream"))
    assert response.header("connection").lower() == "close"
    assert not response.header("content-length")
    another = await served.get(fresh())
    assert another.header("x-sse-stream") != response.header("x-sse-stream")


async def test_a_stream_of_a_channel_nobody_published_to_is_empty_and_resumes_at_its_first_event(
    served: Served,
) -> None:
    channel = fresh()
    client = served.client(channel)
    response = await client.one_response(deadline=20)
    assert parse(response.body) == []
    assert client.last_event_id == opening_id(response) != ""
    served.server.publish(channel, "first", "second")
    await client.read_until(2, deadline=20)
    assert client.data == ["first", "second"]


async def test_a_client_cut_before_its_first_event_resumes_where_the_stream_began(served: Served) -> None:
    channel = fresh("held")
    served.shell.publish(channel, "before")
    client = served.client(channel)
    reading = asyncio.create_task(client.run(deadline=30, until=lambda client: len(client.data) == 2))
    await eventually(lambda: client.last_event_id)
    started = client.last_event_id
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    served.server.publish(channel, "while it was away")
    await client.run(deadline=30, until=lambda client: len(client.data) == 1)
    assert client.cursors_sent == ["", started]
    assert client.data == ["while it was away"]


# Where it starts


async def test_without_a_cursor_a_stream_starts_from_now(served: Served) -> None:
    channel = fresh()
    *_, last = served.shell.publish(channel, "a", "b")
    response = await served.get(channel)
    assert parse(response.body) == []
    assert opening_id(response) == last


async def test_earliest_starts_at_the_first_retained_event(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, *numbers(1, 8))
    assert [message.data for message in await served.messages(channel, query=EARLIEST)] == numbers(1, 8)
    trim(served, channel, keep=3)
    other = fresh()
    served.shell.publish(other, *numbers(1, 8))
    trim(served, other, keep=3)
    messages = await served.messages(other, query=EARLIEST)
    assert [(message.type, message.data) for message in messages] == [
        ("message", each) for each in numbers(6, 8)
    ]


async def test_the_header_wins_over_the_query(served: Served) -> None:
    channel = fresh()
    ids = served.shell.publish(channel, *numbers(1, 5))
    headers = {"Last-Event-ID": ids[3]}
    messages = await served.messages(channel, query={"last_event_id": ids[0]}, headers=headers)
    assert [message.data for message in messages] == ["5"]
    messages = await served.messages(channel, query={"last_event_id": ids[0]}, headers={"Last-Event-ID": ""})
    assert [message.data for message in messages] == numbers(2, 5)


async def test_cursor_is_the_id_of_now(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, "before")
    now = served.shell.run("result = sse_polling.cursor(channel)", channel=channel)
    served.server.publish(channel, "after")
    messages = await served.messages(channel, query={"last_event_id": now})
    assert [message.data for message in messages] == ["after"]
    assert messages[0].last_event_id == served.shell.run(
        "result = sse_polling.cursor(channel)", channel=channel
    )


# Bursts


async def test_bursts_follow_each_other_exactly(served: Served) -> None:
    channel = fresh()
    ids = served.shell.publish(channel, *numbers(1, 35))
    client = await served.client(channel, query=EARLIEST).read_until(35, deadline=30)
    assert client.data == numbers(1, 35)
    assert client.ids == ids
    assert [sum(entry.response == index for entry in client.transcript) for index in range(4)] == [
        10,
        10,
        10,
        5,
    ]
    assert client.cursors_sent == ["", ids[9], ids[19], ids[29]]
    for response in client.responses[:3]:
        assert response.complete
        assert_clean_chunks(response)


async def test_a_burst_that_leaves_events_over_asks_to_come_back_at_once(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, *numbers(1, 15))
    client = served.client(channel, query=EARLIEST)
    behind = retries(await client.one_response(deadline=20))
    in_time = retries(await client.one_response(deadline=20))
    assert client.data == numbers(1, 15)
    assert 700 <= behind[0] <= 1300
    assert 35 <= behind[-1] <= 65
    assert 700 <= in_time[-1] <= 1300
    assert [len(behind), len(in_time)] == [2, 2]


async def test_an_event_may_end_the_burst_without_linger(served: Served) -> None:
    channel = fresh("held")
    client = served.client(channel, query=EARLIEST)
    reading = asyncio.create_task(client.one_response(deadline=30))
    await eventually(lambda: client.last_event_id)
    served.server.publish(channel, events=[{"data": "a"}, {"data": "b", "ends_burst": True}, {"data": "c"}])
    response = await reading
    assert client.data == ["a", "b"]
    assert response.complete
    assert retries(response)[-1] <= 65  # c is left over
    await client.read_until(3, deadline=30)
    assert client.data == ["a", "b", "c"]


async def test_a_held_stream_follows_and_every_chunk_is_whole(served: Served) -> None:
    channel = fresh("held")
    client = served.client(channel)
    reading = asyncio.create_task(client.run(deadline=30))
    await eventually(lambda: client.last_event_id)
    for number in range(1, 13):
        served.server.publish(channel, f"{number}\r\nsecond\rthird\nline", {"n": number})
        await eventually(lambda sent=2 * number: len(client.data) >= sent)
    served.server.publish(channel, finish={"all": True})
    await reading
    assert client.data[0] == "1\nsecond\nthird\nline"
    assert client.data[1::2] == [f'{{"n":{number}}}' for number in range(1, 13)]
    assert client.data[-1] == '{"all":true}'
    assert client.statuses == [200, 204]
    assert_clean_chunks(client.responses[0])


async def test_events_keep_their_names_and_odd_text(served: Served) -> None:
    channel = fresh()
    odd = "\ufeffa\u2028b: c\n\n:d\n data: e"
    served.server.publish(channel, odd, " leading", "", events=[{"data": {"ä": 1}, "event": "log line"}])
    messages = await served.messages(channel, query=EARLIEST)
    assert [message.data for message in messages] == [odd, " leading", "", '{"ä":1}']
    assert [message.type for message in messages] == ["message"] * 3 + ["log line"]


async def test_a_rolled_back_event_is_never_seen(served: Served) -> None:
    channel = fresh("held")
    client = served.client(channel)
    reading = asyncio.create_task(client.read_until(2, deadline=30))
    await eventually(lambda: client.last_event_id)
    served.server.publish(channel, "kept")
    served.server.publish(channel, "undone", rollback=True)
    served.server.publish(channel, "kept too")
    await reading
    assert client.data == ["kept", "kept too"]
    stored = "from sse_polling.models import Event\nresult = list(Event.objects.filter(channel__name=channel)"
    stored += ".order_by('sequence').values_list('sequence', 'data'))"
    assert served.shell.run(stored, channel=channel) == [[1, "kept"], [2, "kept too"]]


async def test_heartbeats_are_one_line_comments(served: Served) -> None:
    channel = fresh("held")
    client = served.client(channel)
    reading = asyncio.create_task(client.one_response(deadline=30))
    await eventually(lambda: client.last_event_id)
    await asyncio.sleep(1.1)  # five of them
    served.server.publish(channel, events=[{"data": "a", "ends_burst": True}])
    response = await reading
    assert_clean_chunks(response)
    beats = [chunk for chunk in response.chunks if chunk.startswith(b":")]
    assert len(beats) >= 2
    assert set(beats) == {b":\n"}
    assert client.data == ["a"]


async def test_a_big_event_is_never_split_over_two_chunks(served: Served) -> None:
    channel = fresh()
    big = ["x" * 200_000, "\n".join("y" * 99 for _ in range(2000)), "ü" * 100_000]
    served.shell.publish(channel, *big)
    client = await served.client(channel, query=EARLIEST).read_until(3, deadline=30)
    assert client.data == big
    for response in client.responses:
        # The client stopped reading with the last event, in mid-chunk or not.
        for chunk in response.chunks:
            assert chunk.endswith(b"\n\n"), f"a chunk ends inside a block: {chunk[-200:]!r}"
    whole = await served.get(channel, query=EARLIEST)
    assert_clean_chunks(whole)
    assert [message.data for message in parse(whole.body)] == big
    assert max(len(chunk) for chunk in whole.chunks) > 200_000


# Resuming


async def test_a_client_cut_anywhere_misses_and_repeats_nothing(served: Served) -> None:
    channel = fresh()
    ids = served.shell.publish(
        channel, "start", *(f"{number} " + "x" * (number % 50) for number in range(60))
    )
    rng = random.Random(f"cuts of {served.door} {served.server.kind}")
    cuts = [Cut(rng.randint(1, 1_500), rng.choice(["fin", "rst"])) for _ in range(25)]
    client = served.client(channel, query={"last_event_id": ids[0]}, cuts=cuts)
    await client.read_until(60, deadline=60)
    assert client.ids == ids[1:]
    assert not [kind for kind in client.types if kind != "message"]


async def test_a_cursor_of_a_trimmed_event_gets_one_gap_and_all_that_is_retained(served: Served) -> None:
    channel = fresh()
    ids = served.shell.publish(channel, *numbers(1, 30))
    trim(served, channel, keep=5)
    client = await served.client(channel, query={"last_event_id": ids[1]}).read_until(6, deadline=30)
    assert client.types == ["gap"] + ["message"] * 5
    assert client.data[1:] == numbers(26, 30)
    lost = json.loads(client.data[0])
    assert lost == {"channel": channel, "from": 3, "to": 25, "reason": "trimmed"}
    # The gap's own id is the place just before the first retained event.
    messages = await served.messages(channel, query={"last_event_id": client.ids[0]})
    assert [message.data for message in messages] == numbers(26, 30)
    # A cursor that needs none of what is gone is not told of it.
    messages = await served.messages(channel, query={"last_event_id": ids[25]})
    assert [message.data for message in messages] == numbers(27, 30)


async def test_a_cursor_of_another_life_gets_a_reset_and_all_of_the_new_life(served: Served) -> None:
    for warm in (False, True):
        channel = fresh()
        ids = served.shell.publish(channel, *numbers(1, 3))
        if warm:
            await served.messages(channel, query=EARLIEST)
        erase(served, channel)
        # In the server's own process: a warm channel is told of it.
        served.server.publish(channel, "new", "newer", "newest", "the very newest")
        client = served.client(channel, last_event_id=ids[2])
        await client.read_until(5, deadline=30)
        assert client.types == ["gap"] + ["message"] * 4, f"warm: {warm}"
        assert json.loads(client.data[0]) == {"channel": channel, "from": 4, "to": None, "reason": "reset"}
        assert client.data[1:] == ["new", "newer", "newest", "the very newest"]


async def test_a_held_stream_is_told_when_its_channel_is_made_anew(served: Served) -> None:
    channel = fresh("held")
    served.server.publish(channel, "old")
    client = served.client(channel, query=EARLIEST)
    reading = asyncio.create_task(client.read_until(3, deadline=30))
    await eventually(lambda: client.data)
    erase(served, channel)
    served.shell.publish(channel, "new")
    await reading
    assert client.types == ["message", "gap", "message"]
    assert client.data[2] == "new"


# The end


async def test_the_end_is_sent_and_then_204(served: Served) -> None:
    channel = fresh()
    served.server.publish(channel, "a", finish={"status": "passed"})
    client = await served.client(channel, query=EARLIEST).run(deadline=30)
    assert client.types == ["message", "end"]
    assert client.data[1] == '{"status":"passed"}'
    assert client.statuses == [200, 204]
    assert client.responses[1].body == b""


async def test_without_a_cursor_the_end_comes_first(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, "a")
    served.server.publish(channel, finish=None)
    client = await served.client(channel).run(deadline=30)
    assert [(entry.type, entry.data) for entry in client.transcript] == [("end", "{}")]
    assert client.statuses == [200, 204]


async def test_the_end_ends_a_held_stream_at_once(served: Served) -> None:
    channel = fresh("held")
    client = served.client(channel)
    reading = asyncio.create_task(client.run(deadline=30))
    await eventually(lambda: client.last_event_id)
    served.server.publish(channel, finish="bye")
    await reading
    assert client.statuses == [200, 204]
    assert client.types == ["end"]


async def test_a_cursor_at_the_end_of_an_erased_channel_gets_204(served: Served) -> None:
    channel = fresh()
    served.server.publish(channel, "a", finish=None)
    client = served.client(channel, query=EARLIEST)
    await client.one_response(deadline=20)
    erase(served, channel)
    await client.run(deadline=20)
    assert client.statuses == [200, 204]


# Several channels


async def test_several_channels_share_a_stream_and_a_cursor(served: Served) -> None:
    channels = [fresh() for _ in range(3)]
    for number in range(1, 13):
        served.shell.publish(channels[number % 2], number)
    client = served.client([*channels, channels[0]], query=EARLIEST)
    await client.read_until(12, deadline=30)
    envelopes = [json.loads(data) for data in client.data]
    for parity in (0, 1):
        of_one = [each for each in envelopes if each["channel"] == channels[parity]]
        assert [each["data"] for each in of_one] == [str(each) for each in range(1, 13) if each % 2 == parity]
    assert set(map(tuple, envelopes)) == {("channel", "id", "event", "data")}
    assert len(client.responses) == 2  # ten of the twelve in the first burst
    assert len(set(client.ids)) == 12
    # The id of an event inside the envelope is the one of its own channel's stream.
    alone = await served.messages(channels[0], query=EARLIEST)
    assert [message.last_event_id for message in alone] == [
        each["id"] for each in envelopes if each["channel"] == channels[0]
    ]
    # The third channel begins while the client is away.
    served.server.publish(channels[2], "late")
    await client.read_until(13, deadline=30)
    assert json.loads(client.data[-1])["channel"] == channels[2]


async def test_a_stream_of_several_ends_when_all_of_them_did(served: Served) -> None:
    channels = [fresh() for _ in range(2)]
    served.server.publish(channels[0], "a", finish={"of": 0})
    client = served.client(channels, query=EARLIEST)
    await client.one_response(deadline=20)
    await client.one_response(deadline=20)
    assert client.statuses == [200, 200]
    assert [json.loads(data)["event"] for data in client.data] == ["message", "end"]
    served.server.publish(channels[1], "b", finish={"of": 1})
    await client.run(deadline=30)
    # A poll that comes before the publish has reached the hub is empty.
    assert set(client.statuses[2:-1]) == {200}
    assert client.statuses[-1] == 204
    last = json.loads(client.data[-1])
    assert (last["channel"], last["event"], last["data"]) == (channels[1], "end", '{"of":1}')


async def test_one_cut_in_a_stream_of_several_loses_nothing(served: Served) -> None:
    channels = [fresh() for _ in range(4)]
    now = served.shell.run("result = sse_polling.cursor(*channels)", channels=channels)
    for number in range(40):
        served.shell.publish(channels[number % 4], number)
    rng = random.Random(f"several {served.door} {served.server.kind}")
    cuts = [Cut(rng.randint(1, 2_500), rng.choice(["fin", "rst"])) for _ in range(15)]
    client = served.client(channels, query={"last_event_id": now}, cuts=cuts)
    await client.read_until(40, deadline=60)
    envelopes = [json.loads(data) for data in client.data]
    for index, channel in enumerate(channels):
        of_one = [int(each["data"]) for each in envelopes if each["channel"] == channel]
        assert of_one == list(range(index, 40, 4))


# The socket


async def test_the_socket_is_closed_when_the_burst_is_over(served: Served) -> None:
    client = served.client(fresh(), keep_open=True)
    async with client:
        await client.one_response(deadline=20)
        if served.door == "view" and served.server.kind == "daphne":
            return  # it keeps what the view cannot reach: a system check says so
        async with asyncio.timeout(20):
            assert await client.kept[0].receive() == b""


async def test_a_kept_socket_carries_the_next_burst(small: Served) -> None:
    channel = fresh()
    small.shell.publish(channel, *numbers(1, 35))
    async with small.client(channel, query=EARLIEST) as client:
        await client.run(deadline=30, until=lambda client: client.data.count("35") > 0)
        assert [data for data in client.data if data] == numbers(1, 35)
        assert len(client.responses) == 4
        if small.door == "mount":
            assert client.connections == 1
            assert all(response.header("connection").lower() != "close" for response in client.responses)
        else:
            # A view cannot tell one socket from another: in a process of two places it keeps few.
            assert client.connections > 1


async def test_http_1_0_gets_its_stream_too(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, "a")
    raw = f"GET {served.path(channel, **EARLIEST)} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    response: Response = await served.get(channel, raw=raw)
    assert response.complete
    assert [message.data for message in parse(response.body)] == ["a"]


# What a test does to a channel


def trim(served: Served, channel: str, *, keep: int) -> None:
    """Trim the channel to its newest events, as the lease's holder does."""
    served.shell.run(
        "from sse_polling import history\n"
        "from sse_polling.conf import get_config\n"
        "from sse_polling.models import Channel\n"
        "Channel.objects.filter(name=channel).update(max_events=keep)\n"
        "list(history.trim(get_config()))\n"
        "result = Channel.objects.get(name=channel).events.count()\n",
        channel=channel,
        keep=keep,
    )


def erase(served: Served, channel: str) -> None:
    served.shell.run("from sse_polling import history\nlist(history.erase(channel))", channel=channel)
