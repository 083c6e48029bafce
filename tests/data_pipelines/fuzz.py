"""Spoilt input for parsers: the same mutants each time, and what no parser may do with them.

2,000 mutants a parser in `make test`; `make fuzz` asks for 100,000 through LLAMA_DATA_MUTANTS."""

import os
import random
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence

MUTANTS = int(os.environ.get("LLAMA_DATA_MUTANTS", 2000))
SECONDS, MEGABYTES = 1.0, 256  # of CPU time for one mutant, of peak memory for all
FLOOD = 2**16  # bytes
NUMBER = re.compile(rb"\d+")
ABSURD = b"0 -1 1e9 00000000000 4294967296 9223372036854775808 99999999999999999999999999".split()


def mutants(seeds: Sequence[bytes], count: int = MUTANTS, words: Sequence[bytes] = ()) -> Iterator[bytes]:
    """`count` changed copies of the seeds, in turn: bits flipped, parts cut, moved, repeated, replaced, joined with another
    seed's, the end lost, numbers made absurd, and the format's own `words` put where they do not belong, a few or 64 kB of
    them: that many show what takes time that grows with a square."""
    for number in range(count):
        chance = random.Random(number)
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(data, chance, words)
        if chance.randrange(20) == 0:  # last: a later change would mostly spare so much, and cost time
            _flood(data, chance, words or seeds)
        elif chance.randrange(10) == 0:
            _join(data, chance, seeds)
        yield bytes(data)


def _change(data: bytearray, chance: random.Random, words: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    length = min(chance.choice((1, 1, 4, 16, 64, 1024)), len(data) - start)
    part = bytes(data[start : start + length])
    match chance.randrange(10 if words else 7):
        case 0 if part:
            data[start] ^= 1 << chance.randrange(8)
        case 1:
            del data[start : start + length]
        case 2:
            data[start:start] = part * chance.choice((1, 2, 50))
        case 3:
            data[start : start + length] = chance.randbytes(length)
        case 4 if chance.randrange(4) == 0:  # rarely: of sixteen changes one would mostly leave nothing to parse
            del data[start:]
        case 5:
            del data[start : start + length]
            place = chance.randrange(len(data) + 1)
            data[place:place] = part
        case 6 if number := NUMBER.search(data, start):
            data[number.start() : number.end()] = chance.choice(ABSURD)
        case 7 | 8 | 9:
            data[start:start] = chance.choice(words) * chance.choice((1, 1, 2, 300))


def _flood(data: bytearray, chance: random.Random, words: Sequence[bytes]) -> None:
    """64 kB of one word, or of two in turn, or of one and as much of another: all that opens, or opens and closes."""
    one, other = chance.choice(words)[:1024], chance.choice(words)[:1024]
    count = FLOOD // (len(one + other) or 1)
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice((one * count, (one + other) * count, one * count + other * count))


def _join(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


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
