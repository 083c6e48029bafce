"""One file as a book: its number, its characters whatever its encoding, its rights; nothing spoilt takes the parser down."""

import zipfile
from pathlib import Path

import pytest

from data_pipelines.pool import Failure
from data_pipelines.text.gutenberg_book import (
    Book,
    Dropped,
    book_number,
    clean_book,
    decode,
    edition_rank,
    read_book,
)
from tests.conftest import ROOT
from tests.data_pipelines.fuzz import mutants, survive

SAMPLE = ROOT / "data_pipelines" / "samples" / "gutenberg"
BOOKS = [SAMPLE / name for name in ("90001-0.txt", "90001-8.txt", "90004-8.txt", "old/wndml10.txt")]
WORDS = [
    *(
        b"*** START OF THIS PROJECT GUTENBERG EBOOK ",
        b"*** END OF THIS PROJECT GUTENBERG EBOOK ",
        b"***",
        b"\r\n",
        b"\n\n",
    ),
    *(
        b"*END*THE SMALL PRINT!",
        b"***START**THE SMALL PRINT!",
        b"End of Project Gutenberg",
        b"[Illustration: ",
        b"]",
        b"[",
    ),
    *(b"[Transcriber's Note: ", b"Transcriber's Note", b"[Pg 12]", b"{12}", b"_", b"=", b"--", b"-\n", b"Produced by "),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"Character set encoding: UTF-8\n",
        b"[EBook #1]",
        b"\0",
        b"\x1b",
        b"   \t",
        b" " * 99,
    ),
]


def header(charset: str) -> bytes:
    return f"Character set encoding: {charset}\r\n\r\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xef\xbb\xbfna\xc3\xafve", "naïve"),
        (b"na\xc3\xafve", "naïve"),
        (b"na\xefve", "naïve"),
        (b"\x93quoted\x94", "“quoted”"),  # cp1252, though it says ISO-8859-1
        ("naïve".encode("utf-16"), "naïve"),
        (b"\x81", "\x81"),  # not even cp1252
    ],
)
def test_characters_without_a_header(raw, text):
    assert decode(raw) == text


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("ISO-8859-1", "latin-1", "naïve"),
        ("ISO-8859-1", "utf-8", "naïve"),  # headers are wrong
        ("UTF-8", "latin-1", "naïve"),
        ("ISO-8859-2", "iso8859-2", "žluťoučký"),
        ("ISO-8859-7", "iso8859-7", "Ιλιάς"),
        ("Big5", "big5", "西遊記"),
        ("Windows-1251", "cp1251", "Бедная Лиза"),
        ("MacRoman", "mac-roman", "naïve"),
        ("rot13", "latin-1", "naïve"),
        ("zip", "latin-1", "naïve"),
    ],
)
def test_characters_by_the_header(charset, codec, text):
    decoded = decode(header(charset) + text.encode(codec))
    assert decoded.endswith(text if (charset, codec) != ("UTF-8", "latin-1") else "na\ufffdve")


def test_a_character_cut_in_two_at_the_end_spoils_only_itself():
    assert decode(b"\xef\xbb\xbf" + "Die Straße ö".encode()[:-1]) == "Die Straße \ufffd"


@pytest.mark.parametrize(
    ("name", "content", "number"),
    [
        ("1342-0.txt", b"Release Date: June, 1998 [EBook #1342]", 1342),
        ("pandp12.txt", b"Release Date: Jun, 1998  [EBook #1342]", 1342),
        ("dvldc10.txt", b"July, 1997  [Etext #972]", 972),
        ("2000010.txt", b"October, 1994  [Etext #164]", 164),
        ("a.txt", b"Release date: June 1, 1998 [eBook #1342]", 1342),
        ("1342-8.txt", b"no header", 1342),
        ("pg1342.txt", b"", 1342),
        ("pg1342.txt.utf8", b"", 1342),
        ("readme.txt", b"as in [1] and #5", None),
        ("pandp09.txt", b"-rw-rw-r--  1 1005  100  247438 Feb  4  2001 07tom10.txt", None),
    ],
)
def test_a_books_number(tmp_path, name, content, number):
    (tmp_path / name).write_bytes(content)
    assert book_number(str(tmp_path / name)) == number


def test_the_best_edition_comes_first():
    names = [
        "old/8pndp12.txt",
        "1342.txt",
        "1342-8.txt",
        "old/pandp10.txt",
        "pg1342.txt",
        "old/1342-0.txt",
        "1342-0.zip",
    ]
    names += ["old__pandp11.txt", "1342_en_pride.txt"]
    assert sorted(names, key=lambda name: edition_rank(1342, name)) == [
        *("1342-0.zip", "pg1342.txt", "1342-8.txt", "1342.txt", "1342_en_pride.txt"),
        *("old/8pndp12.txt", "old__pandp11.txt", "old/pandp10.txt", "old/1342-0.txt"),
    ]


def test_a_books_fields():
    book = clean_book((SAMPLE / "90004-8.txt").read_bytes())
    assert isinstance(book, Book) and not book.clipped
    assert (book.title, book.author, book.language, book.date) == (
        "Das Haus am Fluß",
        "Emma Rohde",
        "German",
        "2009-05-04",
    )
    assert book.text.startswith(
        "Das Haus am Fluß\n\nvon Emma Rohde\n\nErstes Kapitel\n\nDas alte Haus stand so nahe am"
    )
    assert book.text.endswith("»Heute kommt niemand mehr«, sagte Anna. »Es ist ja schon ganz dunkel.«\n\nDer Fluß geht alle"
                              " Tage\nan unserm Haus vorbei,\nund keiner stellt die Frage,\nwohin er gehe, frei.")  # fmt: skip


def test_line_ends_and_control_characters():
    raw = (SAMPLE / "90001-0.txt").read_bytes()
    expected = clean_book(raw)
    assert isinstance(expected, Book)
    for changed in (raw.replace(b"\r\n", b"\n"), raw.replace(b"\r\n", b"\r"), raw.replace(b"miller", b"mil\0\x1bler")):
        book = clean_book(changed)
        assert isinstance(book, Book) and book.text == expected.text


def test_books_that_say_they_are_copyrighted_or_keep_a_licence_are_dropped():
    raw = (SAMPLE / "old" / "wndml10.txt").read_bytes()
    copyrighted = raw.replace(b"FOR PUBLIC DOMAIN ETEXTS", b"FOR COPYRIGHT PROTECTED ETEXTS")
    assert clean_book(copyrighted) == Dropped("not in the public domain")
    licence = b"\r\n\r\nPROJECT GUTENBERG-tm\r\n\r\nYou will indemnify\r\nand hold the Project harmless.\r\n\r\n"
    assert clean_book(raw.replace(b"THE END", licence + b"small print!\r\n\r\nTHE END")) == Dropped(
        "licence text within the book"
    )
    assert clean_book(b"") == Dropped("empty")


def test_spoilt_texts_are_survived():
    survive(clean_book, mutants([path.read_bytes() for path in BOOKS], words=WORDS))


@pytest.mark.parametrize(
    "piece",
    [b"_", b"=", b"[", b"]", b"{", b"{1}", b"[Illustration:", b"[Transcriber's Note", b"[Pg 1]", b"*", b" ", b"\t", b"--", b"-\n",
     b"a\n", b"\n", b"a \n\n", b"*** START OF THIS PROJECT GUTENBERG EBOOK\n", b"End of Project ", b"*END*THE SMALL PRINT!\n",
     b"Produced ", b"=a", b"_a", b"[EBook #", b"Project ", b"special thanks ", b"this file was produced ", b"\xff", b"a"],
)  # fmt: skip
def test_much_of_the_same_takes_no_time(piece):
    survive(clean_book, iter([piece * (250_000 // len(piece)), header("UTF-8") + piece * (250_000 // len(piece))]))


def test_spoilt_archives_are_survived(tmp_path):
    path = tmp_path / "90002.zip"
    seeds = [(SAMPLE / "old" / "hrbbk10.zip").read_bytes()]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("90002.txt", (SAMPLE / "old" / "wndml10.txt").read_bytes())
    seeds.append(path.read_bytes())

    def parse(spoilt: bytes) -> None:
        path.write_bytes(spoilt)
        assert isinstance(book_number(str(path)), int | Failure | None)
        assert isinstance(read_book((90002, str(path), 1_000_000)), Book | Dropped | Failure)

    survive(parse, mutants(seeds, words=[b"PK\1\2", b"PK\3\4", b"PK\5\6", b".txt", b"\xff\xff\xff\xff"]))


def test_files_that_cannot_be_read_are_errors(tmp_path):
    assert read_book((1, str(tmp_path / "1.txt"), 10)) == Failure("file that cannot be read")
    (tmp_path / "1.zip").write_bytes(b"no zip")
    assert read_book((1, str(tmp_path / "1.zip"), 10)) == Failure("broken archive")
    assert read_book((1, str(Path(SAMPLE, "90001-0.txt")), 10)) == Dropped("text too large")
