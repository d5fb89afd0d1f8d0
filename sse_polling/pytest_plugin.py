"""A pytest plugin, found by itself where the package is installed: the fixture ``transcript``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import Transcript

__all__ = ["transcript"]


@pytest.fixture
def transcript() -> Iterator[Callable[..., Transcript]]:
    """Return what makes a :class:`~sse_polling.testing.Transcript`; each is checked at the test's end.

    It needs the database, as the test that publishes does: mark it ``django_db``.
    """
    from .testing import Transcript  # needs Django's app registry

    made: list[Transcript] = []

    def make(*channels: str, **options: Any) -> Transcript:
        made.append(Transcript(*channels, **options))
        return made[-1]

    yield make
    for each in made:
        each.check()
