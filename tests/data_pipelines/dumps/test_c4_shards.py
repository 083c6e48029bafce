"""Released C4 shards: what is in them, line by line, whatever they are packed in and however they end."""

import gzip
import json
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipelines.account import Account
from data_pipelines.dumps.c4_shards import FREE_BYTES, LONGEST_LINE, parse_line, read_shard
from tests.data_pipelines.fuzz import MUTANTS, mutants, survive

SAMPLES = Path(__file__).resolve().parents[3] / "data_pipelines" / "samples" / "c4"
ENGLISH = SAMPLES / "c4-train.00000-of-01024.json.gz"
GERMAN = SAMPLES / "c4-de.tfrecord-00000-of-01024.json.zst"


def read_all(path: Path) -> tuple[list[str], Account]:
    account = Account()
    texts = [document.text for document in read_shard(path, account)]
    account.check()
    assert account.kept == len(texts)
    return texts, account


def packed(data: bytes, suffix: str) -> bytes:
    if suffix.endswith(".gz"):
        return gzip.compress(data)
    return pa.Codec("zstd").compress(data, asbytes=True) if suffix.endswith(".zst") else data


def shard(lines: int) -> bytes:
    chance = random.Random(0)
    rows = (
        {"text": f"Line {i} {chance.random()}", "timestamp": "2019-04-25T12:57:54Z", "url": ""} for i in range(lines)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_the_english_sample_reads_as_written():
    account = Account()
    documents = list(read_shard(ENGLISH, account))
    assert [document.text for document in documents] == [
        "Beginners' Choir Starts Again In May\nDo you sing in the shower, and wish that somebody would join in? "
        "Our choir meets on Tuesdays at 7 p.m. in the old fire station.",
        "A kettle boils faster with its lid on, as everyone knows. Few know by how much.\n"
        "We measured it: 11 seconds for a litre.\nThe café’s own kettle – 3 kW – needs 2:10 min.",
        '{"not": "cleaned"} is kept when a released shard is read as it is.',
        "The last line has an emoji 🐟 and no new line behind it.",
    ]
    assert [document.id for document in documents] == [
        f"c4/c4-train.00000-of-01024/{number}" for number in (1, 2, 4, 10)
    ]
    assert documents[0].metadata == {
        "source": "c4",
        "language": "en",
        "url": "https://choir.example/begin",
        "license": "ODC-By-1.0",
        "date": "2019-04-25T12:57:54Z",
        "bytes": 253,
    }
    errors = {"not a JSON line": 1, "JSON line without text": 2, "JSON line with half a character": 1}
    assert account == Account(seen=9, kept=4, dropped={"empty": 1}, errors=errors)


def test_a_multilingual_shard_has_its_language_in_its_name():
    documents = list(read_shard(GERMAN, Account()))
    assert documents[0].text == "Die Katze schläft auf dem Ofen.\nSie wacht erst auf, wenn es Fisch gibt."
    assert [(document.id, document.metadata["language"]) for document in documents] == [
        ("c4/c4-de.tfrecord-00000-of-01024/1", "de"),
        ("c4/c4-de.tfrecord-00000-of-01024/2", "de"),
    ]


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("c4-validation.00000-of-00008.json.gz", "en"),
        ("c4-af-validation.tfrecord-00000-of-00001.json.gz", "af"),
        ("c4-bg-Latn.tfrecord-00000-of-00001.json.gz", "bg"),
        ("c4-iw.tfrecord-00000-of-00001.json.gz", "he"),
        ("c4-und.tfrecord-00000-of-00001.json.gz", ""),
        ("c4-ceb.tfrecord-00000-of-00001.json.gz", "ceb"),
        ("shard.jsonl.gz", ""),
    ],
)
def test_the_names_of_the_release(name, language, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(shard(1)))
    assert [document.metadata["language"] for document in read_shard(tmp_path / name, Account())] == [language]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst"])
def test_what_it_is_packed_in_makes_no_difference(suffix, tmp_path):
    file = tmp_path / f"shard{suffix}"
    file.write_bytes(packed(shard(500), suffix) + packed(shard(1), suffix))  # several members in one file, as in pigz's
    texts, account = read_all(file)
    assert len(texts) == 501 and texts[500] == texts[0]
    assert not account.errors


@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz", ".json.zst"])
def test_a_clipped_shard_yields_what_came_before_and_one_error(suffix, tmp_path):
    file = tmp_path / f"shard{suffix}"
    whole = packed(shard(4000), suffix)
    file.write_bytes(whole)
    complete, _ = read_all(file)
    counts = []
    for cut in [0, 1, 5, 11, *range(20, len(whole) - 1, len(whole) // 20), len(whole) - 2]:
        file.write_bytes(whole[:cut])
        texts, account = read_all(file)
        assert texts == complete[: len(texts)]
        at_a_line_end = suffix == ".jsonl" and whole[:cut].endswith((b"\n", b"}"))
        empty = suffix == ".jsonl" and cut == 0  # an empty text file is a shard without lines
        assert account.errors.total() == (0 if at_a_line_end or empty else 1), f"cut at {cut}"
        counts.append(len(texts))
    assert counts == sorted(counts) and counts[-1] >= (
        2000 if suffix == ".json.zst" else 3999
    )  # zstd packs 128 kB at once


@pytest.mark.parametrize("suffix", [".json.gz", ".json.zst"])
def test_what_follows_a_shard_and_is_none_is_an_error(suffix, tmp_path):
    file = tmp_path / f"shard{suffix}"
    file.write_bytes(packed(shard(3), suffix) + b"something else")
    assert read_all(file)[1].errors == {"clipped or broken file": 1}


def test_a_line_without_end_is_one_error_and_takes_no_memory(tmp_path):
    file = tmp_path / "shard.json"
    long = b'{"text": "' + b"x" * (10 * LONGEST_LINE) + b'"}\n'
    file.write_bytes(shard(1) + long + shard(1) + long[:-1])
    tracemalloc.start()
    texts, account = read_all(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * LONGEST_LINE
    assert len(texts) == 2 and account.errors == {"line longer than 4 MB": 2}


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_blank_lines_without_end_are_given_up(suffix, tmp_path):
    file = tmp_path / f"shard{suffix}"
    file.write_bytes(packed(shard(1) + b"\n" * 50_000 + shard(1) + b" \n" * 3_000_000, suffix))
    texts, account = read_all(file)
    assert len(texts) == 2 and account.errors == {"nothing but blank lines": 1}


@pytest.mark.parametrize("filling", [b"x", shard(1)])
@pytest.mark.parametrize("suffix", [".json.gz", ".json.zst"])
def test_a_bomb_is_left_where_it_has_grown_beyond_reason(filling, suffix, tmp_path):
    file = tmp_path / f"shard{suffix}"
    file.write_bytes(packed(shard(1) + filling * (2 * FREE_BYTES // len(filling)), suffix))
    _, account = read_all(file)
    assert account.errors["decompresses to too much"] == 1
    assert sum(account.errors.values()) <= 2  # a line too long may have been one more


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 10**5, "not a JSON line"),
        (b'{"text": ' * 10**5, "not a JSON line"),
        (b'{"text": "caf\xe9"}', "not a JSON line"),
        (b'{"text": ' + b"9" * 10**5 + b"}", "not a JSON line"),
        (b'{"text": null, "url": "http://x.example"}', "JSON line without text"),
        (b'"text"', "JSON line without text"),
        (b'{"text": "a", "url": "\\udc00"}', "JSON line with half a character"),
    ],
)
def test_a_line_that_is_none_says_why(line, reason):
    assert parse_line(line) == reason


def test_a_line_of_odd_values_is_read_as_far_as_it_goes():
    assert parse_line(b'{"text": " a\\u0000b \\r\\nc\\rd ", "url": 3, "timestamp": null}') == ("ab\nc\nd", "", "")


def test_no_spoilt_line_does_harm():
    seeds = gzip.decompress(ENGLISH.read_bytes()).splitlines()
    words = [b'"text":', b"\\u0000", b"\\ud800", b"NaN", b"[", b"{", b"1e999", b'"', b"\\", b"\xef\xbb\xbf", b"\xff"]
    survive(parse_line, mutants([seed for seed in seeds if seed], words=words))


@pytest.mark.parametrize("file", [ENGLISH, GERMAN])
def test_no_spoilt_file_does_harm(file, tmp_path):
    def parse(data: bytes) -> None:
        (tmp_path / file.name).write_bytes(data)
        read_all(tmp_path / file.name)

    survive(parse, mutants([file.read_bytes()], MUTANTS))
