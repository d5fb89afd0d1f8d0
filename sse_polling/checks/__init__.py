"""System checks. Silence one with ``SILENCED_SYSTEM_CHECKS``.

======================  ==========================================================================
sse_polling.E001        a key of ``SSE_POLLING`` that does not exist, or a value that cannot be
sse_polling.E002        an ``AUTHORIZE``, of the settings or of ``CHANNELS``, that cannot be called
sse_polling.E003        no channel layer of the name ``CHANNEL_LAYER``
sse_polling.E004        a ``PER_CLIENT["key"]`` that cannot be called
sse_polling.W001        the in-memory channel layer with ``DEBUG = False``
sse_polling.W002        the core Redis layer with its default capacity
sse_polling.W003        ``CONN_MAX_AGE`` above 0 under ASGI
sse_polling.W004        SQLite without write-ahead logging
sse_polling.W005        SQLite without ``transaction_mode`` ``IMMEDIATE``
sse_polling.W006        ``public`` or ``authenticated`` alone decides who reads, with ``DEBUG = False``
sse_polling.W007        daphne serves without ``SSEPolling``
sse_polling.W008        PostgreSQL on another host without time limits, with ``DEBUG = False``
sse_polling.W009        a project that only WSGI serves: nothing holds a stream
sse_polling.W010        ``TRUSTED_PROXIES`` that trust everybody
sse_polling.W011        ``MAX_SOCKETS`` beyond the descriptor limit
sse_polling.W012        a ``BUDGET`` that the circuit breaker cuts off
sse_polling.W013        kept sockets, and a ``RETRY`` beyond ``KEEP_ALIVE_SECONDS``
sse_polling.W014        kept sockets, and a ``BUDGET`` that they would use up
sse_polling.W015        a ``DRAIN`` whose parts take longer than the whole
======================  ==========================================================================

None needs a database connection. Importing this package registers them.
"""

from __future__ import annotations

from . import capacity, clients, database, drain, layer, reading, server, sockets, values, wsgi

__all__ = [
    "capacity",
    "clients",
    "database",
    "drain",
    "layer",
    "reading",
    "server",
    "sockets",
    "values",
    "wsgi",
]
