"""Project Gutenberg's books out of a mirror's files: the best of each, and every file accounted for."""

import bz2
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_pipelines.account import Account
from data_pipelines.sources.gutenberg import inputs, read
from tests.conftest import ROOT
from tests.data_pipelines.fuzz import mutants

SAMPLE = ROOT / "data_pipelines" / "samples" / "gutenberg"


def read_all(*paths: Path, **settings):
    account = Account()
    documents = {document.id: document for document in read(paths, settings, account)}
    account.check()
    assert account.kept == len(documents)
    return documents, account


@pytest.fixture(scope="module")
def sample():
    return read_all(SAMPLE)


def test_every_file_of_the_sample_is_accounted_for(sample):
    documents, account = sample
    assert list(documents) == ["gutenberg/90001", "gutenberg/90002", "gutenberg/90004"]
    assert account == Account(
        seen=7,
        kept=3,
        dropped={
            "another encoding of the same book": 1,
            "older edition": 1,
            "not in the public domain": 1,
            "TeX or HTML form of a book": 1,
        },
    )


def test_metadata_come_from_the_catalogue(sample):
    documents, _ = sample
    assert documents["gutenberg/90001"].metadata == {
        "source": "gutenberg",
        "language": "en",
        "url": "https://www.gutenberg.org/ebooks/90001",
        "license": "Public domain in the USA",
        "date": "2009-05-04",
        "bytes": 3393,
        "title": "The Windmill at Elsden A Tale of the Downs",
        "authors": ["Fairley, Ada"],
        "languages": ["en"],
        "subjects": ["Windmills -- Fiction"],
        "file": "90001-0.txt",
    }
    harbour = documents["gutenberg/90002"].metadata  # a zip from before there were fields and names by number
    assert (harbour["file"], harbour["title"], harbour["date"]) == ("hrbbk10.zip", "The Harbour Book", "1997-03-01")
    assert harbour["subjects"] == ["Fishers -- England", "Harbors -- Fiction"]
    german = documents["gutenberg/90004"].metadata  # the catalogue names two languages, the header which is the first
    assert (german["language"], german["languages"]) == ("de", ["de", "nl"])


def test_without_a_catalogue_the_header_is_asked(sample, tmp_path):
    for name in ("90001-8.txt", "90003-0.txt"):
        (tmp_path / name).write_bytes((SAMPLE / name).read_bytes())
    documents, _ = read_all(tmp_path)
    mill = documents["gutenberg/90001"]
    assert (mill.metadata["title"], mill.metadata["authors"]) == (
        "The Windmill at Elsden A Tale of the Downs",
        ["Ada Fairley"],
    )
    assert (mill.metadata["language"], mill.metadata["date"], mill.metadata["license"]) == ("en", "2009-05-04", None)
    assert "gutenberg/90003" in documents  # only the catalogue knew of its rights
    signs = str.maketrans("“”’", '""\'') | {ord("œ"): "oe"}
    assert mill.text == sample[0]["gutenberg/90001"].text.translate(signs)  # ISO-8859-1 and UTF-8: the same text


def test_the_next_best_file_is_taken_where_the_best_is_unreadable(tmp_path):
    (tmp_path / "90001-8.txt").write_bytes((SAMPLE / "90001-8.txt").read_bytes())
    utf8 = (SAMPLE / "90001-0.txt").read_bytes().replace(b"*** START OF", b"*** ONCE")  # no telling where it begins
    (tmp_path / "90001-0.txt").write_bytes(utf8)
    documents, account = read_all(tmp_path)
    assert documents["gutenberg/90001"].metadata["file"] == "90001-8.txt"
    assert account.dropped == {"header whose end is not marked": 1}


def test_nothing_depends_on_workers_order_or_folder(sample, tmp_path):
    expected = {key: document.text for key, document in sample[0].items()}
    files = [path for path in sorted(SAMPLE.rglob("*"), reverse=True) if path.is_file()]
    for documents, account in (read_all(*files), read_all(SAMPLE, workers=2)):
        assert {key: document.text for key, document in documents.items()} == expected
        assert account == sample[1]


def test_a_name_of_digits_is_no_number_where_the_header_has_one(tmp_path):
    (tmp_path / "2000010.txt").write_bytes((SAMPLE / "old" / "wndml10.txt").read_bytes())  # as 20,000 Leagues was named
    assert list(read_all(tmp_path)[0]) == ["gutenberg/90001"]


def test_a_clipped_book_is_kept_as_far_as_it_goes_and_said_to_be_clipped(sample, tmp_path):
    whole = (SAMPLE / "90001-0.txt").read_bytes()
    start = whole.index(b"***\r\n") + 5
    end = whole.index(b"TRANSCRIBER\xe2\x80\x99S NOTES")
    good = sample[0]["gutenberg/90001"].text
    for cut in range(start + 500, end, 97):
        (tmp_path / "90001-0.txt").write_bytes(whole[:cut])
        documents, account = read_all(tmp_path)
        assert account.errors == {"book broken off": 1}
        text = documents["gutenberg/90001"].text
        done = "\n\n".join(text.split("\n\n")[:-2])  # how the last lines are joined can depend on what follows
        assert good.startswith(done) and len(text) > (cut - start - 400) * 0.7
    (tmp_path / "90001-0.txt").write_bytes(whole[: start - 60])
    assert read_all(tmp_path)[1].dropped == {"header whose end is not marked": 1}


def test_a_clipped_catalogue_is_counted_and_what_came_before_holds(tmp_path):
    plain = bz2.decompress((SAMPLE / "rdf-files.tar.bz2").read_bytes())
    (tmp_path / "90001-0.txt").write_bytes((SAMPLE / "90001-0.txt").read_bytes())
    second = plain.index(b"cache/epub/90002/pg90002.rdf")
    ended = len(plain.rstrip(b"\0")) // 512 * 512 + 1024  # the two empty blocks at the end need not both be there
    for cut, errors in ((second, 1), (second + 100, 1), (second + 1200, 1), (ended, 0)):
        (tmp_path / "rdf-files.tar").write_bytes(plain[:cut])
        documents, account = read_all(tmp_path)
        assert account.errors == ({"catalogue archive broken off": 1} if errors else {})
        assert documents["gutenberg/90001"].metadata["authors"] == ["Fairley, Ada"]
    clipped = (SAMPLE / "rdf-files.tar.bz2").read_bytes()[:-20]
    (tmp_path / "rdf-files.tar").unlink()
    (tmp_path / "rdf-files.tar.bz2").write_bytes(clipped)
    assert read_all(tmp_path)[1].errors == {"catalogue archive broken off": 1}


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)


def test_large_texts_and_odd_archives_are_dropped_with_a_reason(tmp_path):
    book = (SAMPLE / "90001-0.txt").read_bytes()
    zipped(tmp_path / "1-0.zip", book_txt=book + b"0" * 50_000_000)  # 50 kB that unpack to 50 MB
    zipped(tmp_path / "2-0.zip", a_txt=book, b_txt=book)
    zipped(tmp_path / "3-0.zip", page_htm=b"<html>")
    (tmp_path / "4-0.zip").write_bytes(b"PK\3\4 and no more")
    (tmp_path / "5-0.txt").write_bytes(b"word " * 30_000)
    (tmp_path / "readme.txt").write_bytes(b"no book at all")
    documents, account = read_all(tmp_path, max_book_bytes=100_000)
    assert documents == {} and account.errors == {"broken archive": 1}
    assert account.dropped == {"text too large": 2, "no book number": 3}


def test_a_tar_that_grows_without_end_is_given_up(tmp_path):
    (tmp_path / "90001-0.txt").write_bytes((SAMPLE / "90001-0.txt").read_bytes())
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("cache/epub/7/pg7.rdf")
        member.size = 64_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    (tmp_path / "rdf-files.tar.bz2").write_bytes(bz2.compress(content.getvalue()))
    documents, account = read_all(tmp_path)
    assert len(documents) == 1 and account.errors == {"catalogue archive broken off": 1}


def test_inputs_are_the_files_in_order(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("11-0.txt", "old/alice30.txt", "pg11.rdf", "picture.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "12-0.txt").symlink_to(tmp_path / "11-0.txt")
    found = inputs([tmp_path], {})
    assert [(name, size) for name, size, _ in found] == [("11-0.txt", 1), ("pg11.rdf", 1), ("old/alice30.txt", 1)]


def test_paths_without_books_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        next(read([tmp_path / "nothing"]))
    with pytest.raises(ValueError, match="nothing to read in"):
        next(read([tmp_path]))
    (tmp_path / "book.pdf").write_bytes(b"%PDF")
    with pytest.raises(ValueError, match="none of the kinds"):
        next(read([tmp_path / "book.pdf"]))


def test_spoilt_files_are_all_accounted_for(tmp_path):
    names = ("90001-0.txt", "old/hrbbk10.zip", "old/wndml10.txt", "pg90004.rdf", "rdf-files.tar.bz2")
    for i, spoilt in enumerate(mutants([(SAMPLE / name).read_bytes() for name in names], 200)):
        name = Path(names[i % len(names)]).name
        (tmp_path / (f"{i}-{name}" if name.endswith((".rdf", ".bz2")) else f"{i}-0{name[-4:]}")).write_bytes(spoilt)
    _, account = read_all(tmp_path)
    assert account.seen >= 120
