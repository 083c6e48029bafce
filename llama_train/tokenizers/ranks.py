"""tiktoken's rank files: a token in base64, a space, its rank; what the ranks make of bytes, and the merges they stand for.

The rank is both the token's id and its turn: of all adjacent pairs that spell a token, the lowest rank merges first.

Special tokens are no part of the format: tiktoken is told them in code. Files that list them all the same are read as
they are meant: a token is special where it is spelt `<|name|>` and no two other tokens make it, as no merge could.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from pathlib import Path

Ranks = dict[bytes, int]

MAX_FILE_BYTES = 64 * 2**20  # Llama 3's has 2.2 MB
MAX_LINE_BYTES = 4096  # Llama 3's longest has 179
MAX_TOKEN_BYTES = 256  # Llama 3's longest has 128; `parts` and `merges` take time that grows with its square
SPECIAL_NAME = re.compile(r"<\|[A-Za-z0-9_]+\|>")
LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})[ \t]*")  # some files in circulation end lines with a space


def read_ranks(path: str | Path) -> tuple[Ranks, dict[str, int]]:
    """The mergeable ranks of a file and the special tokens listed in it, both with their ids, in id order.

    Raises ValueError, with the file, the line and what to do, for anything but lines of base64, space and rank in which
    every single byte has a rank and the ranks run from 0 without gap or repetition; OSError as `open` does.
    """
    by_rank: dict[int, bytes] = {}
    line_of: dict[bytes, int] = {}
    for number, line in enumerate(_lines(Path(path)), 1):
        if not line:
            continue
        where = f"{path}, line {number}"
        token, rank = _parse(line, where)
        if rank in by_rank:
            raise ValueError(f"{where}: rank {rank} was given to {by_rank[rank]!r} before: leave one of the two lines")
        if token in line_of:
            raise ValueError(f"{where}: {token!r} stands in line {line_of[token]} already: leave one of the two lines")
        by_rank[rank] = token
        line_of[token] = number
    if not by_rank:
        raise ValueError(f"{path} is empty: a rank file has a line for each token; get the file again")
    ordered = {by_rank[rank]: rank for rank in sorted(by_rank)}
    for expected, rank in enumerate(ordered.values()):
        if rank != expected:
            raise ValueError(
                f"{path}: no token has rank {expected}, the next is {rank}: the file has lost lines; get it again"
            )
    check_tokens(ordered, str(path))
    specials = {token: rank for token, rank in ordered.items() if _is_special(token, ordered)}
    ranks = {token: rank for token, rank in ordered.items() if token not in specials}
    return ranks, {token.decode(): rank for token, rank in specials.items()}


def write_ranks(path: str | Path, ranks: Ranks, specials: Mapping[str, int] | None = None) -> None:
    """Write ranks and special tokens, in id order, to a file that `read_ranks` gives back as they are.

    Raises ValueError where it would not: for ids with gaps or repetitions, for special tokens not spelt `<|name|>`, for
    what `check_tokens` refuses, and for a file too large to be read.
    """
    specials = specials or {}
    for name in specials:
        if not SPECIAL_NAME.fullmatch(name):
            raise ValueError(f"{path}: {name} cannot stand in a rank file: a special token there is spelt <|name|>")
    every = ranks | {name.encode(): rank for name, rank in specials.items()}
    if len(every) != len(ranks) + len(specials):
        raise ValueError(f"{path}: a special token is spelt like a token of the vocabulary: rename it")
    lines = sorted((rank, token) for token, rank in every.items())
    for expected, (rank, token) in enumerate(lines):
        if rank != expected:
            raise ValueError(f"{path}: {token!r} has rank {rank} where {expected} is next: ids must run without gaps")
    check_tokens(every, str(path))
    for name in specials:
        if not _is_special(name.encode(), every):
            raise ValueError(
                f"{path}: {name} is made by merges, so it would be read as a token like any other: rename it"
            )
    for token in ranks:
        if _is_special(token, every):
            raise ValueError(f"{path}: {token!r} would be read as a special token: no two tokens make it")
    data = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in lines)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(
            f"{path}: {len(lines):,} tokens need {len(data):,} bytes, more than {MAX_FILE_BYTES:,}: use fewer"
        )
    Path(path).write_bytes(data)


def check_tokens(tokens: Collection[bytes], what: str) -> None:
    """Raises ValueError where `what`, whose tokens these are, has an empty or too long one (`MAX_TOKEN_BYTES`), or lacks
    a single byte: some text would have no ids."""
    if b"" in tokens:
        raise ValueError(f"{what}: one token is empty: a token stands for a byte or more; take it out")
    longest = max(tokens, key=len, default=b"")
    if len(longest) > MAX_TOKEN_BYTES:
        raise ValueError(
            f"{what}: the token {longest[:40]!r}... has {len(longest):,} bytes, more than {MAX_TOKEN_BYTES}: take it out"
        )
    if missing := sorted({bytes([byte]) for byte in range(256)}.difference(tokens)):
        raise ValueError(
            f"{what}: {len(missing)} of the 256 single bytes have no rank, the first is {missing[0]!r}: "
            "a byte-level vocabulary needs all of them"
        )


def parts(token: bytes, ranks: Ranks, limit: int) -> list[bytes]:
    """What tiktoken's merging makes of `token` with the ranks below `limit`: the lowest first, the leftmost of equals.

    A token is reachable by merges where the ranks below its own leave two parts of it: those two then make it.
    """
    pieces = [token[i : i + 1] for i in range(len(token))]
    turns = [ranks.get(token[i : i + 2], limit) for i in range(len(token) - 1)]
    while turns and (lowest := min(turns)) < limit:
        i = turns.index(lowest)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        del turns[i]
        if i > 0:
            turns[i - 1] = ranks.get(pieces[i - 1] + pieces[i], limit)
        if i < len(turns):
            turns[i] = ranks.get(pieces[i] + pieces[i + 1], limit)
    return pieces


def merges(ranks: Ranks) -> list[tuple[bytes, bytes]]:
    """Every way to make a token of two others, by the token's rank, then its parts': tokenizers' BPE is told them all.

    Of those of one token at most one ever happens, the one that `parts` ends with, but the published tokenizer.json of
    Llama 3 lists all, and so says nothing about which.
    """
    found = []
    for token, rank in ranks.items():
        for i in range(1, len(token)):
            left, right = token[:i], token[i:]
            if left in ranks and right in ranks:
                found.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _is_special(token: bytes, ranks: Ranks) -> bool:
    if not (token.startswith(b"<|") and SPECIAL_NAME.fullmatch(token.decode("latin-1"))):
        return False
    return not any(token[:i] in ranks and token[i:] in ranks for i in range(1, len(token)))


def _lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES:,} bytes: this is no rank file; name another")
    return data.splitlines()


def _parse(line: bytes, where: str) -> tuple[bytes, int]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(
            f"{where} has {len(line):,} bytes: a rank file has a token in base64, a space and a rank a line"
        )
    found = LINE.fullmatch(line)
    if found is None:
        shown = line[:60].decode("utf-8", "replace")
        raise ValueError(
            f"{where} is {shown!r}: a rank file has a token in base64, a space and a rank (0, 1, ...) a line"
        )
    try:
        token = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        token = b""
    if base64.b64encode(token) != found[1]:
        raise ValueError(
            f"{where}: {found[1][:60].decode()!r} is not base64: a character is lost or changed; get the file again"
        )
    return token, int(found[2])
