"""Tar members stream by as they were written, and no header is believed."""

import io
import tarfile

import pytest

from data_pipelines.dumps import tar
from data_pipelines.dumps.archives import safe_name
from tests.data_pipelines.dumps.test_archives import FILES, MOST, walk, write_tar
from tests.data_pipelines.fuzz import mutants, survive


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_format_are_read_as_tarfile_wrote_them(form, tmp_path):
    files = {name: content for name, content in FILES.items() if form != tarfile.USTAR_FORMAT or len(name) < 100}
    assert walk(tmp_path, "a.tar", write_tar(list(files.items()), form)) == (list(files.items()), "")


def test_a_clipped_tar_gives_what_is_whole_and_says_so(tmp_path):
    content = write_tar(list(FILES.items()))
    end = content.rstrip(b"\0").__len__() // 512 * 512 + 512
    for cut in range(0, end, 97):
        found, said = walk(tmp_path, "a.tar", content[:cut])
        assert found == list(FILES.items())[: len(found)] and said == "truncated", cut


def test_a_header_s_size_is_not_believed(tmp_path):
    huge = tarfile.TarInfo("pax")
    huge.type, huge.size = b"x", 8_000_000_000
    block = huge.tobuf(tarfile.GNU_FORMAT)
    assert walk(tmp_path, "a.tar", block + bytes(10_000)) == ([], "header too large")
    claims = tarfile.TarInfo("a.py")
    claims.size = 8_000_000_000_000
    assert walk(tmp_path, "a.tar", claims.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)) == ([], "truncated")
    negative = bytearray(claims.tobuf(tarfile.GNU_FORMAT))  # a member that ends before it starts: CVE-2025-8194
    negative[124:136] = b"\xff" * 12
    negative[148:156] = f"{sum(negative[:148]) + 256 + sum(negative[156:]):06o}\0 ".encode()
    assert walk(tmp_path, "a.tar", bytes(negative) + bytes(10_000)) == ([], "corrupt header")


def test_no_spoilt_tar_takes_long_or_raises(tmp_path):
    plain = write_tar(list(FILES.items()), pax_headers={"comment": "a" * 40})
    seeds = [plain, write_tar(list(FILES.items()), tarfile.GNU_FORMAT)]
    words = [
        b"ustar\0",
        b"\0" * 512,
        b"0000644\0",
        b"30 mtime=1618056000.5\n",
        b"GNU.sparse.major=1\n",
        b"\x80\0\0\0",
        b"x",
        b"L",
    ]

    def parse(data: bytes) -> None:
        try:
            for member in tar.read_tar(io.BytesIO(data), MOST):
                safe_name(member.header.name)
        except ValueError as error:
            assert str(error) in ("truncated", "corrupt header", "header too large")

    survive(parse, mutants(seeds, words=words))
