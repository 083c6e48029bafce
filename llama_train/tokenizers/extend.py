"""A vocabulary grown as Llama 3's was, 100,000 tiktoken tokens by 28,000 more: old ids stay, new merges come from new text.

Only words that the base cuts teach anything, so the text decides: what the base handles badly gets the new tokens.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from llama_train.tokenizers.learn_merges import MIN_COUNT, learn_merges
from llama_train.tokenizers.llama3 import SPLIT_PATTERN, from_ranks, to_ranks
from llama_train.tokenizers.ranks import Ranks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PATTERNS = {"llama3": SPLIT_PATTERN}
# What tokenizers' ByteLevel splits by where no other pattern stands before it: GPT-2's, as its encoder.py has it
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MAX_WORDS, MAX_CHARS = 1_000_000, 10_000_000  # distinct words to learn from and their characters in all
MAX_WORD_CHARS = 64  # scripts without spaces make a word of a sentence; longer ones are cut
PIECE_CHARS = 1_000_000  # a word cut in two at such distances teaches nothing wrong


def extend(
    base: "Tokenizer", texts: Iterable[str], add: int, pattern: str | None = None, progress: bool = True
) -> "Tokenizer":
    """The byte-level BPE `base` with `add` more tokens learned on `texts`; every token of `base` keeps its id.

    New ids come after all of the base's, special tokens included. A base without any special tokens gets Llama 3.1's
    behind the new ranks: that is Llama 3's own layout. pattern: "llama3" for its split pattern, None for the base's own.

    The same texts give the same tokenizer, in any order as long as they have no more distinct words than `count_words`
    keeps. Raises ValueError where the base is not byte-level BPE, normalizes text or has added tokens that are no special
    ones, where the pattern is unknown or the base's own unreadable, and where the text has too few merges in it.
    """
    if add < 1:
        raise ValueError(f"add is {add}: it is the number of new tokens, 1 or more")
    if pattern is not None and pattern not in PATTERNS:
        raise ValueError(
            f"pattern {pattern!r} is unknown: name one of {', '.join(PATTERNS)}, or none for the base's own"
        )
    ranks, specials = to_ranks(base)
    settings = json.loads(base.to_str())
    _check_plain(settings)
    split = _own_pattern(settings) if pattern is None else PATTERNS[pattern]
    words = count_words(texts, split, ranks, progress)
    learned = learn_merges(words, ranks, add, {name.encode() for name in specials}, progress)
    if len(learned) < add:
        raise ValueError(
            f"the text has only {len(learned)} merges that the base lacks and that occur {MIN_COUNT} times or more, "
            f"{add} were asked for: {f'ask for {len(learned)} or fewer, or ' if learned else ''}give more text"
        )
    first = max([*ranks.values(), *specials.values()]) + 1
    ranks |= {token: first + i for i, token in enumerate(learned)}
    return from_ranks(ranks, specials or None, split)


def count_words(texts: Iterable[str], pattern: str, known: Ranks, progress: bool = True) -> dict[bytes, int]:
    """How often each word of the texts occurs that is no token yet, in UTF-8; words are what `pattern` splits text into.

    Those longer than `MAX_WORD_CHARS` are cut. Whenever there are twice `MAX_WORDS`, and at the end, the rarest are
    dropped until `MAX_WORDS` and `MAX_CHARS` hold; words equally rare by their checksum, so that no language loses more
    than another. Raises ValueError for a pattern that the module regex cannot find words with.
    """
    import regex
    from tqdm import tqdm

    try:
        split = regex.compile(pattern)
        unreadable = "it has capturing groups" if split.groups else ""
    except regex.error as error:
        unreadable = str(error)
    if unreadable:
        raise ValueError(
            f"the split pattern {pattern!r} of the base cannot be used: {unreadable}; name another, such as llama3"
        )
    counts: Counter[str] = Counter()
    with tqdm(desc="count", unit="B", unit_scale=True, leave=False, disable=None if progress else True) as bar:
        for text in texts:
            for start in range(0, len(text), PIECE_CHARS):
                piece = text[start : start + PIECE_CHARS]
                counts.update(_short(split.findall(piece)))
                if len(counts) > 2 * MAX_WORDS:
                    counts = _most_frequent(counts, known)
                bar.update(len(piece.encode("utf-8", "replace")))
    return {_utf8(word): count for word, count in _most_frequent(counts, known).items()}


def _short(words: list[str]) -> Iterable[str]:
    if max(map(len, words), default=0) <= MAX_WORD_CHARS:
        return words
    return (word[i : i + MAX_WORD_CHARS] for word in words for i in range(0, len(word), MAX_WORD_CHARS))


def _most_frequent(counts: Counter[str], known: Ranks) -> Counter[str]:
    cut = [(-count, word) for word, count in counts.items() if _utf8(word) not in known]
    if len(cut) > MAX_WORDS or sum(len(word) for _, word in cut) > MAX_CHARS:
        cut.sort(key=lambda item: (item[0], zlib.crc32(_utf8(item[1])), item[1]))
        ends = accumulate(len(word) for _, word in cut)
        cut = [item for item, end in zip(cut[:MAX_WORDS], ends, strict=False) if end <= MAX_CHARS]
    return Counter({word: -count for count, word in cut})


def _utf8(word: str) -> bytes:
    try:
        return word.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"the text holds {word[:40]!r}, half of a surrogate pair, which is no character: read the file as UTF-8"
        ) from None


def _check_plain(settings: dict[str, Any]) -> None:
    """Raises ValueError where a tokenizer does to text what ranks and special tokens cannot say."""
    if settings["normalizer"] is not None:
        raise ValueError(
            f"the base normalizes text ({settings['normalizer']['type']}), and ranks cannot say so: name one that does not"
        )
    for token in settings["added_tokens"]:
        if not token["special"] or token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise ValueError(
                f"the base's added token {token['content']!r} is no plain special token: take it out first"
            )


def _own_pattern(settings: dict[str, Any]) -> str:
    match settings["pre_tokenizer"]:
        case {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}:
            return GPT2_PATTERN
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ],
        }:
            return pattern
    raise ValueError(
        f"the base does not split text by one pattern: name another for the grown one ({', '.join(PATTERNS)})"
    )
