"""Downloads come whole or not at all, from a server that does everything wrong that servers do."""

import gzip
import hashlib
import json
import re
import threading
import urllib.error
from collections import Counter
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from data_pipelines import fetch_http
from data_pipelines.fetch import fetch
from data_pipelines.fetch_download import Broken, File, download
from data_pipelines.fetch_http import Refused, check_url, get, wait
from data_pipelines.fetch_sources import PUBLISHERS

BODY = gzip.compress(bytes(range(256)) * 4000, mtime=0) + hashlib.sha512(b"tail").digest() * 4000
SHA1 = hashlib.sha1(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers what the test's `plan` says for a path: a function of this handler and the number of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked[path] += 1
        self.server.ranges.append(self.headers.get("Range"))
        plan = self.server.plans.get(path)
        if plan is None:
            self.answer(404, b"<html>not here</html>")
        elif isinstance(plan, bytes):
            self.file(plan)
        else:
            plan(self, self.server.asked[path])

    def answer(self, status, body, sent=None, **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None and sent < len(body):
            self.close_connection = True

    def file(self, body, sent=None, etag='"1"'):
        """`body` as a good server sends it: ranges, and those only of the version that is asked for."""
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and self.headers.get("If-Range") == etag:
            begin = int(start[1])
            if begin >= len(body):
                return self.answer(416, b"", Content_Range=f"bytes */{len(body)}")
            whole = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            return self.answer(206, body[begin:], sent, ETag=etag, Content_Range=whole)
        return self.answer(200, body, sent, ETag=etag)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.plans, httpd.asked, httpd.ranges = {}, Counter(), []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def slept(monkeypatch) -> list[float]:
    """The seconds that were to be slept, in order; nobody sleeps."""
    found: list[float] = []
    monkeypatch.setattr(fetch_http.time, "sleep", found.append)
    monkeypatch.setattr(fetch_http, "TIMEOUT", 2)
    return found


def one(server, tmp_path, plan, name="a.gz", **more):
    """The content of one file downloaded by this plan."""
    server.plans["/file"] = plan
    path = download(File(f"{server.url}/file", name, **more), tmp_path, True, False)
    assert path == tmp_path / name
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing else is left
    return path.read_bytes()


# --- one file ---


def test_a_file_comes_as_it_is(server, tmp_path):
    checks = {"size": len(BODY), "algorithm": "sha1", "checksum": SHA1}
    assert one(server, tmp_path, BODY, name="sub/a.gz", **checks) == BODY
    assert one(server, tmp_path, BODY, name="sub/a.gz", **checks) == BODY
    assert server.asked["/file"] == 1  # it was there the second time
    (tmp_path / "sub/a.gz").write_bytes(BODY[:-1])
    assert one(server, tmp_path, BODY, name="sub/a.gz", **checks) == BODY
    assert server.asked["/file"] == 2


def test_a_file_cut_off_again_and_again_is_the_same_a_hundred_times(server, tmp_path):
    for i in range(100):
        body = gzip.compress(str(i).encode() * 50, mtime=0) + bytes((i * 7 + j * j) % 256 for j in range(3000))
        cuts = [1 + (i * 131 + n * 977) % 1500 for n in range(5)]

        def plan(handler, asked, body=body, cuts=cuts, i=i):
            handler.file(body, sent=cuts[asked - 6 * i - 1] if asked - 6 * i <= 5 else None, etag=f'"{i}"')

        server.asked["/file"] = 6 * i
        found = one(server, tmp_path, plan, name=f"{i}/a.gz")
        assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
    assert sum(bool(asked) for asked in server.ranges) >= 200  # most were taken up, not begun again


def test_what_an_earlier_process_left_is_taken_up(server, tmp_path):
    def refuse(handler, asked):
        handler.file(BODY, sent=5000) if asked == 1 else handler.answer(403, b"")

    with pytest.raises(OSError, match="the server says 403"):
        one(server, tmp_path, refuse)
    assert (tmp_path / "a.gz.part").read_bytes() == BODY[:5000]
    assert one(server, tmp_path, BODY) == BODY
    assert server.ranges == [None, "bytes=5000-", "bytes=5000-"]


@pytest.mark.parametrize(
    "state", ["", "{}", '{"validator": "x", "length": 3}', "[1]", '{"validator": 1, "length": "a"}']
)
def test_a_part_nobody_knows_is_begun_again(server, tmp_path, state):
    (tmp_path / "a.gz.part").write_bytes(b"something else")
    (tmp_path / "a.gz.part.state").write_text(state)
    assert one(server, tmp_path, BODY) == BODY


def test_a_file_that_changes_meanwhile_is_begun_again(server, tmp_path):
    new = gzip.compress(b"new", mtime=0) + BODY[::-1]

    def plan(handler, asked):
        handler.file(BODY, sent=9000) if asked == 1 else handler.file(new, etag='"2"')

    assert one(server, tmp_path, plan) == new


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"2"', "Content_Range": f"bytes 9000-{len(BODY) - 1}/{len(BODY)}"},
        {"ETag": '"1"', "Content_Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"},
        {"ETag": '"1"', "Content_Range": f"bytes 9000-{len(BODY) - 1}/{len(BODY) + 1}"},
        {},
    ],
    ids=["of another version", "of another part", "of another length", "of nobody knows what"],
)
def test_a_part_that_was_not_asked_for_is_not_appended(server, tmp_path, headers):
    def plan(handler, asked):
        if asked == 1:
            handler.file(BODY, sent=9000)
        elif asked == 2:
            handler.answer(206, BODY[1:], **headers)
        else:
            handler.file(BODY)

    assert one(server, tmp_path, plan) == BODY


def test_a_server_without_ranges_or_versions_begins_again(server, tmp_path):
    assert (
        one(server, tmp_path, lambda handler, asked: handler.answer(200, BODY, sent=9000 if asked < 3 else None))
        == BODY
    )
    assert server.ranges == [None] * 3


def test_a_server_that_goes_silent_is_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_http, "TIMEOUT", 0.2)
    silent = threading.Event()

    def plan(handler, asked):
        if asked > 1:
            return handler.file(BODY)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        handler.wfile.write(BODY[:100])
        handler.wfile.flush()
        silent.wait(5)

    assert one(server, tmp_path, plan) == BODY
    silent.set()
    assert server.ranges[1] == "bytes=100-"


def test_a_busy_server_gets_the_time_it_asks_for(server, tmp_path, slept):
    def plan(handler, asked):
        if asked == 1:
            handler.answer(429, b"", Retry_After=7)
        elif asked == 2:
            handler.answer(503, b"<html>busy</html>")
        else:
            handler.file(BODY)

    assert one(server, tmp_path, plan) == BODY
    assert 7 <= slept[0] <= 8 and 1 <= slept[1] <= 3  # 2 s, more or less


def test_patience_ends(server, tmp_path, slept):
    with pytest.raises(OSError, match="given up after 8 tries, the last ended in HTTP Error 503"):
        one(server, tmp_path, lambda handler, asked: handler.answer(503, b""))
    assert len(slept) == 7 and server.asked["/file"] == 8
    with pytest.raises(OSError, match="asks to come back in 86400 s"):
        one(server, tmp_path, lambda handler, asked: handler.answer(429, b"", Retry_After=86400))
    with pytest.raises(OSError, match="the server says 404"):
        one(server, tmp_path, lambda handler, asked: handler.answer(404, b""))


def test_retry_after_may_be_a_date(slept):
    headers = Message()
    headers["Retry-After"] = "Wed, 21 Oct 2015 07:28:00 GMT"  # long past: at once
    wait("https://x.example", urllib.error.HTTPError("", 503, "busy", headers, None), 3)
    assert 0 <= slept[0] <= 1


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.gz", b"<html><body>503 Slow Down</body></html>"),
        ("a.7z", b"not found"),
        ("pg1.txt", b"\xef\xbb\xbf\n<!DOCTYPE html><html>"),
        ("a.xml.bz2", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    ],
)
def test_an_error_page_with_status_200_is_no_file(server, tmp_path, name, body):
    with pytest.raises(Broken, match="it begins with"):
        one(server, tmp_path, lambda handler, asked: handler.answer(200, body), name=name)
    assert server.asked["/file"] == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"algorithm": "sha1", "checksum": "0" * 40}, f"has the sha1 {SHA1}, the publisher says 00000"),
        ({"algorithm": "md5", "checksum": "0" * 32}, "has the md5"),
        ({"size": len(BODY) + 1}, f"has {len(BODY):,} bytes, the publisher says"),
    ],
)
def test_a_wrong_checksum_or_size_leaves_nothing(server, tmp_path, more, message):
    with pytest.raises(Broken, match=message):
        one(server, tmp_path, BODY, **more)
    assert server.asked["/file"] == 2 and list(tmp_path.iterdir()) == []


def test_a_spoilt_part_is_found_by_the_checksum(server, tmp_path):
    (tmp_path / "a.gz.part").write_bytes(b"\x1f\x8bspoilt")
    (tmp_path / "a.gz.part.state").write_text(json.dumps({"validator": '"1"', "length": len(BODY)}))
    assert one(server, tmp_path, BODY, algorithm="sha1", checksum=SHA1) == BODY
    assert server.ranges == ["bytes=8-", None]


def test_what_the_server_compresses_unasked_is_refused(server, tmp_path):
    with pytest.raises(Broken, match="compressed by the server"):
        one(server, tmp_path, lambda handler, asked: handler.answer(200, BODY, Content_Encoding="gzip"))


def test_two_processes_do_not_write_one_file(server, tmp_path):
    import fcntl

    with (tmp_path / "a.gz.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="is being written by another process"):
            one(server, tmp_path, BODY)


def test_a_full_disk_is_said_at_once(server, tmp_path, monkeypatch, slept):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="the disk has 1,000"):
        one(server, tmp_path, BODY)
    assert slept == []


# --- addresses ---


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https:///x", "https://a:b@example.com/"),
        *(
            "https://127.0.0.1/",
            "https://10.0.0.8/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest/meta-data/",
        ),
        *(
            "https://[::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://0.0.0.0/",
            "https://224.0.0.1/",
        ),
        *("https://100.64.0.1/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/"),
    ],
)
def test_addresses_that_are_not_public_are_refused(url, tmp_path):
    with pytest.raises(Refused, match="refused"):
        check_url(url, allow_private=False)
    with pytest.raises(Refused):
        download(File(url, "a.gz"), tmp_path, False, False)


def test_a_name_is_refused_for_any_private_address_it_has(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.1.2.3", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *words, **more: found)
    with pytest.raises(Refused, match=r"leads to 10\.1\.2\.3"):
        check_url("https://files.example/x", allow_private=False)
    del found[1]
    check_url("https://files.example/x", allow_private=False)


def test_redirects_are_checked_too(server, tmp_path, monkeypatch):
    first = check_url

    def only_the_first(url, allow_private):  # the loopback server stands for a public one
        first(url, allow_private=url.endswith("/file"))

    monkeypatch.setattr(fetch_http, "check_url", only_the_first)
    for place in ("https://169.254.169.254/latest/", "http://example.com/", "file:///etc/passwd"):
        with pytest.raises((Refused, OSError), match=f"{re.escape(place)}.* (refused|not allowed)"):
            one(server, tmp_path, lambda handler, asked, place=place: handler.answer(302, b"", Location=place))


def test_a_redirect_keeps_the_range(server, tmp_path):
    server.plans["/there"] = lambda handler, asked: handler.file(BODY, sent=5000 if asked == 1 else None)
    assert one(server, tmp_path, lambda handler, asked: handler.answer(302, b"", Location="/there")) == BODY
    assert server.ranges[-1] == "bytes=5000-"


# --- listings ---


def test_a_listing_is_asked_for_until_it_is_whole_and_never_too_long(server):
    server.plans["/list"] = lambda handler, asked: handler.answer(200, b"abc", sent=1 if asked == 1 else None)
    assert get(f"{server.url}/list", True, 3)[0] == b"abc"
    with pytest.raises(ValueError, match="longer than 2 bytes"):
        get(f"{server.url}/list", True, 2)


def run(server, tmp_path, source, snapshot, limit=None):
    paths = fetch(source, snapshot, limit, tmp_path / "out", base_url=server.url, allow_private=True, progress=False)
    return [str(path.relative_to(tmp_path / "out")) for path in paths]


def test_common_crawl_is_listed_by_its_paths(server, tmp_path, capsys):
    lines = [f"crawl-data/CC-MAIN-2024-33/segments/1.2/wet/CC-MAIN-{i}.warc.wet.gz" for i in range(5)]
    server.plans["/crawl-data/CC-MAIN-2024-33/wet.paths.gz"] = gzip.compress("\n".join(lines).encode() + b"\n")
    server.plans |= {f"/{line}": BODY for line in lines}
    names = run(server, tmp_path, "common_crawl", "CC-MAIN-2024-33/wet", 2)
    assert names == ["CC-MAIN-0.warc.wet.gz", "CC-MAIN-1.warc.wet.gz"]
    assert "https://commoncrawl.org/terms-of-use" in capsys.readouterr().out
    assert run(server, tmp_path, "common_crawl", "CC-MAIN-2024-33/wet", 3) == [*names, "CC-MAIN-2.warc.wet.gz"]
    assert server.asked[f"/{lines[0]}"] == 1


def test_c4_is_listed_over_pages_and_checked(server, tmp_path):
    sha256 = hashlib.sha256(BODY).hexdigest()
    entries = [
        {"type": "file", "path": f"en/c4-train.0000{i}-of-01024.json.gz", "lfs": {"oid": sha256, "size": len(BODY)}}
        for i in range(2)
    ]
    server.plans |= {f"/datasets/allenai/c4/resolve/main/{entry['path']}": BODY for entry in entries}

    def tree(handler, asked):
        more = {} if "cursor" in handler.path else {"Link": f'<{server.url}/{tree_path}?cursor=x>; rel="next"'}
        handler.answer(200, json.dumps(entries[1:] if "cursor" in handler.path else entries[:1]).encode(), **more)

    tree_path = "api/datasets/allenai/c4/tree/main/en"
    server.plans[f"/{tree_path}"] = tree
    assert run(server, tmp_path, "c4", "en") == [entry["path"] for entry in entries]


def test_wikipedia_is_listed_by_its_status_file(server, tmp_path):
    start = b"BZh9" + BODY
    entry = {"size": len(start), "sha1": hashlib.sha1(start).hexdigest()}
    stem = "nowiki-20260101-pages-articles-multistream"
    files = [f"{stem}10.xml-p9p10.bz2", f"{stem}2.xml-p1p8.bz2", f"{stem}-index2.txt-p1p8.bz2"]
    jobs = {"articlesmultistreamdump": {"status": "done", "files": dict.fromkeys(files, entry)}}
    server.plans["/nowiki/20260101/dumpstatus.json"] = json.dumps({"jobs": jobs}).encode()
    server.plans |= {f"/nowiki/20260101/{name}": start for name in files}
    assert run(server, tmp_path, "wikipedia", "no/20260101") == [files[1], files[0]]
    jobs["articlesmultistreamdump"]["status"] = "in-progress"
    server.plans["/nowiki/20260101/dumpstatus.json"] = json.dumps({"jobs": jobs}).encode()
    with pytest.raises(ValueError, match=r"is not finished \(in-progress\)"):
        run(server, tmp_path, "wikipedia", "no/20260101")


def test_gutenberg_comes_from_a_mirror_with_its_catalogue(server, tmp_path, capsys):
    server.plans |= {"/cache/epub/feeds/rdf-files.tar.bz2": b"BZh9x", "/cache/epub/84/pg84.txt": b"The book", }  # fmt: skip
    assert run(server, tmp_path, "gutenberg", "83-84") == ["rdf-files.tar.bz2", "pg84.txt"]
    assert "/cache/epub/83/pg83.txt is not there" in capsys.readouterr().out
    assert "www.gutenberg.org" not in PUBLISHERS["gutenberg"].base


def test_stack_exchange_is_listed_by_archive_org(server, tmp_path):
    content = b"7z\xbc\xaf\x27\x1c" + BODY
    entry = {"size": str(len(content)), "sha1": hashlib.sha1(content).hexdigest()}
    names = ["stackoverflow.com-Votes.7z", "stackoverflow.com-Posts.7z", "Sites.xml", "beer.stackexchange.com.7z"]
    files = [entry | {"name": name} for name in names]
    server.plans["/metadata/stackexchange_20240402"] = json.dumps({"files": files}).encode()
    server.plans |= {f"/download/stackexchange_20240402/{name}": content for name in names}
    found = run(server, tmp_path, "stack_exchange", "stackexchange_20240402")
    assert found == ["beer.stackexchange.com.7z", "stackoverflow.com-Posts.7z"]
    assert run(server, tmp_path, "stack_exchange", "stackexchange_20240402/stackoverflow.com") == found[1:]
    files[3]["sha1"] = "0" * 40
    server.plans["/metadata/stackexchange_20240402"] = json.dumps({"files": files}).encode()
    with pytest.raises(Broken, match="the publisher says 0000"):
        run(server, tmp_path, "stack_exchange", "stackexchange_20240402")


def test_github_archives_are_those_that_are_named(server, tmp_path):
    server.plans |= {"/pallets/click/tar.gz/8.1.7": BODY, "/psf/requests/tar.gz/HEAD": BODY}
    names = run(server, tmp_path, "github", "pallets/click@8.1.7,psf/requests")
    assert names == ["pallets_click@8.1.7.tar.gz", "psf_requests.tar.gz"]


def test_arxiv_is_left_to_the_user_who_pays(tmp_path, capsys):
    assert fetch("arxiv", "2301", 3, tmp_path) == [] and list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "aws s3 cp --request-payer requester --recursive s3://arxiv/src/ ." in said
    assert "--include 'arXiv_src_2301_*.tar'" in said and "info.arxiv.org/help/bulk_data_s3.html" in said


def test_a_dry_run_only_lists(server, tmp_path, capsys):
    fetch("gutenberg", "84", 2, tmp_path / "out", base_url=server.url, allow_private=True, dry_run=True)
    assert f"{server.url}/cache/epub/84/pg84.txt\n" in capsys.readouterr().out
    assert not server.asked and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../a.7z", "/etc/a.7z", "a/../../b.7z", "..\\a.7z", ".bashrc.7z", "a\n.7z"])
def test_a_listing_may_not_name_files_elsewhere(server, tmp_path, name):
    server.plans["/metadata/stackexchange"] = json.dumps({"files": [{"name": name, "size": "1", "sha1": ""}]}).encode()
    with pytest.raises(ValueError, match="refused|no files"):
        run(server, tmp_path, "stack_exchange", "stackexchange")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("listing", [b"", b"{}", b"[]", b'{"files": 3}', b'{"files": [{}]}', b"<html>", b"\xff"])
def test_a_listing_that_is_none_is_said(server, tmp_path, listing):
    server.plans["/metadata/stackexchange"] = listing
    with pytest.raises(ValueError):
        run(server, tmp_path, "stack_exchange", "stackexchange")


def test_names_that_are_none_are_explained(tmp_path):
    with pytest.raises(ValueError, match="choose one of common_crawl, c4"):
        fetch("books3", "x", 1, tmp_path)
    with pytest.raises(ValueError, match="they have names such as CC-MAIN-2024-33"):
        fetch("common_crawl", "2024", 1, tmp_path)


@pytest.mark.parametrize("source", [source for source in PUBLISHERS if source != "arxiv"])
def test_every_publisher_is_asked_by_https(source):
    publisher = PUBLISHERS[source]
    assert publisher.base.startswith("https://") and "https://" in publisher.terms and publisher.licence
    for example in re.split(r" or | \(", publisher.example)[:2]:
        assert re.fullmatch(publisher.snapshot, example) or example.endswith(")")
