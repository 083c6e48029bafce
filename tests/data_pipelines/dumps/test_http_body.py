import gzip
import zlib

import pytest

from data_pipelines.dumps.http_body import MAX_BODY, BadBody, Response, parse_response
from tests.data_pipelines.fuzz import mutants, survive

PAGE = b"<p>Barley has little gluten.</p>" * 20


def response(body: bytes, *headers: str, cut_off: bool = False) -> Response:
    return parse_response("\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode() + body, cut_off)


def brotli(data: bytes) -> bytes:
    return pytest.importorskip("brotli").compress(data)


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


def bare_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("br", brotli),
        ("zstd", zstd),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("gzip, br", lambda data: brotli(gzip.compress(data))),
        ("identity", bytes),
        ("none of these", bytes),
        *((name, bytes) for name in ("gzip", "br", "zstd", "deflate")),  # decoded by the crawler, which kept the header
    ],
)
def test_a_compressed_body_is_decoded(encoding, encode):
    assert response(encode(PAGE), f"Content-Encoding: {encoding}").body == PAGE


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"005 \nhello\r\n0\n\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"<p>no chunks, for the crawler took them off", b"<p>no chunks, for the crawler took them off"),
    ],
)
def test_chunks_are_joined(body, text):
    assert response(body, "Transfer-Encoding: chunked").body == text


@pytest.mark.parametrize(
    ("body", "header", "reason"),
    [
        (b"5\r\nhello\r\nzz\r\nworld\r\n", "Transfer-Encoding: chunked", "wrong chunks"),
        (b"99\r\nhello", "Transfer-Encoding: chunked", "wrong chunks"),
        (b"5\r\nhello\r\n", "Transfer-Encoding: chunked", "wrong chunks"),
        (gzip.compress(PAGE)[:-12], "Content-Encoding: gzip", "clipped compressed body"),
        (gzip.compress(PAGE)[:-8] + bytes(8), "Content-Encoding: gzip", "corrupt compressed body"),
        (gzip.compress(bytes(MAX_BODY + 1)), "Content-Encoding: gzip", "body too large"),
        (gzip.compress(bytes(10**8), 1), "Content-Encoding: gzip", "body too large"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(body, header, reason):
    with pytest.raises(BadBody, match=f"^{reason}$"):
        response(body, header)


def test_a_brotli_bomb_is_refused():
    with pytest.raises(BadBody, match="^body too large$"):
        response(brotli(bytes(MAX_BODY + 1)), "Content-Encoding: br")


def test_what_the_crawler_cut_off_is_kept_up_to_there():
    assert response(b"20\r\nhello", "Transfer-Encoding: chunked", cut_off=True).body == b"hello"
    text = b" ".join(b"%d" % number for number in range(9999))
    assert text.startswith(body := response(gzip.compress(text)[:9000], "Content-Encoding: gzip", cut_off=True).body)
    assert len(body) > 9000


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\0" * 99, b"HTTP/1.1\r\n\r\n", b"<html><p>a page alone</p></html>"]
)
def test_what_is_no_response_is_refused(content):
    with pytest.raises(BadBody, match="^(no HTTP response|bad HTTP header)$"):
        parse_response(content)


def test_headers_are_found_by_name():
    content = b'HTTP/1.1 404 Not Found\nCONTENT-TYPE: Text/HTML; Charset="EUC-JP"\nServer: a\n b\n\nbody\n'
    found = parse_response(content)
    assert found[:1] + found[2:] == (404, "text/html", "euc-jp", b"body\n")
    assert found.headers["content-type"] == 'Text/HTML; Charset="EUC-JP"'


def test_it_survives_whatever_response():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    seeds = [
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        head + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PAGE),
        head + b"Content-Encoding: br\r\n\r\n" + brotli(PAGE),
        head + b"Content-Encoding: zstd\r\n\r\n" + zstd(PAGE),
        head + b"Content-Encoding: deflate\r\n\r\n" + bare_deflate(PAGE),
    ]

    def parse(data: bytes) -> None:
        try:
            parse_response(data)
        except BadBody:
            return

    words = [b"\r\n", b"ffffffff\r\n", b"gzip, ", b"Content-Encoding: br\r\n", b"HTTP/1.1 ", b":"]
    survive(parse, mutants(seeds, words=words))
