"""Rank files: read strictly, written back as they were, merged as tiktoken merges."""

import base64
import os
import random
import tempfile
from pathlib import Path

import pytest

from llama_train.tokenizers.ranks import MAX_TOKEN_BYTES, merges, parts, read_ranks, write_ranks
from tests.conftest import SHARED
from tests.data_pipelines.fuzz import mutants, survive

LEARNED = [b"th", b"he", b"in", b" t", b" th", b"the", b" the", b"ing", "é".encode(), "東".encode()]
RANKS = {bytes([i]): i for i in range(256)} | {token: 256 + i for i, token in enumerate(LEARNED)}
SPECIALS = {"<|begin_of_text|>": 266, "<|end_of_text|>": 267, "<|eot_id|>": 268}


def line(token, rank):
    return base64.b64encode(token) + f" {rank}\n".encode()


PLAIN = b"".join(line(token, rank) for token, rank in RANKS.items())
WHOLE = PLAIN + b"".join(line(name.encode(), rank) for name, rank in SPECIALS.items())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.tiktoken"


@pytest.fixture
def in_memory():
    """A file in memory, where the system has a folder there: to write one a thousand times over is slow on a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder, "x.tiktoken")


def read(file, data):
    file.write_bytes(data)
    return read_ranks(file)


def test_a_file_is_read_and_written_back_byte_for_byte(file):
    assert read(file, PLAIN) == (RANKS, {})
    assert read(file, WHOLE) == (RANKS, SPECIALS)
    write_ranks(file, RANKS, SPECIALS)
    assert file.read_bytes() == WHOLE
    write_ranks(file, dict(reversed(RANKS.items())), dict(reversed(SPECIALS.items())))
    assert file.read_bytes() == WHOLE
    write_ranks(file, RANKS)
    assert file.read_bytes() == PLAIN


def test_order_line_ends_and_trailing_spaces_do_not_matter(file):
    assert read(file, WHOLE.replace(b"\n", b"\r\n")) == (RANKS, SPECIALS)
    assert read(file, WHOLE.replace(b"\n", b" \n") + b"\n") == (RANKS, SPECIALS)
    ranks, specials = read(file, b"\n".join(reversed(WHOLE.splitlines())))
    assert list(ranks.items()) == list(RANKS.items()) and list(specials.items()) == list(SPECIALS.items())


def test_tiktoken_reads_what_is_written(file, monkeypatch):
    load = pytest.importorskip("tiktoken.load", reason="tiktoken is not installed: it is the oracle here")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # it would keep the file, by its path, for the next run
    write_ranks(file, RANKS)
    assert load.load_tiktoken_bpe(str(file)) == RANKS


def test_special_tokens_may_stand_before_the_ranks_that_a_vocabulary_was_grown_by(file):
    grown = RANKS | {b"ther": 269, b"<|": 270, b"|>": 271, b"<||>": 272}
    write_ranks(file, grown, SPECIALS)
    assert read_ranks(file) == (grown, SPECIALS)


def test_a_token_that_merges_make_is_no_special_token_however_it_is_spelt(file):
    pattern_free = RANKS | {b"<|": 266, b"|>": 267, b"<|h": 268, b"<|he": 269, b"<|he|>": 270}
    write_ranks(file, pattern_free)
    assert read_ranks(file) == (pattern_free, {})
    with pytest.raises(ValueError, match=r"<\|he\|> is made by merges"):
        write_ranks(file, {t: r for t, r in pattern_free.items() if r < 270}, {"<|he|>": 270})
    with pytest.raises(ValueError, match=r"'<\|x\|>' would be read as a special token"):
        write_ranks(file, RANKS | {b"<|x|>": 266})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "is empty"),
        (lambda d: b"\n\n", "is empty"),
        (
            lambda d: d.replace(b"dGg= 256", b"dGg= "),
            r"line 257 is 'dGg= ': a rank file has a token in base64, a space",
        ),
        (lambda d: d.replace(b"dGg= 256", b"dGg="), "line 257 is 'dGg='"),
        (lambda d: d.replace(b"dGg= 256", b"dGg= -1"), "line 257 is 'dGg= -1'"),
        (lambda d: d.replace(b"dGg= 256", b"dGg= 256.0"), "line 257 is 'dGg= 256.0'"),
        (lambda d: d.replace(b"dGg= 256", b"dGg= 99999999999999999999"), "line 257 is 'dGg= 9999"),
        (lambda d: d.replace(b"dGg= 256", "dGg= ٢٥٦".encode()), "line 257 is 'dGg= ٢٥٦'"),
        (lambda d: d.replace(b"dGg= 256", b"dG* 256"), r"line 257 is 'dG\* 256'"),
        (lambda d: d.replace(b"dGg= 256", b"dGg 256"), "line 257: 'dGg' is not base64"),
        (lambda d: d.replace(b"dGg= 256", b"dGh= 256"), "line 257: 'dGh=' is not base64"),  # two bits too many
        (lambda d: d.replace(b"dGg= 256", b"dGg= 255"), "line 257: rank 255 was given to .* before"),
        (lambda d: d.replace(b"dGg= 256", b"aGU= 256"), "line 258: b'he' stands in line 257 already"),
        (lambda d: d.replace(b"dGg= 256\n", b""), "no token has rank 256, the next is 257"),
        (lambda d: d.replace(b"dGg= 256", b"dGg= 1000"), "no token has rank 256, the next is 257"),
        (lambda d: d[:-7], "line 269 is "),
        (lambda d: d.replace(line(b"\x00", 0), line(b"xyz", 0)), r"1 of the 256 single bytes have no rank.* b'\\x00'"),
        (lambda d: b"A" * 5000 + b" 0\n" + d, "line 1 has 5,002 bytes"),
        (lambda d: b'{"model": {}}', "line 1 is '{\"model\": {}}'"),
        (lambda d: b"<!DOCTYPE html>\n<html>", "line 1 is '<!DOCTYPE html>'"),
        (lambda d: b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02", "line 2 is "),
        (lambda d: b"YWJj 0\n", "256 of the 256 single bytes have no rank"),
    ],
)
def test_a_broken_file_is_refused_with_the_line_and_what_to_do(file, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(file, change(WHOLE))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_tokens_of_absurd_length_are_refused_before_any_work_and_the_longest_possible_is_not(file):
    """A chain of prefixes is the worst: every split of every token is one of two tokens."""
    chain = [b"a" * length for length in range(2, 1000)]
    with pytest.raises(ValueError, match=f"the token b'{'a' * 40}'... has 999 bytes, more than 256") as caught:
        read(file, b"".join(line(bytes([i]), i) for i in range(256)) + b"".join(map(line, chain, range(256, 1254))))
    assert str(file) in str(caught.value)
    written = file.with_name("written")
    for token, message in ((b"a" * 257, "has 257 bytes, more than 256"), (b"", "one token is empty")):
        with pytest.raises(ValueError, match=message):
            write_ranks(written, RANKS | {token: 266})
    assert not written.exists() and MAX_TOKEN_BYTES == 256
    write_ranks(written, RANKS | {b"a" * 256: 266})
    assert read_ranks(written) == (RANKS | {b"a" * 256: 266}, {})


def test_a_file_too_large_to_be_read_is_not_written(file, monkeypatch):
    write_ranks(file, RANKS)
    size = file.stat().st_size
    monkeypatch.setattr("llama_train.tokenizers.ranks.MAX_FILE_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"266 tokens need {size:,} bytes, more than"):
        write_ranks(file.with_name("other"), RANKS)
    assert not file.with_name("other").exists()


def test_a_file_that_is_far_too_large_is_not_read(file):
    with file.open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    with pytest.raises(ValueError, match="more than 67,108,864 bytes"):
        read_ranks(file)
    with pytest.raises(FileNotFoundError):
        read_ranks(file.with_name("other"))


@pytest.mark.parametrize(
    ("ranks", "specials", "message"),
    [
        (RANKS, {"[PAD]": 266}, r"\[PAD\] cannot stand in a rank file: a special token there is spelt <\|name\|>"),
        (RANKS, {"<|pad|>": 267}, r"'<\|pad\|>' has rank 267 where 266 is next"),
        (RANKS, {"<|pad|>": 265}, "has rank 265 where 266 is next"),
        (RANKS | {b"<|pad|>": 266}, {"<|pad|>": 267}, "spelt like a token"),
        ({t: r for t, r in RANKS.items() if t != b"\xff"} | {b"xx": 255}, {}, "1 of the 256 single bytes"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(file, ranks, specials, message):
    with pytest.raises(ValueError, match=message):
        write_ranks(file, ranks, specials)
    assert not file.exists()


def test_mutants_are_refused_or_read_to_something_that_is_written_back_the_same(in_memory):
    file = in_memory
    refused = read_whole = 0

    def parse(data):
        nonlocal refused, read_whole
        try:
            ranks, specials = read(file, data)
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            refused += 1
            return
        read_whole += 1
        assert sorted([*ranks.values(), *specials.values()]) == list(range(len(ranks) + len(specials)))
        write_ranks(file, ranks, specials)
        assert read_ranks(file) == (ranks, specials)

    survive(parse, mutants([PLAIN, WHOLE], words=[b"AA== 0\n", b" ", b"\n", b"=", b"PHx4fD4= 269\n", b"\r\n", b"-1"]))
    assert refused > 100 and read_whole > 10


def slow_parts(token, ranks, limit):
    """Merging as tiktoken's README tells it: look at every pair, merge the lowest rank, begin again."""
    pieces = [bytes([byte]) for byte in token]
    while True:
        pairs = [ranks.get(a + b, limit) for a, b in zip(pieces, pieces[1:], strict=False)]
        if not pairs or min(pairs) >= limit:
            return pieces
        i = pairs.index(min(pairs))
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def test_parts_merge_the_lowest_rank_first_and_the_leftmost_of_equals():
    assert parts(b"the", RANKS, 999) == [b"the"]
    assert parts(b"the", RANKS, RANKS[b"the"]) == [b"th", b"e"]
    assert parts(b"the", RANKS, 256) == [b"t", b"h", b"e"]
    assert parts(b" the thing", RANKS, 999) == [b" the", b" th", b"ing"]
    assert parts(b"", RANKS, 999) == [] and parts(b"x", RANKS, 999) == [b"x"]
    ranks = {bytes([i]): i for i in range(256)} | {b"aa": 256, b"aaa": 257}
    assert parts(b"aaaaa", ranks, 999) == [b"aa", b"aaa"]
    assert parts(b"aaa", ranks, 257) == [b"aa", b"a"]
    for seed in range(200):
        chance = random.Random(seed)
        learned = {bytes(chance.choices(b"ab", k=chance.randint(2, 5))) for _ in range(10)}
        ranks = {bytes([i]): i for i in range(256)} | {t: 256 + i for i, t in enumerate(sorted(learned))}
        token, limit = bytes(chance.choices(b"ab", k=chance.randint(1, 30))), chance.randint(256, 270)
        assert parts(token, ranks, limit) == slow_parts(token, ranks, limit)


def test_merges_are_every_split_by_rank_then_by_the_parts_ranks():
    assert merges(RANKS)[:4] == [(b"t", b"h"), (b"h", b"e"), (b"i", b"n"), (b" ", b"t")]
    assert merges(RANKS)[4:9] == [(b" ", b"th"), (b" t", b"h"), (b"t", b"he"), (b"th", b"e"), (b" ", b"the")]
    assert merges(RANKS)[9:12] == [(b" t", b"he"), (b" th", b"e"), (b"in", b"g")]
    assert all(a + b in RANKS for a, b in merges(RANKS))


def test_metas_llama_3_file():
    path = SHARED / "realdata" / "tokenizers" / "meta-llama-3-8B.tiktoken"
    if not path.is_file():
        pytest.skip(f"{path} is not here: Meta's vocabularies exist only on some machines")
    ranks, specials = read_ranks(path)
    assert len(ranks) == 128000 and list(ranks.values()) == list(range(128000))
    assert len(specials) == 256 and specials["<|begin_of_text|>"] == 128000 and specials["<|eot_id|>"] == 128009
    assert len(merges(ranks)) == 280147
    unreachable = [token for token, rank in ranks.items() if len(token) > 1 and len(parts(token, ranks, rank)) != 2]
    assert len(unreachable) == 678 and b".:.:" in unreachable and " việc".encode() in unreachable
