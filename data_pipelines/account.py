"""The account of a reading: every record that went in was kept, dropped for a reason, or ended in an error."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Account:
    """Counts of records: `seen` by whoever reads them, and of these `kept` (one document each), `dropped` and `errors`.

    Dropped is what a rule left out; an error is what could not be read. Reasons are few and fixed: no names, no numbers
    of a single record in them."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        """A record is seen, and left out at once."""
        self.seen += 1
        self.dropped[reason] += 1

    def fail(self, reason: str) -> None:
        """A record, or the file that held it, is seen and cannot be read."""
        self.seen += 1
        self.errors[reason] += 1

    def take_back(self, reason: str) -> None:
        """A document counted as kept is dropped by a later step."""
        self.kept -= 1
        self.dropped[reason] += 1

    def forget_unfinished(self) -> None:
        """The reading ends early: records it has begun, and nothing is known of yet, were not part of it."""
        self.seen = self.kept + self.dropped.total() + self.errors.total()

    def reasons(self) -> str:
        """Why records are not kept, in words, the commonest reason first."""
        parts = {"dropped": self.dropped, "errors": self.errors}
        told = {name: ", ".join(f"{n:,} {why}" for why, n in counts.most_common()) for name, counts in parts.items()}
        return f"dropped: {told['dropped'] or 'none'}; errors: {told['errors'] or 'none'}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the commonest reason first."""
        reasons = {"dropped": dict(self.dropped.most_common()), "errors": dict(self.errors.most_common())}
        return {"seen": self.seen, "kept": self.kept, **reasons}

    def check(self) -> None:
        """Raises RuntimeError where a record is not accounted for, or twice."""
        outcomes = self.kept + self.dropped.total() + self.errors.total()
        if self.seen != outcomes:
            raise RuntimeError(
                f"{self.seen:,} records went in, {outcomes:,} are accounted for: {self}; please report this"
            )
