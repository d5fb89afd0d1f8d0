"""Count lost and repeated events against the producer's own numbering."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """One reader's count. The first number it sees is where it starts from."""

    highest: int | None = None
    received: int = 0
    lost: int = 0
    repeated: int = 0

    def take(self, number: int) -> None:
        """Count one event: what it skipped is lost, what it had already is repeated."""
        self.received += 1
        if self.highest is None or number == self.highest + 1:
            self.highest = number
        elif number > self.highest:
            self.lost += number - self.highest - 1
            self.highest = number
        else:
            self.repeated += 1
