"""The socket budget on a simulated server, to 100,000 clients: no socket, no waiting, one heap of events.

    .venv/bin/python -m benchmarks.simulation [--poll 450] [--event 21] [--base 0.21]

`--poll` and `--event` are the processor time, in microseconds, of a poll and of an event that is sent to a
held stream, `--base` the share of the core for all else (the channels' own events, Redis): what the measured
run beside which this stands had. A client has an event a second. The crowd
comes at 500 clients a second, is given three minutes to settle, and is watched for four waits, a minute at
least.
"""

from __future__ import annotations

import argparse

from sse_polling.protocol.budget import SocketBudget
from tests.harness.crowd import Crowd, quantiles

CLIENTS = (1_000, 10_000, 30_000, 100_000)
BUDGETS = (500, 2000, 6000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--poll", type=float, default=450)
    parser.add_argument("--event", type=float, default=21)
    parser.add_argument("--base", type=float, default=0.21)
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS)
    options = parser.parse_args()
    print(
        "| clients | budget | sockets, mean | at most | processor | polls a second | wait | p50 | p75 | p95 |"
    )
    print("|" + "---|" * 10)
    for clients in options.clients:
        for budget in BUDGETS:
            crowd = Crowd(
                SocketBudget(budget, longest_wait=60 / 1.3),  # the jitter stays below RETRY["max_ms"]
                poll_seconds=options.poll / 1e6,
                event_seconds=options.event / 1e6,
                base=options.base,
            )
            ramp = clients / 500
            crowd.join(clients, within=ramp)
            crowd.go(ramp + 180)
            begin = crowd.now
            samples = crowd.go(max(60, 4 * crowd.samples[-1].wait))
            sockets, busy, polls = (
                sum(getattr(each, field) for each in samples) / len(samples)
                for field in ("sockets", "busy", "polls")
            )
            most = max(each.most for each in crowd.samples)
            late = " | ".join(f"{each:.2f} s" for each in quantiles(crowd, (0.5, 0.75, 0.95), since=begin))
            print(
                f"| {clients:,} | {budget:,} | {sockets:,.0f} | {most:,} | {busy:.2f} | {polls:,.0f}"
                f" | {samples[-1].wait:.2f} s | {late} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
