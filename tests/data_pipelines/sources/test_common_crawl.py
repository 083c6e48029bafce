import gzip
import json
import re
import sys

import pytest

from data_pipelines.account import Account
from data_pipelines.sources import common_crawl
from data_pipelines.sources.common_crawl import inputs, read
from data_pipelines.text.web_page import Page
from tests.conftest import ROOT, SHARED
from tests.data_pipelines.fuzz import mutants, survive

SAMPLES = ROOT / "data_pipelines" / "samples" / "common_crawl"
WARC, WET, ARC = (SAMPLES / f"common_crawl.{kind}.gz" for kind in ("warc", "warc.wet", "arc"))
ALL = {"languages": ""}


def outcome(path, settings=ALL):
    account = Account()
    documents = list(read([path], settings, account))
    account.check()
    assert account.kept == len(documents)
    return documents, dict(account.dropped), dict(account.errors)


def test_the_sample_warc_reads_as_it_was_written():
    documents, dropped, errors = outcome(WARC)
    texts = {document.metadata["url"]: document.text for document in documents}
    assert texts["http://bread.example/barley"] == (
        "Barley bread\n\n"
        "This loaf keeps for a week, and it needs no machine. Barley has little gluten, so the dough stays flat & dense.\n\n"
        "What you need\n\n"
        "  • 300 g of barley flour\n  • 200 g of wheat flour\n  • a pinch of salt\n"
        "  1. Mix the flours with the salt.\n  2. Add warm water, and knead for ten minutes.\n"
        "Hours\t\tSize\n1\t\tsmall\n3\t\tdouble\nA round loaf on a wooden board\n\nBake it until the crust sounds hollow."
    )
    assert texts["http://bread.example/doubling"] == (
        "How often until it is enough?\n\n"
        "Something that doubles each hour needs $\\log _{2}n$ hours to become n times as large, and this little function"
        " counts them for you:\n\n"
        "def hours(n):\n    count = 0\n    while 2 ** count < n:\n        count += 1\n    return count\n\n"
        "For a thousand it returns ten, as the function hours rounds up."
    )
    assert texts["http://parom.example/"].startswith("Лодочник ждёт на берегу")
    assert texts["http://bread.example/long"].endswith("larger than it takes, is still a pa")
    assert list(texts)[-2:] == ["http://bread.example/wrong", "http://bread.example/last"] and len(texts) == 7
    assert dropped == {
        "warcinfo record": 1,
        "DNS record": 1,
        "request record": 3,
        "robots.txt": 1,
        "metadata record": 1,
        "HTTP status other than 200": 1,
        "not HTML": 1,
        "empty": 1,
        "no text": 1,
        "revisit record": 1,
    }
    assert errors == {"wrong chunks": 1, "wrong Content-Length": 1}


def test_metadata_says_where_a_page_is_from():
    document = next(read([WARC], ALL))
    assert document.id == "common_crawl/0c0ffee0-0000-4000-8000-000000000006"
    score = document.metadata.pop("language_score")
    assert 0.5 < score <= 1
    assert document.metadata == {
        "source": "common_crawl",
        "language": "en",
        "url": "http://bread.example/barley",
        "license": "CC-BY-4.0",
        "date": "2024-05-18T07:26:40Z",
        "bytes": 1182,
        "digest": "sha1:LPA4FU56ZF7PQX4ADRXJZAW72Z5BBVO3",
        "content_type": "text/html",
    }
    json.dumps(document.metadata)


def test_wet_and_arc_are_read_too():
    documents, dropped, errors = outcome(WET)
    assert [document.text.split("\n")[0] for document in documents] == [
        "Home",
        "Der Fährmann wartet bis zum späten Abend am Ufer. Wer hinüber will, läutet die Glocke zweimal und grüßt ihn höflich.",
    ]
    assert (dropped, errors) == ({"warcinfo record": 1, "empty": 1}, {})
    (page,), dropped, errors = outcome(ARC)
    assert page.text.startswith("This page was kept in the format before WARC") and errors == {}
    assert page.metadata["date"] == "2010-04-01T12:00:01Z" and re.fullmatch("common_crawl/[0-9a-f]{40}", page.id)
    assert page.id == outcome(ARC)[0][0].id


def record(kind: str, content_type: str, content: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "content_type", "content", "reason"),
    [
        ("resource", "text/html", b"<p>The page alone, as a browser saved it.", None),
        ("conversion", "text/plain", b"The text of a page.", None),
        ("response", "application/http", b"HTTP/1.1 200 OK\n\n<p>A page that has no type at all.", None),
        ("response", "application/http", b"HTTP/1.1 200 OK\n\nNo page, by its beginning.", "not HTML"),
        ("response", "application/http", b"HTTP/1.1 301 Moved\nLocation: /\n\n<p>gone", "HTTP status other than 200"),
        ("resource", "image/png", b"<p>", "not HTML"),
        ("conversion", "application/pdf", b"%PDF", "not HTML"),
        ("metadata", "application/json", b"{}", "WAT metadata"),
        ("continuation", "text/html", b"<p>", "continuation record"),
        ("", "text/html", b"<p>", "record of another type"),
        ("response", "application/http", b"", "empty"),
        ("response", "application/http", bytes(7 * 2**20), "record too large"),
    ],
)
def test_what_becomes_of_a_record(kind, content_type, content, reason, tmp_path):
    (tmp_path / "x.warc").write_bytes(record(kind, content_type, content))
    documents, dropped, errors = outcome(tmp_path / "x.warc")
    assert (dropped, errors) == ({reason: 1} if reason else {}, {})
    for document in documents:
        assert (
            document.metadata["content_type"] in ("text/html", "text/plain", "") and document.metadata["date"] is None
        )


@pytest.mark.parametrize(
    ("settings", "languages", "reasons"),
    [
        ({"languages": "en"}, ["en"] * 5, {"another language": 2}),
        ({"languages": "en, de"}, ["en", "en", "de", "en", "en", "en"], {"another language": 1}),
        ({"languages": "ru", "language_score": 1.01}, [], {"another language": 6, "language uncertain": 1}),
    ],
)
def test_languages_are_filtered_with_a_reason(settings, languages, reasons):
    documents, dropped, _ = outcome(WARC, settings)
    assert [document.metadata["language"] for document in documents] == languages
    assert {reason: count for reason, count in dropped.items() if "language" in reason} == reasons


def test_documents_are_the_same_with_two_workers_and_in_another_folder(tmp_path):
    (tmp_path / "a.warc.gz").write_bytes(WARC.read_bytes())
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "b.wet.gz").write_bytes(WET.read_bytes())
    (tmp_path / "notes.txt").write_text("no archive")
    (tmp_path / "z.warc.gz").symlink_to(WARC)
    account = Account()
    documents = list(read([tmp_path], ALL | {"workers": 2}, account))
    account.check()
    assert documents == list(read([WARC, WET], ALL))
    assert [name for name, *_ in inputs([tmp_path], ALL)] == [
        "a.warc.gz",
        "deeper/b.wet.gz",
    ]
    assert inputs([WARC], {}) == [(WARC.name, WARC.stat().st_size, WARC.stat().st_mtime_ns)]


@pytest.mark.parametrize("cut", [200, 500, 3000, 5000, 7000])
def test_a_cut_file_gives_the_first_documents_and_an_error(cut, tmp_path):
    (tmp_path / "cut.warc.gz").write_bytes(WARC.read_bytes()[:-cut])
    documents, _, errors = outcome(tmp_path / "cut.warc.gz")
    whole = outcome(WARC)[0]
    assert documents == whole[: len(documents)] and len(documents) < len(whole)
    assert errors["clipped gzip member"] == 1


def test_a_page_without_end_costs_itself(tmp_path):
    deep = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"<div>" * 10**6
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n" % len(
        deep
    )
    (tmp_path / "deep.warc.gz").write_bytes(gzip.compress(head + deep + b"\r\n\r\n", 1) + WARC.read_bytes())
    documents, _, errors = outcome(tmp_path / "deep.warc.gz")
    assert len(documents) == 7 and errors["nested too deeply"] == 1


def slow(task):
    import time

    time.sleep(60 if "barley" in str(task.record.headers) else 0)
    return Page("text", "en", 1.0, None, "text/html")


def test_a_page_that_takes_too_long_is_an_error_and_the_next_is_read(monkeypatch):
    monkeypatch.setattr(common_crawl, "parse", slow)
    account = Account()
    documents = list(read([WET], ALL | {"seconds": 1}, account))
    assert len(documents) == 1 and account.errors == {"took more than 1 s": 1}


def test_trafilatura_is_there_for_who_wants_it():
    pytest.importorskip("trafilatura", exc_type=ImportError)
    documents, _, _ = outcome(WARC, ALL | {"extractor": "trafilatura"})
    assert "This loaf keeps for a week" in documents[0].text and len(documents) >= 5


@pytest.mark.parametrize(
    ("path", "settings", "error", "message"),
    [
        ("none.warc.gz", {}, FileNotFoundError, "none.warc.gz does not exist"),
        ("page.html", {}, ValueError, "page.html is none of the kinds read here by its name: WARC, WET"),
        ("", {}, ValueError, "nothing to read in"),
        ("page.html", {"extractor": "lynx"}, ValueError, "extractor is 'lynx': choose resiliparse or trafilatura"),
        ("page.html", {"language_model": "/none.bin"}, FileNotFoundError, "/none.bin, named as language_model"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(path, settings, error, message, tmp_path):
    (tmp_path / "page.html").write_text("<p>")
    with pytest.raises(error, match=re.escape(message)) as said:
        list(read([tmp_path / path], settings))
    assert "\n" not in str(said.value)


def test_the_module_is_light(root):
    import subprocess

    code = "import sys, data_pipelines.sources.common_crawl;"
    code += "print([m for m in ('lxml', 'fastwarc', 'resiliparse', 'fasttext', 'trafilatura', 'warcio') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert said.stdout == "[]\n", said.stderr


def test_it_survives_whatever_file(monkeypatch, tmp_path):
    """In this process, so that it is the parser that survives and not only the pool."""
    monkeypatch.setattr(
        common_crawl, "run_guarded", lambda function, items, **_: ((item, function(item)) for item in items)
    )
    plain = gzip.decompress(WARC.read_bytes())
    parts = re.split(rb"(?<=\r\n\r\n)(?=WARC/1.0)", plain)
    chosen = [part for part in parts if b"/doubling" in part or b"faehre" in part or b"/last" in part]
    seeds = [
        b"".join(chosen),
        b"".join(map(gzip.compress, chosen)),
        WET.read_bytes(),
        gzip.decompress(WET.read_bytes()),
        ARC.read_bytes(),
    ]
    file = tmp_path / "mutant.warc"

    def parse(data: bytes) -> None:
        file.write_bytes(data)
        documents, _, _ = outcome(file)
        for document in documents:
            json.dumps([document.id, document.metadata, document.text]).encode()
            document.text.encode()

    words = [
        b"WARC/1.0\r\n",
        b"Content-Length: ",
        b"\r\n\r\n",
        b"<div>",
        b"text/html",
        b"\x1f\x8b\x08\x00",
        b"charset=utf-16",
    ]
    survive(parse, mutants(seeds, words=words))


# --- real files ---

ACCOUNTS = {  # documents; what is left out; errors
    "allenai__dolma__sample-0000.warc.gz": (
        22,
        {"warcinfo record": 1, "request record": 22, "metadata record": 1, "not HTML": 2},
        {},
    ),
    "allenai__dolma__sample-0001.warc.gz": (
        15,
        {"warcinfo record": 1, "request record": 15, "metadata record": 1, "not HTML": 2},
        {},
    ),
    "archivesunleashed__aut__example.warc.gz": (
        93,
        {
            "warcinfo record": 1,
            "DNS record": 38,
            "robots.txt": 38,
            "request record": 261,
            "metadata record": 261,
            "not HTML": 87,
            "HTTP status other than 200": 42,
            "no text": 1,
        },
        {},
    ),
    "chatnoir-eu__chatnoir-resiliparse__clipped.warc.gz": (0, {}, {"clipped gzip member": 1}),
    "chatnoir-eu__chatnoir-resiliparse__clueweb-quirk.warc.gz": (29, {"warcinfo record": 1}, {}),
    "chatnoir-eu__chatnoir-resiliparse__warcfile.warc.gz": (
        16,
        {"warcinfo record": 1, "request record": 17, "metadata record": 16},
        {},
    ),
    "chatnoir-eu__chatnoir-resiliparse__warcfile.warc.lz4": (
        16,
        {"warcinfo record": 1, "request record": 17, "metadata record": 16},
        {},
    ),
    "commoncrawl__ia-web-commons__html-lang-attribute.warc": (0, {"no text": 5}, {}),
    "commoncrawl__ia-web-commons__text-extraction-test.warc": (
        1,
        {"warcinfo record": 1, "metadata record": 1, "not HTML": 1},
        {},
    ),
    "commoncrawl__ia-web-commons__title-extraction-embedded-SVG.warc": (1, {}, {}),
    "commoncrawl__whirlwind-python__whirlwind.warc.gz": (
        1,
        {"warcinfo record": 1, "request record": 1, "metadata record": 1},
        {},
    ),
    "commoncrawl__whirlwind-python__whirlwind.warc.wat.gz": (0, {"warcinfo record": 1, "WAT metadata": 1}, {}),
    "commoncrawl__whirlwind-python__whirlwind.warc.wet": (1, {"warcinfo record": 1}, {}),
    "commoncrawl__whirlwind-python__whirlwind.warc.wet.gz": (1, {"warcinfo record": 1}, {}),
    "facebookresearch__cc_net__sample.warc.txt": (3, {"warcinfo record": 1}, {"wrong Content-Length": 4}),
    "webrecorder__warcio__bad.arc": (0, {}, {"bad record header": 3, "no HTTP response": 1}),
    "webrecorder__warcio__example-bad-non-chunked.warc.gz": (
        1,
        {"warcinfo record": 2, "request record": 2, "revisit record": 1},
        {},
    ),
    "webrecorder__warcio__example-iana.org-chunked.warc": (1, {"warcinfo record": 1, "request record": 1}, {}),
    "webrecorder__warcio__example-trunc.warc": (
        1,
        {"warcinfo record": 2, "request record": 1},
        {"wrong Content-Length": 1},
    ),
    "webrecorder__warcio__example-wget-bad-target-uri.warc.gz": (
        1,
        {"warcinfo record": 1, "request record": 1, "metadata record": 1, "not HTML": 2},
        {},
    ),
    "webrecorder__warcio__example-wrong-chunks.warc.gz": (1, {"request record": 1}, {}),
    "webrecorder__warcio__example.arc.gz": (1, {"warcinfo record": 1}, {}),
    "webrecorder__warcio__example.warc.gz": (1, {"warcinfo record": 2, "request record": 2, "revisit record": 1}, {}),
}


def real(name):
    file = SHARED / "realdata" / "commoncrawl" / name
    if not file.is_file():
        pytest.skip(f"needs {file}")
    return file


@pytest.mark.parametrize("name", ACCOUNTS)
def test_every_record_of_a_real_file_is_accounted_for(name):
    documents, dropped, errors = outcome(real(name))
    assert (len(documents), dropped, errors) == ACCOUNTS[name]
    for document in documents:
        speaks_of_markup = document.metadata["url"].endswith(("/about/faqs.php", "/html2text-spacing.html"))
        assert speaks_of_markup or not re.search(r"</?(p|div|a|span|br|td)[ >/]", document.text)
        assert not document.metadata["url"].startswith("<")


@pytest.mark.parametrize(
    ("name", "number", "url", "language", "license", "start"),
    [
        ("commoncrawl__whirlwind-python__whirlwind.warc.gz", 0, "https://an.wikipedia.org/wiki/Escopete", "an", "CC-BY-SA-4.0",
         "Escopete\n\n"),
        ("commoncrawl__whirlwind-python__whirlwind.warc.wet.gz", 0, "https://an.wikipedia.org/wiki/Escopete", "es", None,
         "Escopete - Biquipedia, a enciclopedia libre"),
        ("webrecorder__warcio__example-wget-bad-target-uri.warc.gz", 0, "http://example.com/", "en", None,
         "Example Domain\n\nThis domain is established to be used for illustrative examples in documents."),
        ("webrecorder__warcio__example.arc.gz", 0, "http://example.com/", "en", None, "Example Domain\n\nThis domain is"),
        ("webrecorder__warcio__example-iana.org-chunked.warc", 0, "http://www.iana.org/", "en", None,
         "Internet Assigned Numbers Authority"),
        ("facebookresearch__cc_net__sample.warc.txt", 0, "http://sample_english.com", "en", None,
         "Famous Mark Twain Quotes\nDon't part with your illusions."),
        ("facebookresearch__cc_net__sample.warc.txt", 1, "http://sample_chinese.zh", "zh", None, "馬克·吐溫名言\n"),
        ("facebookresearch__cc_net__sample.warc.txt", 2, "http://sample_russian.ru", "ru", None, "Цитаты знаменитого"),
        ("chatnoir-eu__chatnoir-resiliparse__clueweb-quirk.warc.gz", 0,
         "http://www.uraharajuku.st/shopdetail/001005000005/019/000/order/", "ja", None, "ヘッドポーター 吉田カバン PORTER"),
    ],
)  # fmt: skip
def test_a_real_page_reads_as_its_readers_see_it(name, number, url, language, license, start):
    document = outcome(real(name))[0][number]
    assert document.text.startswith(start)
    found = document.metadata
    assert (found["url"], found["language"], found["license"]) == (url, language, license)


def test_the_text_of_a_record_with_a_wrong_length_is_whole():
    texts = [document.text for document in outcome(real("facebookresearch__cc_net__sample.warc.txt"))[0]]
    assert texts[0].endswith("Truth isn't.") and "WARC" not in "".join(texts)


def test_creative_commons_pages_say_their_licence():
    licenses = [document.metadata["license"] for document in outcome(real("allenai__dolma__sample-0000.warc.gz"))[0]]
    assert "CC-BY-4.0" in licenses and None in licenses
