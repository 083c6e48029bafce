"""Spoilt input for parsers: the same mutants each time, and what no parser may do with them.

2,000 mutants a parser in `make test`; `make fuzz` asks for 100,000 through LLAMA_DATA_MUTANTS."""

import os
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence

MUTANTS = int(os.environ.get("LLAMA_DATA_MUTANTS", 2000))
SECONDS, MEGABYTES = 1.0, 256  # of CPU time for one mutant, of peak memory for all


def mutants(seeds: Sequence[bytes], count: int = MUTANTS, words: Sequence[bytes] = ()) -> Iterator[bytes]:
    """`count` changed copies of the seeds, in turn: bits flipped, parts cut, moved, repeated, replaced, the end lost, and
    the format's own `words` put where they do not belong."""
    for number in range(count):
        chance = random.Random(number)
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(data, chance, words)
        yield bytes(data)


def _change(data: bytearray, chance: random.Random, words: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    length = min(chance.choice((1, 1, 4, 16, 64, 1024)), len(data) - start)
    part = bytes(data[start : start + length])
    match chance.randrange(8 if words else 6):
        case 0 if part:
            data[start] ^= 1 << chance.randrange(8)
        case 1:
            del data[start : start + length]
        case 2:
            data[start:start] = part * chance.choice((1, 2, 50))
        case 3:
            data[start : start + length] = chance.randbytes(length)
        case 4:
            del data[start:]
        case 5:
            del data[start : start + length]
            place = chance.randrange(len(data) + 1)
            data[place:place] = part
        case 6 | 7:
            data[start:start] = chance.choice(words) * chance.choice((1, 1, 2, 300))


def survive(parse: Callable[[bytes], object], inputs: Iterator[bytes]) -> None:
    """Call `parse` on every input: it must return, within a second of CPU time, 256 MB, and without any exception."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, data in enumerate(inputs):
        start = time.process_time()
        try:
            parse(data)
        except Exception as error:
            raise AssertionError(f"mutant {number} ({len(data)} bytes, {data[:80]!r}...): {error!r}") from error
        spent = time.process_time() - start
        assert spent <= SECONDS, f"mutant {number} ({len(data)} bytes, {data[:80]!r}...) took {spent:.2f} s"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown <= MEGABYTES, f"memory grew by {grown:.0f} MB"
