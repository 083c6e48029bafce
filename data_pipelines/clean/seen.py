"""A set of texts met before, kept as 64-bit hashes in a table of 8 bytes a place: memory has a limit."""

import logging
from array import array
from hashlib import blake2b

FIRST_PLACES = 1 << 14


class Seen:
    """Tells whether a text came before. Two of n texts share a hash with a chance of n squared / 2^65.

    megabytes: the table's size at most (of 2^20 bytes; while it grows, half as much again). A megabyte holds some 90,000
    texts. Full, it still knows those it holds and takes no new ones, which it says once."""

    def __init__(self, megabytes: int):
        self.most = max(FIRST_PLACES, megabytes * 2**20 // 8)
        self.table = array("Q", bytes(8 * FIRST_PLACES))  # 0 is a free place
        self.count = 0
        self.full = False

    def add(self, text: str) -> bool:
        """Remember a text; True where it is new."""
        value = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1
        table, places = self.table, len(self.table)
        place = value % places
        while table[place]:
            if table[place] == value:
                return False
            place = (place + 1) % places
        if 3 * self.count < 2 * places:  # fuller than two thirds, looking things up gets slow
            table[place] = value
            self.count += 1
        elif 2 * places <= self.most:
            self._grow()
            return self.add(text)
        elif not self.full:
            self.full = True
            megabytes = 8 * places // 2**20
            told = "the memory for repeated text is full (%s texts in %s MB): repeats of newer text are no longer found"
            logging.getLogger(__name__).warning(told, f"{self.count:,}", megabytes)
        return True

    def _grow(self) -> None:
        old, places = self.table, 2 * len(self.table)
        self.table = table = array("Q", bytes(8 * places))
        for value in old:
            if value:
                place = value % places
                while table[place]:
                    place = (place + 1) % places
                table[place] = value
