"""The twenty faults."""

from __future__ import annotations

from . import client_faults, database_faults, process_faults, redis_faults
from .fault import Fault

__all__ = ["TWENTY"]

TWENTY = [
    Fault(
        name="01-redis-killed",
        strike=redis_faults.killed,
        short=0,
        full=0,
        publishing_goes_on=True,
    ),
    Fault(name="02-redis-away", strike=redis_faults.killed, short=3, full=20, publishing_goes_on=True),
    Fault(name="03-redis-frozen", strike=redis_faults.frozen, short=6, full=10, publishing_goes_on=True),
    Fault(
        name="04-subscribers-killed",
        strike=redis_faults.subscribers_killed,
        short=1.5,
        full=6,
        publishing_goes_on=True,
    ),
    Fault(name="05-redis-flushed", strike=redis_faults.flushed, short=1, full=5, publishing_goes_on=True),
    Fault(name="06-redis-refusing", strike=redis_faults.refusing, short=3, full=15, publishing_goes_on=True),
    Fault(name="07-postgres-stopped", strike=database_faults.stopped, short=1, full=10),
    Fault(
        name="08-postgres-disconnected",
        strike=database_faults.disconnected,
        short=1.5,
        full=10,
    ),
    Fault(
        name="09-row-locked",
        strike=database_faults.row_locked,
        short=2,
        full=15,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="10-server-killed",
        strike=process_faults.server_killed,
        short=0.5,
        full=5,
        where=("fleet", "embedded"),
        quick=("fleet",),
    ),
    Fault(
        name="11-server-frozen",
        strike=process_faults.server_frozen,
        short=4,
        full=10,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="12-all-servers-restarted",
        strike=process_faults.all_servers_restarted,
        short=0,
        full=5,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="13-publisher-killed",
        strike=process_faults.publisher_killed,
        short=0.5,
        full=10,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="14-publishers-roll-back",
        strike=process_faults.publishers_roll_back,
        short=2,
        full=15,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="15-clients-cut",
        strike=client_faults.cut_anywhere,
        short=2,
        full=15,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="16-clients-trickle",
        strike=client_faults.trickling,
        short=3,
        full=20,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="17-clients-never-read",
        strike=client_faults.never_reading,
        short=3,
        full=20,
        where=("fleet", "embedded"),
    ),
    Fault(
        name="18-proxy-to-redis",
        strike=redis_faults.connections_cut,
        short=3,
        full=15,
        where=("proxied",),
        publishing_goes_on=True,
    ),
    Fault(
        name="19-proxy-to-postgres",
        strike=database_faults.connections_cut,
        short=3,
        full=15,
        where=("proxied",),
    ),
    Fault(
        name="20-proxy-to-clients",
        strike=client_faults.connections_cut,
        short=4,
        full=20,
        where=("fleet", "embedded"),
        quick=("embedded",),
        proxies=True,
    ),
]
