"""Token-weighted text: as much of each language or source as gives it the wanted share of the tokens.

Weights count tokens, not bytes: German has more tokens a byte than English, code has others again. How many a group has is
not known before there is a tokenizer, so a pilot is learned on a sample of the text weighted by bytes, counted, learned again
weighted by the tokens of the first, and counted. That gives tokens per byte, and these the bytes to take of each group.

As much text is taken as the shares allow: a group with too little is repeated, at most `MAX_REPEATS` times, and where that is
not enough, less is taken of the others; only the poorest groups, with a tenth of all weight, fall short of their shares
instead. What is taken of a group is spread evenly over it.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from data_pipelines.tokenizer_text import Text
from llama_train.tokenizers.batches import batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_REPEATS = 20
MAY_FALL_SHORT = 0.1  # of all weight: a language of three pages must not leave a page of every other
MAX_GROUPS = 200  # a pilot of each is in memory
PILOT_BYTES = 1_000_000  # of each group
PILOT_LEARNS = 32_000_000  # bytes, of all groups together
PILOT_ROUNDS = 2
PIECE_CHARS = 512  # at least: documents are taken in such pieces where not all of a group is wanted

Learn = Callable[[Sequence[str]], "Tokenizer"]


@dataclass
class Group:
    """The documents of one language or source: how many, their UTF-8 bytes, and an even sample of their pieces."""

    documents: int = 0
    bytes: int = 0
    pieces: int = 0
    sample: list[tuple[float, int, Text]] = field(default_factory=list)  # a heap of (-chance, number, piece)
    sample_bytes: int = 0
    chance: float = 1.0  # the sample has every piece whose own is below

    def add(self, name: str, text: Text, sample_bytes: int) -> None:
        """Count a document and sample it; a sample of more than one piece has at most `sample_bytes`."""
        self.documents += 1
        for piece in _pieces(text.text):
            size = len(piece.encode())
            self.bytes += size
            self.pieces += 1
            if sample_bytes and (chance := _chance(name, self.pieces)) < self.chance:
                heapq.heappush(self.sample, (-chance, self.pieces, text._replace(text=piece)))
                self.sample_bytes += size
            while self.sample_bytes > sample_bytes and len(self.sample) > 1:
                highest, _, dropped = heapq.heappop(self.sample)
                self.chance = -highest
                self.sample_bytes -= len(dropped.text.encode())


def group_by(label: str | None) -> Callable[[Text], str]:
    """What tells the group of a document: `label` is "language", "source" or None for one group of all."""
    return lambda text: (getattr(text, label) or "unknown") if label else "all"


def survey(texts: Iterable[Text], group_of: Callable[[Text], str], sample_bytes: int = 0) -> dict[str, Group]:
    """The groups of `texts`, sorted by name, with samples of at most `sample_bytes`; ValueError for more than 200 groups."""
    groups: dict[str, Group] = {}
    for text in texts:
        name = group_of(text)
        groups.setdefault(name, Group()).add(name, text, sample_bytes)
        if len(groups) > MAX_GROUPS:
            raise ValueError(
                f"more than {MAX_GROUPS} groups to weight: {_names(groups)}; give the text fewer languages or sources"
            )
    return dict(sorted(groups.items()))


def parse_weights(words: str) -> dict[str, float]:
    """`en=2,de=1` as numbers by group; ValueError for anything else and for weights that are not above 0."""
    weights: dict[str, float] = {}
    for word in words.split(","):
        name, _, number = (part.strip() for part in word.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 < weight < math.inf:
            raise ValueError(f"--weights {words}: {word!r} is not GROUP=NUMBER with a number above 0, as in en=2,de=1")
        if name in weights:
            raise ValueError(f"--weights {words}: {name} is there twice")
        weights[name] = weight
    return weights


def check_weights(weights: Mapping[str, float], groups: Iterable[str]) -> None:
    """Raises ValueError where a group has no weight or a weight no group; names the groups that were found."""
    groups = list(groups)
    if lost := sorted(weights.keys() - set(groups)):
        raise ValueError(f"--weights: no text of {_names(lost)}; found {_names(groups)}")
    if left := [name for name in groups if name not in weights]:
        raise ValueError(f"--weights: no weight for {_names(left)}; found {_names(groups)}: each needs one")


def bytes_to_take(
    available: Mapping[str, int], tokens_per_byte: Mapping[str, float], weights: Mapping[str, float], max_bytes: float
) -> dict[str, int]:
    """Bytes of each group, repetitions counted, that make its share of the tokens that of its weight.

    As many as `max_bytes` in all and `MAX_REPEATS` times what is available allow, but for the poorest groups, which may fall
    short (`MAY_FALL_SHORT`); more than all of the group that has most for its weight is never wanted.
    """
    supply = {name: size * tokens_per_byte[name] / weights[name] for name, size in available.items()}
    may_fall_short = MAY_FALL_SHORT * sum(weights[name] for name in available)
    for poorest in sorted(supply, key=lambda name: (supply[name], name)):
        may_fall_short -= weights[poorest]
        if may_fall_short < 0:
            break
    one = sum(weights[name] / tokens_per_byte[name] for name in available)  # bytes for one token per weight
    scale = min(max(supply.values()), MAX_REPEATS * supply[poorest], max_bytes / one)
    wanted = {name: scale * weights[name] / tokens_per_byte[name] for name in available}
    # rounding must not turn all of a group into all but a byte of it, which would cut it into pieces
    return {name: min(math.floor(wanted[name] + 1e-6), MAX_REPEATS * size) for name, size in available.items()}


def pilot(groups: Mapping[str, Group], weights: Mapping[str, float], learn: Learn) -> dict[str, float]:
    """Tokens per byte of each group, counted on its sample with a tokenizer learned from the samples."""
    from tqdm import tqdm

    samples = {name: [piece for _, _, piece in sorted(group.sample, key=_number)] for name, group in groups.items()}
    sizes = {name: group.sample_bytes for name, group in groups.items()}
    rates = dict.fromkeys(groups, 1.0)
    for _ in tqdm(range(PILOT_ROUNDS), desc="pilot", leave=False, disable=None):
        named = ((name, piece) for name, sample in samples.items() for piece in sample)
        wanted = bytes_to_take(sizes, rates, weights, min(sum(sizes.values()), PILOT_LEARNS))
        taken = list(take(named, sizes, wanted))
        tokens, _ = count_tokens(learn([text for _, text in taken]), taken)
        taken_bytes = Counter[str]()
        for name, text in taken:
            taken_bytes[name] += len(text.encode())
        rates |= {name: count / taken_bytes[name] for name, count in tokens.items()}  # nothing may be taken of a group
    return rates


def take(
    texts: Iterable[tuple[str, Text]], available: Mapping[str, int], wanted: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """(group, text) until each group has its `wanted` bytes: all of its texts so often, and an even part of them once more.

    Which pieces make that part is the same each time: their number decides, by a hash (Knuth's selection sampling).
    """
    left = dict(available)
    wanting = {name: wanted[name] % size for name, size in available.items()}
    numbers = dict.fromkeys(available, 0)
    for name, text in texts:
        repeats = wanted[name] // available[name]
        if not wanted[name] % available[name]:
            yield from [(name, text.text)] * repeats
            continue
        for piece in _pieces(text.text):
            numbers[name] += 1
            chosen = _chance(name, numbers[name]) * left[name] < wanting[name]
            size = len(piece.encode())
            left[name] -= size
            wanting[name] -= size if chosen else 0
            yield from [(name, piece)] * (repeats + chosen)


def count_tokens(tokenizer: "Tokenizer", texts: Iterable[tuple[str, str]]) -> tuple[dict[str, int], int]:
    """Tokens of each group of (group, text), and the characters of all."""
    from llama_train.tokenizers.encode import Encoder

    encoder, tokens, characters = Encoder(tokenizer), dict[str, int](), 0
    for batch in batches(texts, lambda item: item[1]):
        for (name, text), ids in zip(batch, encoder.encode_batch([text for _, text in batch]), strict=True):
            tokens[name] = tokens.get(name, 0) + len(ids)
            characters += len(text)
    return tokens, characters


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of 512 to 1,024 characters, cut after a line or before a space where there is one."""
    start = 0
    while len(text) - start > 2 * PIECE_CHARS:
        least, most = start + PIECE_CHARS, start + 2 * PIECE_CHARS
        end = text.find("\n", least, most) + 1 or max(text.find(" ", least, most), least)
        yield text[start:end]
        start = end
    yield text[start:]


def _chance(name: str, number: int) -> float:
    """Evenly from 0 to 1, the same on every machine."""
    return int.from_bytes(blake2b(f"{name}\0{number}".encode(), digest_size=7).digest(), "big") / 2**56


def _number(entry: tuple[float, int, Any]) -> int:
    return entry[1]


def _names(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
