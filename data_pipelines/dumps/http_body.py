"""What an archived HTTP response held: status, headers, and the body without chunks and compression."""

import io
import re
import zlib
from typing import Any, NamedTuple

MAX_BODY = 16 * 2**20  # a page of 5 MiB (Common Crawl's limit) is at most this when unpacked; a bomb is cut off here
CHUNK_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]{0,1000})?\r?\n")
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Response(NamedTuple):
    """`headers`: names in lower case; `charset` as Content-Type names it, or None."""

    status: int
    headers: dict[str, str]
    content_type: str
    charset: str | None
    body: bytes


class BadBody(ValueError):
    """A body that is not what its headers say."""


def parse_response(content: bytes, cut_off: bool = False) -> Response:
    """The response in a WARC record's content. cut_off: the crawler says that it took only the beginning (WARC-Truncated).

    A body whose headers name a compression or chunks it does not have is taken as it is: crawlers decode bodies and keep
    the headers. Raises BadBody, with a reason fit for an account, for what is no response or does not decode."""
    from fastwarc.warc import WarcRecord

    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"
    try:
        record = WarcRecord.from_bytes(head % len(content) + content + b"\r\n\r\n")
        record.parse_http(auto_decode="none", quirks_mode=True)
        http, body = record.http_headers, record.reader.read()
        content_type = (record.http_content_type or "").strip().lower()
        charset = (record.http_charset or "").strip("\"' \t") or None
    except OSError as error:
        raise BadBody("bad HTTP header") from error
    if http is None or http.status_code is None:
        raise BadBody("no HTTP response")
    headers = {name.lower(): value for name, value in reversed(http.items())}
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _without_chunks(body, cut_off)
    for encoding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decoded(body, encoding.strip(), cut_off)
    return Response(http.status_code, headers, content_type, charset, body)


def _without_chunks(body: bytes, cut_off: bool) -> bytes:
    parts, place = [], 0
    while size := CHUNK_SIZE.match(body, place):
        length = int(size[1], 16)
        part = body[size.end() : size.end() + length]
        parts.append(part)
        place = size.end() + length
        if length == 0:
            return b"".join(parts)
        if len(part) < length:
            break
    if place == 0:
        return body
    if not cut_off:
        raise BadBody("wrong chunks")
    return b"".join(parts)


def _decoded(body: bytes, encoding: str, cut_off: bool) -> bytes:
    if encoding in ("gzip", "x-gzip"):
        return _inflated(body, 31, cut_off) if body.startswith(GZIP) else body
    if encoding == "deflate":  # with zlib's header, as the standard says, or without, as some servers do
        if body[:1] == b"\x78" and int.from_bytes(body[:2], "big") % 31 == 0:
            return _inflated(body, 15, cut_off)
        return body if body.lstrip()[:1] == b"<" else _inflated(body, -15, cut_off)
    if encoding in ("br", "zstd"):
        from fastwarc.stream_io import BrotliReader, ZstdReader

        if encoding == "br":
            return _read_all(BrotliReader(io.BytesIO(body)), body, cut_off)
        return _read_all(ZstdReader(io.BytesIO(body)), body, cut_off) if body.startswith(ZSTD) else body
    return body


def _inflated(body: bytes, wbits: int, cut_off: bool) -> bytes:
    stream = zlib.decompressobj(wbits)
    try:
        plain = stream.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise BadBody("corrupt compressed body") from error
    if len(plain) > MAX_BODY:
        raise BadBody("body too large")
    if not stream.eof and not cut_off:
        raise BadBody("clipped compressed body")
    return plain


def _read_all(reader: Any, body: bytes, cut_off: bool) -> bytes:
    plain = bytearray()
    try:
        while part := reader.read(2**16):
            plain += part
            if len(plain) > MAX_BODY:
                raise BadBody("body too large")
    except OSError as error:
        if not plain and body.lstrip()[:1] == b"<":
            return body
        if not cut_off:
            raise BadBody("corrupt compressed body") from error
    return bytes(plain)
