"""Project Gutenberg's RDF catalogue: pg1342.rdf files and rdf-files.tar.bz2, read as a stream, nothing written to disk."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from data_pipelines.pool import Failure

ARCHIVES = (".tar", ".tar.gz", ".tar.bz2")
RDF_BYTES = 1_000_000  # real entries have 5 to 50 kB
RATIO = 200  # of an archive's plain to compressed bytes: real ones have about 15
READ_BYTES = 4_000_000  # at once: a tar header that asks for more is an attack on memory
NAME = re.compile(r"pg(\d{1,7})\.rdf$")

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
TERMS = "{http://purl.org/dc/terms/}"
MEMBER_OF = "{http://purl.org/dc/dcam/}memberOf"
PG = "{http://www.gutenberg.org/2009/pgterms/}"


class Entry(NamedTuple):
    """What the catalogue says of a book."""

    title: str
    authors: list[str]
    languages: list[str]
    subjects: list[str]
    rights: str
    issued: str
    kind: str


def read_entries(file: Path, wanted: Collection[int]) -> Iterator[bytes | Failure]:
    """The RDF of the wanted books in an .rdf file or a tar archive of them; last a Failure where the file is broken."""
    import bz2
    import gzip
    import tarfile

    openers: dict[str, Callable[..., Any]] = {".bz2": bz2.open, ".gz": gzip.open}
    try:
        with openers.get(file.suffix, open)(file, "rb") as plain:
            if file.suffix == ".rdf":
                yield plain.read(RDF_BYTES + 1)
                return
            capped = _Capped(plain, file)
            with tarfile.open(fileobj=cast(IO[bytes], capped), mode="r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # else it remembers all 75,000
                    number = NAME.search(member.name)
                    if member.isreg() and number and int(number[1]) in wanted:
                        content = archive.extractfile(member)
                        assert content is not None
                        yield content.read(RDF_BYTES + 1)
            if capped.last.strip(b"\0") or not capped.last:  # tarfile takes a spoilt header for the end
                yield Failure("catalogue archive broken off")
    except Exception:  # whatever a damaged archive makes three libraries raise
        yield Failure("catalogue archive broken off")


class _Capped:
    """A file for reading that refuses to become unreasonably large."""

    def __init__(self, plain: IO[bytes], file: Path):
        self.plain, self.limit = plain, RATIO * file.stat().st_size + READ_BYTES
        self.tell = plain.tell
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > READ_BYTES or self.tell() + size > self.limit:
            raise ValueError(f"more than {self.limit:,} bytes in an archive, or {READ_BYTES:,} at once")
        self.last = self.plain.read(size)
        return self.last

    def seek(self, position: int) -> int:
        if position > self.limit:
            raise ValueError(f"more than {self.limit:,} bytes in an archive")
        return self.plain.seek(position)


def parse_rdf(rdf: bytes) -> tuple[int, Entry] | Failure:
    """(number, entry) of one book's RDF."""
    from lxml import etree

    if len(rdf) > RDF_BYTES:
        return Failure("catalogue entry too large")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(rdf, parser)
    except etree.XMLSyntaxError:
        return Failure("catalogue entry is no XML")
    if root.getroottree().docinfo.doctype:
        return Failure("catalogue entry with a DTD")
    book = root.find(f"{PG}ebook")
    number = re.fullmatch(r"(?:.*/)?ebooks/(\d{1,7})", book.get(f"{RDF}about", "")) if book is not None else None
    if not number:
        return Failure("catalogue entry without a book")

    def values(name: str, vocabulary: str = "") -> list[str]:
        """The rdf:value below each such property, of one vocabulary if named."""
        found = []
        for description in book.iterfind(f"{TERMS}{name}/{RDF}Description"):
            member = description.find(MEMBER_OF)
            if not vocabulary or (member is not None and member.get(f"{RDF}resource", "").endswith(vocabulary)):
                found.append(_words(description.findtext(f"{RDF}value")))
        return sorted({value for value in found if value})

    def text(name: str) -> str:
        return _words(book.findtext(f"{TERMS}{name}"))

    agents = [_words(agent.text) for agent in book.iterfind(f"{TERMS}creator/{PG}agent/{PG}name")]
    issued = text("issued")
    return int(number[1]), Entry(
        title=text("title"),
        authors=[agent for agent in agents if agent],
        languages=values("language"),
        subjects=values("subject", "LCSH"),
        rights=text("rights"),
        issued=issued if re.fullmatch(r"\d{4}-\d\d-\d\d", issued, re.ASCII) else "",
        kind=" ".join(values("type")),
    )


def _words(text: Any) -> str:
    return " ".join((text or "").split())
