"""The account of a reading: every record that went in was kept, dropped for a reason, or ended in an error."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Account:
    """Counts of records: `seen` by whoever reads them, and of these `kept` (one document each), `dropped` and `errors`.

    Dropped is what a rule left out; an error is what could not be read. Reasons are few and fixed: no names, no numbers
    of a single record in them."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def take_back(self, reason: str) -> None:
        """A document counted as kept is dropped by a later step."""
        self.kept -= 1
        self.dropped[reason] += 1

    def add(self, other: "Account") -> None:
        """Add the counts of another part of the same reading."""
        self.seen += other.seen
        self.kept += other.kept
        self.dropped += other.dropped
        self.errors += other.errors

    def check(self) -> None:
        """Raises RuntimeError where a record is not accounted for, or twice."""
        outcomes = self.kept + self.dropped.total() + self.errors.total()
        if self.seen != outcomes:
            raise RuntimeError(
                f"{self.seen:,} records went in, {outcomes:,} are accounted for: {self}; please report this"
            )
