"""The released C4 shards, JSON lines of text, timestamp and url: en, its variants, and the multilingual set."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document

from data_pipelines.account import Account

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst")
LICENSE = "ODC-By-1.0"  # of the released set; the pages in it keep their authors' rights
# C4 holds no page above 190,000 characters, and JSON spells one in 12 bytes at most (an emoji as two \uXXXX).
LONGEST_LINE = 4_000_000
FREE_BYTES, MAX_RATIO = (
    LONGEST_LINE,
    100,
)  # bytes a file may grow to in any case, and times its size; real ones: 3 times
MAX_BLANK_LINES = 100_000  # in a row; real ones have none, and a gz of 1 MB can hold a thousand million
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell half a character, which no text file can hold
LANGUAGE = re.compile(r"c4-([a-z]{2,3})(?:-[A-Za-z]+)?[.-]")  # c4-af.tfrecord-00000..., c4-bg-Latn...; not c4-train
OLD_CODES = {"iw": "he", "und": ""}


def read_shard(path: Path, account: Account) -> Iterator[Document]:
    """One document per line of a shard, as it was released; what is no such line is an error in the account."""
    stem = next(path.name.removesuffix(suffix) for suffix in reversed(SUFFIXES) if path.name.endswith(suffix))
    language = _language(path.name)
    for number, line in _lines(path, account):
        account.seen += 1
        row = parse_line(line)
        if isinstance(row, str):
            account.errors[row] += 1
            continue
        text, url, timestamp = row
        if not text:
            account.dropped["empty"] += 1
            continue
        account.kept += 1
        metadata = {
            "source": "c4",
            "language": language,
            "url": url,
            "license": LICENSE,
            "date": timestamp or None,
            "bytes": len(line),
        }
        yield Document(text=text, id=f"c4/{stem}/{number}", metadata=metadata)


def parse_line(line: bytes) -> tuple[str, str, str] | str:
    """(text, url, timestamp) of a line of a shard, or why there are none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
        return "not a JSON line"
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        return "JSON line without text"
    values = [value if isinstance(value, str) else "" for value in (row["text"], row.get("url"), row.get("timestamp"))]
    if any(map(LONE_SURROGATE.search, values)):
        return "JSON line with half a character"
    text, url, timestamp = (value.replace("\0", "") for value in values)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(map(str.rstrip, lines)).strip(), url, timestamp


def _lines(path: Path, account: Account) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a shard, blank lines and those too long left out."""
    size = path.stat().st_size
    number = total = blank = 0
    broken = ""
    with _open(path) as file:
        try:
            if size == 0 and path.name.endswith((".gz", ".zst")):
                raise EOFError  # nothing is no compressed file, but goes for one
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                total += len(line)
                blank = 0 if line.strip() else blank + 1
                if blank > MAX_BLANK_LINES:
                    broken = "nothing but blank lines"
                    break
                if len(line) > LONGEST_LINE:
                    account.seen += 1
                    account.errors["line longer than 4 MB"] += 1
                elif line.strip():
                    yield number, line
                while total <= FREE_BYTES + MAX_RATIO * size and not line.endswith(b"\n"):  # the rest of a long one
                    if not (line := file.readline(LONGEST_LINE)):
                        break
                    total += len(line)
                if total > FREE_BYTES + MAX_RATIO * size:
                    broken = "decompresses to too much"
                    break
        except (EOFError, OSError, zlib.error):  # pyarrow's errors of a broken stream are OSErrors
            broken = "clipped or broken file"
    if broken:
        account.seen += 1
        account.errors[broken] += 1


def _open(path: Path) -> io.BufferedIOBase:
    if path.name.endswith(".gz"):
        return gzip.open(path)
    if path.name.endswith(".zst"):
        import pyarrow as pa

        # pyarrow's stream tells a clipped end, unlike zstandard's; what it was about to give then is lost: hence 512 bytes
        return io.BufferedReader(pa.input_stream(path, compression="zstd"), 512)
    return path.open("rb")


def _language(name: str) -> str:
    """The ISO code in a shard's name; the sets without one are English."""
    if match := LANGUAGE.match(name):
        return OLD_CODES.get(match[1], match[1])
    return "en" if name.startswith(("c4-train", "c4-validation")) else ""
