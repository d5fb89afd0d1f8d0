"""The fault suite: real processes that are killed, frozen and cut off while clients read.

A trial (``trial.py``) runs on a fleet (``fleet.py``): PostgreSQL, Redis, two daphne and two uvicorn, two
publishing processes of two threads each; or the embedded default, a daphne and a uvicorn on one SQLite
file; or servers that reach PostgreSQL and Redis through proxies. Fifty clients read four channels,
some of them several at once, each coming back to another process every time. One fault (``twenty.py``)
strikes and heals. Then the channels are finished, every client reads until it was told so, and

- what each client has is the committed history as plain SQL reads it: ids, names, data, order, each once;
- no `gap` was sent, no status but 200 and 204, and every process has served;
- what publishers were acknowledged is stored under the id that they were told, what they rolled back is not;
- no publisher's on_commit has waited for anything; while only Redis was ill, no publisher has;
- within seconds every server says that the layer wakes it again (`GET ready/`).

    make faults                                   # each in its short form, once
    make faults FORM=full LAYER=core REPEAT=3     # as long as it gets
    make soak MINUTES=10                          # mixed load, a random fault every 20 s

A rolling restart (``rolling.py``) replaces one process after the other while 500 clients read, 20 of them a
real browser's: by SIGTERM alone, after ``sse_drain``, and with clients that ack, close or do neither. Beside
the transcripts it judges how each response ends, as nginx's clients and the processes' own see it, and
whether processes know how their clients went.

A repeat has other channels, readers and moments. SSE_POLLING_FAULT_REPORT names a file that takes a JSON
line for each trial: recovery times, latencies, the longest publish. `make test` runs the quick ones.

These bugs were planted in the fleet's processes (``planted.py``; with SSE_POLLING_PLANTED=1 `make faults`
does it again), Redis was killed for a second, and this is what was reported:

- wakes trusted as data, only the event that was told is added: "b:7 after 5", an event lost
- the sequence is the primary key, without the row's lock: "a:7 after 0", or a gap where another
  transaction had taken a number
- replay, then register: "a:30 after 28", an event that came between the two is lost; or a cursor that moves
  over an event that was not sent
- nobody supervises the receiving task: "not every server hears of the layer again"; every event still
  came, since heads are compared with the database
- a rolling restart without a drain: "cut off after b'…'" from the clients of daphne
- a drain whose last words name the stream's first id: "a:7 after 12", events repeated
- acks that stay in the process that took them: none of those that were asked has acked
"""
