"""The RDF catalogue: what it says of real books, and that no XML or tar in it can do harm."""

import bz2
import io
import tarfile
from pathlib import Path

import pytest

from data_pipelines.dumps.gutenberg_catalogue import Entry, parse_rdf, read_entries
from data_pipelines.pool import Failure
from tests.conftest import ROOT, SHARED
from tests.data_pipelines.fuzz import MUTANTS, mutants, survive

SAMPLE = ROOT / "data_pipelines" / "samples" / "gutenberg"
RDF = (SAMPLE / "pg90004.rdf").read_bytes()
PUBLIC = "Public domain in the USA."
WORDS = [
    b"<!DOCTYPE a [",
    b"<!ENTITY b 'c'>",
    b"&b;",
    b"<rdf:value>",
    b"</rdf:value>",
    b"<pgterms:ebook>",
    b"&#0;",
    b"]]>",
    b"<" * 9,
]


def all_entries(path: Path, wanted=range(10**6)) -> list[tuple[int, Entry] | Failure]:
    return [rdf if isinstance(rdf, Failure) else parse_rdf(rdf) for rdf in read_entries(path, wanted)]


def test_an_entry():
    assert parse_rdf(RDF) == (
        90004,
        Entry(
            title="Das Haus am Fluß",
            authors=["Rohde, Emma"],
            languages=["de", "nl"],
            subjects=["Rivers -- Fiction"],
            rights=PUBLIC,
            issued="2009-05-04",
            kind="Text",
        ),
    )


def test_only_the_wanted_are_read_out_of_an_archive(tmp_path):
    assert [entry[0] for entry in all_entries(SAMPLE / "rdf-files.tar.bz2", {90003, 90001, 5})] == [90001, 90003]
    plain = bz2.decompress((SAMPLE / "rdf-files.tar.bz2").read_bytes())
    (tmp_path / "rdf-files.tar").write_bytes(plain)
    assert all_entries(tmp_path / "rdf-files.tar") == all_entries(SAMPLE / "rdf-files.tar.bz2")


def test_the_real_catalogue():
    folder = SHARED / "realdata" / "gutenberg"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the real catalogue exists only on some machines")
    books = dict(all_entries(folder / "c-w__gutenberg__sample-rdf-files.tar.bz2"))
    assert {number: (book.title[:24], book.authors, book.languages, book.issued) for number, book in books.items()} == {
        5: ("The United States Consti", ["United States"], ["en"], "1975-12-01"),
        2701: ("Moby Dick; Or, The Whale", ["Melville, Herman"], ["en"], "2001-07-01"),
        14287: ("L'île mystérieuse", ["Verne, Jules"], ["fr"], "2004-12-07"),
        23962: ("西遊記", ["Wu, Cheng'en"], ["zh"], "2007-12-22"),
        30929: ("Het loterijbriefje", ["Verne, Jules"], ["nl"], "2010-01-11"),
        50405: ("Uncle Wiggily's Auto Sle", ["Garis, Howard Roger"], ["en"], "2015-11-07"),
    }
    assert {book.rights for book in books.values()} == {PUBLIC} and {book.kind for book in books.values()} == {"Text"}
    assert books[50405].title.startswith(
        "Uncle Wiggily's Auto Sled or How Mr. Hedgehog Helped Him"
    )  # two lines in the file
    assert books[2701].subjects[:2] == ["Adventure stories", "Ahab, Captain (Fictitious character) -- Fiction"]


@pytest.mark.parametrize(
    ("rdf", "reason"),
    [
        (b"", "catalogue entry is no XML"),
        (RDF[: len(RDF) // 2], "catalogue entry is no XML"),
        (RDF.replace(b"ebooks/90004", b"ebooks/one"), "catalogue entry without a book"),
        (b"<a/>", "catalogue entry without a book"),
        (RDF + b" " * 1_000_000, "catalogue entry too large"),
        (RDF.replace(b"<rdf:RDF", b'<!DOCTYPE a [<!ENTITY x "y">]>\n<rdf:RDF', 1), "catalogue entry with a DTD"),
        (RDF.decode().replace("utf-8", "utf-16").replace("<rdf:RDF", "<!DOCTYPE a>\n<rdf:RDF", 1).encode("utf-16"),
         "catalogue entry with a DTD"),
        (b"<a>" * 100_000, "catalogue entry is no XML"),
    ],
)  # fmt: skip
def test_entries_that_are_refused(rdf, reason):
    assert parse_rdf(rdf) == Failure(reason)


def test_entities_fetch_and_grow_nothing(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 9))
    for entities in (f'<!ENTITY x SYSTEM "{secret.as_uri()}">', f'<!ENTITY l0 "ha">{laughs}<!ENTITY x "&l8;">'):
        text = RDF.decode().replace("<rdf:RDF", f"<!DOCTYPE a [{entities}]>\n<rdf:RDF", 1).replace("Das Haus", "&x;")
        survive(lambda rdf: isinstance(parse_rdf(rdf), Failure) or pytest.fail("was read"), iter([text.encode()]))


def test_a_tar_header_that_claims_gigabytes_is_refused(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("cache"))
        member = tarfile.TarInfo("pax")
        member.type, member.size = tarfile.XHDTYPE, 2**30
        content.write(member.tobuf(tarfile.USTAR_FORMAT))
        content.write(b"0" * 10_000)
    (tmp_path / "rdf-files.tar").write_bytes(content.getvalue())
    assert all_entries(tmp_path / "rdf-files.tar") == [Failure("catalogue archive broken off")]


def test_links_and_names_in_an_archive_lead_nowhere(tmp_path):
    with tarfile.open(tmp_path / "rdf-files.tar", "w") as archive:
        for name, kind in (
            ("../../pg1.rdf", tarfile.SYMTYPE),
            ("/etc/pg2.rdf", tarfile.LNKTYPE),
            ("pg3.rdf", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("../../pg90004.rdf")
        member.size = len(RDF)
        archive.addfile(member, io.BytesIO(RDF))
    before = sorted(tmp_path.rglob("*"))
    assert [entry[0] for entry in all_entries(tmp_path / "rdf-files.tar")] == [90004]
    assert sorted(tmp_path.rglob("*")) == before


def test_spoilt_entries_are_survived():
    survive(parse_rdf, mutants([RDF], words=WORDS))


@pytest.mark.parametrize(
    ("name", "count"),
    [("rdf-files.tar.bz2", MUTANTS // 4), ("rdf-files.tar", MUTANTS), ("rdf-files.tar.gz", MUTANTS // 4)],
)
def test_spoilt_archives_are_survived(tmp_path, name, count):
    import gzip

    packed = (SAMPLE / "rdf-files.tar.bz2").read_bytes()
    plain = bz2.decompress(packed)
    seed = {".bz2": packed, ".tar": plain, ".gz": gzip.compress(plain, mtime=0)}[Path(name).suffix]

    def parse(spoilt: bytes) -> None:
        (tmp_path / name).write_bytes(spoilt)
        all_entries(tmp_path / name)

    survive(
        parse,
        mutants([seed], words=[b"ustar", b"\0" * 512, b"././@LongLink", b"pg90001.rdf", b"BZh9", b"\x1f\x8b\x08"]),
    )
