"""Archives are walked member by member: what is hostile or broken in them is named, bounded, and never written anywhere."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import struct
import tarfile
import zipfile
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from data_pipelines.dumps import archives
from data_pipelines.dumps.archives import Entry, safe_name, walk_archive
from tests.data_pipelines.fuzz import mutants, survive

MOST = 100_000
FILES = {
    "a.py": b"x = 1\n",
    "empty.py": b"",
    "folder/" + "long-name/" * 20 + "b.py": b"b" * 513,
    "größe/日本.md": "höhe\n".encode(),
    "c.c": bytes(range(256)) * 8,
}


def write_tar(members: list[tarfile.TarInfo | tuple[str, bytes]], form: int = tarfile.PAX_FORMAT, **options) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **options) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size, info.mtime = len(member[1]), 1_618_056_000
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_zip(files: dict[str, bytes], **options) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def walk(folder: Path, name: str, content: bytes, most: int = MOST) -> tuple[list[tuple[str, bytes]], str]:
    """((path, content) of each plain member, what the walk ended with)."""
    (folder / name).write_bytes(content)
    found = []
    try:
        for entry in walk_archive(folder / name, most):
            found.append((entry.path, entry.read() if not entry.special else entry.special.encode()))
    except ValueError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("a.tar.gz", gzip.compress),
        ("a.tgz", lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:])),
        ("a.tar.bz2", bz2.compress),
        ("a.tar.xz", lzma.compress),
        ("a.tar.zst", zstandard.compress),
    ],
)
def test_every_compression_is_read_and_its_clipped_file_noticed(name, compress, tmp_path):
    packed = compress(write_tar(list(FILES.items())))
    assert walk(tmp_path, name, packed) == (list(FILES.items()), "")
    for cut in range(0, len(packed) - 1, 7):
        found, end = walk(tmp_path, name, packed[:cut])
        assert found == list(FILES.items())[: len(found)] and end == "truncated", cut


def test_a_wrong_checksum_at_the_end_of_gzip_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(write_tar(list(FILES.items()))))
    packed[-8] ^= 1
    assert walk(tmp_path, "a.tar.gz", bytes(packed)) == (list(FILES.items()), "corrupt compression")


def test_zip_members_are_read(tmp_path):
    assert sorted(walk(tmp_path, "a.zip", write_zip(FILES))[0]) == sorted(FILES.items())


def test_the_commit_and_the_day_come_from_what_git_archive_writes(tmp_path):
    commit = "3f1c9a5d7e2b48061f9d3c5a7b9e1d2f4a6c8e0b"
    (tmp_path / "a.tar").write_bytes(write_tar([("a.py", b"")], pax_headers={"comment": commit}))
    [entry] = walk_archive(tmp_path / "a.tar", MOST)
    assert (entry.commit, entry.date) == (commit, "2021-04-10")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.py", (2021, 4, 10, 12, 0, 0)), b"")
        archive.comment = commit.encode()
    [entry] = walk_archive(tmp_path / "a.zip", MOST)
    assert (entry.commit, entry.date) == (commit, "2021-04-10")


def test_what_is_no_plain_file_is_named_and_not_read(tmp_path):
    members = [
        special("folder", tarfile.DIRTYPE),
        special("link.py", tarfile.SYMTYPE, "../../etc/passwd"),
        special("hard.py", tarfile.LNKTYPE, "/etc/passwd"),
        special("null", tarfile.CHRTYPE),
        special("disk", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
        special("hole", b"S"),
        special("what", b"Q"),
        ("a.py", b"x = 1\n"),
    ]
    found, end = walk(tmp_path, "a.tar", write_tar(members))  # type: ignore[arg-type]
    names = [
        "symbolic link",
        "hard link",
        "device file",
        "device file",
        "device file",
        "sparse file",
        "special file",
        "x = 1\n",
    ]
    assert [content.decode() for _, content in found] == names and end == ""
    link = zipfile.ZipInfo("link.py")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert [entry.special for entry in walk_archive(tmp_path / "a.zip", MOST)] == ["symbolic link"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        *((name, True) for name in ("a", "a/b.py", ".github/a.yml", "a b/ö.md", "..a/b..", "c++/x")),
        *(
            (name, False)
            for name in (
                "",
                "/a",
                "../a",
                "a/../b",
                "a//b",
                "./a",
                "a\\b",
                "C:a",
                "a\nb",
                "a\0",
                "a\u202eb",
                "x" * 5000,
            )
        ),
    ],
)
def test_only_ordinary_relative_names_are_safe(name, safe):
    assert safe_name(name) == safe


def test_an_archive_that_would_escape_touches_nothing(tmp_path):
    """Links to links through long folders, as in CVE-2025-4517, then files that would be written through them."""
    deep = "d" * 247
    path, members = "", []
    for letter in "abcdefghijklmnop":
        members += [special(path + deep, tarfile.DIRTYPE), special(path + letter, tarfile.SYMTYPE, deep)]
        path += deep + "/"
    short = "/".join("abcdefghijklmnop")
    members += [
        special(short + "/" + "l" * 254, tarfile.SYMTYPE, "../" * 16),
        special("out", tarfile.SYMTYPE, short + "/" + "l" * 254 + "/../.ssh"),
    ]
    members += [
        ("out/authorized_keys", b"key"),
        ("../up.py", b"up"),
        ("/abs.py", b"abs"),
        special("hard", tarfile.LNKTYPE, "out/x"),
    ]  # type: ignore[list-item]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.tar").write_bytes(write_tar(members))  # type: ignore[arg-type]
    before = tree(tmp_path)
    kinds = [entry.special for entry in walk_archive(tmp_path / "work" / "a.tar", MOST)]
    assert len(kinds) == 22 and tree(tmp_path) == before


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else os.readlink(path)
        if path.is_symlink()
        else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("name", "compress"), [("a.tar.gz", gzip.compress), ("a.tar.bz2", bz2.compress), ("a.tar.xz", lzma.compress)]
)
def test_a_compression_bomb_is_given_up(name, compress, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1_000_000)
    bomb = compress(write_tar([("a.py", b"x = 1\n"), ("zeros.py", bytes(30_000_000))]))
    assert walk(tmp_path, name, bomb, 1000) == ([("a.py", b"x = 1\n")], "compression bomb")


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "WINDOW_BYTES", 1_000_000)
    packed = lzma.compress(write_tar([("a.py", b"")]), preset=9)
    assert walk(tmp_path, "a.tar.xz", packed) == ([], "decompressor needs too much memory")


def test_only_so_much_of_a_member_is_read(tmp_path):
    for name, content in (("a.tar", write_tar([("a.py", b"x" * 9000)])), ("a.zip", write_zip({"a.py": b"x" * 9000}))):
        assert walk(tmp_path, name, content, 1000)[0] == [("a.py", b"x" * 1001)]


def test_archives_of_too_many_members_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    for name, content in (("a.tar", write_tar(list(FILES.items()))), ("a.zip", write_zip(FILES))):
        found, end = walk(tmp_path, name, content)
        assert len(found) == 3 and end == "too many members"


def test_zip_members_that_share_their_bytes_are_refused(tmp_path):
    """The trick of zip bombs: one compressed kernel, many entries in the directory that point to it."""
    content = write_zip({"a.py": b"x" * 9000, "b.py": b"y"})
    place = content.rindex(b"PK\1\2")
    first = content.index(b"PK\1\2")
    shared = bytearray(content)
    shared[place + 42 : place + 46] = content[first + 42 : first + 46]
    found, end = walk(tmp_path, "a.zip", bytes(shared))
    assert len(found) <= 1 and end == "overlapping members"


def test_a_zip_that_lies_about_a_member_costs_that_member(tmp_path):
    content = bytearray(write_zip({"a.py": b"x" * 9000}))
    content[content.index(b"x.py") if b"x.py" in content else 40] ^= 0xFF
    assert walk(tmp_path, "a.zip", bytes(content)) == ([], "corrupt member")
    encrypted = bytearray(write_zip({"a.py": b"x"}))
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    assert walk(tmp_path, "a.zip", bytes(encrypted)) == ([("a.py", b"encrypted")], "")


def test_a_zip_directory_is_bounded_before_it_is_read(tmp_path, monkeypatch):
    content = bytearray(write_zip(FILES))
    monkeypatch.setattr(archives, "MAX_ZIP_DIRECTORY", 100)
    assert walk(tmp_path, "a.zip", bytes(content)) == ([], "zip directory too large")
    content[-10:-6] = struct.pack("<I", 4_000_000_000)
    assert walk(tmp_path, "a.zip", bytes(content)) == ([], "corrupt zip directory")
    assert walk(tmp_path, "a.zip", bytes(content[:-30])) == ([], "truncated")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a.zip"])
def test_no_spoilt_archive_takes_long_or_raises(name, tmp_path):
    plain = write_tar(list(FILES.items()))
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    seed = compress[name[5:]](plain) if name != "a.zip" else write_zip(FILES)

    def parse(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        entries = walk_archive(tmp_path / name, MOST)
        try:
            for entry in entries:
                read(entry)
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 40

    def read(entry: Entry) -> None:
        try:
            entry.read()
        except ValueError as error:
            assert str(error) in ("corrupt member", "unknown compression")

    inputs = mutants([seed], words=[b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"\xff\xff\xff\xff"])
    survive(parse, inputs if name == "a.zip" else islice(inputs, 500))  # a changed byte mostly breaks the compression
