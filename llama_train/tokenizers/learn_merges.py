"""BPE learning that goes on from a vocabulary: the merges that words still lack, most frequent first.

A word's state is at any time what tiktoken makes of it with the ranks given so far (`ranks.parts`), and candidates are
counted by the bytes they spell, however two neighbours share them. So a merge learned here is one that tiktoken does: the
ranks below a new token's own leave two parts of it, and none of its bytes is spelt by an older token.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from operator import add as spell

from llama_train.tokenizers.ranks import Ranks, parts

MIN_COUNT = 2  # a pair seen once would be a token of one word


def learn_merges(
    words: Mapping[bytes, int], ranks: Ranks, add: int, taken: Collection[bytes] = (), progress: bool = True
) -> list[bytes]:
    """Up to `add` new tokens in the order learned, fewer where no two neighbours are left that occur `MIN_COUNT` times.

    words: how often each occurs; their order does not matter, of equal counts the token that sorts first is learned
    first. taken: byte strings that must not become tokens. Time and memory grow with the distinct words that `ranks` cut,
    not with their counts: a million words of ten letters take 28,000 merges one to four minutes and 1 to 1.5 GB.
    """
    from tqdm import tqdm

    ranks = dict(ranks)
    next_rank = max(ranks.values()) + 1
    spelt = {token: token for token in ranks}  # one object for each token, however many words hold it
    cut: list[list[bytes]] = []
    counts: list[int] = []
    for word, count in tqdm(words.items(), desc="cut", unit=" words", leave=False, disable=None if progress else True):
        if word not in ranks:
            cut.append([spelt[part] for part in parts(word, ranks, next_rank)])
            counts.append(count)
    total: dict[bytes, int] = defaultdict(int)  # of each candidate
    where: dict[bytes, list[int]] = defaultdict(list)  # the words it is or was in
    for i, word_parts in enumerate(cut):
        for left, right in pairwise(word_parts):
            total[left + right] += counts[i]
            where[left + right].append(i)
    # Counts that fell since an entry was made are noticed when it comes up; those that rose have a newer entry.
    heap = [(-count, token) for token, count in total.items() if count >= MIN_COUNT]
    heapq.heapify(heap)
    learned: list[bytes] = []
    with tqdm(total=add, desc="learn", unit=" merges", leave=False, disable=None if progress else True) as bar:
        while heap and len(learned) < add:
            count, token = heapq.heappop(heap)
            if (now := total.get(token, 0)) != -count:
                if now >= MIN_COUNT:
                    heapq.heappush(heap, (-now, token))
                continue
            if token in taken:
                del total[token]
                continue
            ranks[token] = next_rank + len(learned)
            learned.append(token)
            for candidate in _merge(token, where.pop(token), cut, counts, ranks, total, where):
                if candidate not in ranks and total[candidate] >= MIN_COUNT:
                    heapq.heappush(heap, (-total[candidate], candidate))
            bar.update()
    return learned


def _merge(
    token: bytes,
    places: Iterable[int],
    cut: list[list[bytes]],
    counts: list[int],
    ranks: Ranks,
    total: dict[bytes, int],
    where: dict[bytes, list[int]],
) -> list[bytes]:
    """Merge `token` in the words at `places`, and bring the candidates up to date; returns those that became more."""
    risen: dict[bytes, None] = {}
    for i in dict.fromkeys(places):
        before = list(map(spell, cut[i], cut[i][1:]))
        if token not in before:
            continue
        first, last = before.index(token), len(before) - before[::-1].index(token)
        merged = _merged(cut[i], before, token, ranks)
        if merged:
            start, same = max(first - 1, 0), max(len(before) - last - 1, 0)  # pairs that stay, at both ends
        else:
            merged, start, same = _settled(cut[i], ranks), 0, 0
        cut[i] = merged
        after = list(map(spell, merged, merged[1:]))
        gone, new = before[start : len(before) - same], after[start : len(after) - same]
        for candidate in gone:
            total[candidate] -= counts[i]
        for candidate in new:
            total[candidate] += counts[i]
            where[candidate].append(i)
            risen[candidate] = None
        for candidate in gone:
            if not total.get(candidate, 1):
                del total[candidate]
                where.pop(candidate, None)
    return [candidate for candidate in risen if candidate in total]


def _merged(parts_before: list[bytes], pairs: list[bytes], token: bytes, ranks: Ranks) -> list[bytes]:
    """The word with every `token`, the newest, merged, or [] where an older token has to be merged on the way.

    pairs: what neighbours spell. A new neighbourhood can spell an old token that its own merges never reach.
    """
    after: list[bytes] = []
    done = 0
    while token in pairs[done:]:
        i = pairs.index(token, done)
        after += parts_before[done:i]
        if (after and after[-1] + token in ranks) or (
            i + 2 < len(parts_before) and token + parts_before[i + 2] in ranks
        ):
            return []
        after.append(token)
        done = i + 2
    return after + parts_before[done:]


def _settled(word_parts: list[bytes], ranks: Ranks) -> list[bytes]:
    """tiktoken's merging, from these parts on."""
    word_parts = list(word_parts)
    while found := [(ranks[pair], i) for i, pair in enumerate(map(spell, word_parts, word_parts[1:])) if pair in ranks]:
        _, i = min(found)
        word_parts[i : i + 2] = [word_parts[i] + word_parts[i + 1]]
    return word_parts
