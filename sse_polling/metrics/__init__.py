"""Metrics: the fleet for Prometheus, at ``metrics/``.

Everything comes from the rows of all processes, so that whichever of them answers says the same: scrape ONE
address of the site, not each process. The row of the process that answers is at most a few seconds
old, as all others; ``sse_polling_node_age_seconds`` tells.

Each process is a ``node`` label of its own, and its counters belong to its life: they begin at 0 and never go
back. So ``rate()`` and ``increase()`` work for each node, and a ``sum()`` over them is the fleet's. A process
that has ended stays for some minutes, so that its last counts are scraped; a silent one for ten.
"""

from __future__ import annotations

from .view import metrics

__all__ = ["metrics"]
