"""The Stack Exchange dumps are read as they are: every row accounted for, answers in order, code as it stands."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import py7zr
import pytest

from data_pipelines.account import Account
from data_pipelines.dumps.stack_exchange_archive import posts_size, unpack
from data_pipelines.dumps.stack_exchange_posts import rows, threads, unescape
from data_pipelines.pool import Failure
from data_pipelines.sources import stack_exchange
from data_pipelines.sources.stack_exchange import inputs, read, thread
from data_pipelines.text.stack_exchange_html import html_to_text
from tests.conftest import ROOT, SHARED
from tests.data_pipelines.fuzz import mutants, survive

SAMPLES = ROOT / "data_pipelines" / "samples" / "stack_exchange"
LOOPS = SAMPLES / "loops.stackexchange.com" / "Posts.xml"
REAL = SHARED / "realdata" / "stackexchange"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: real dumps exist only on some machines")


def documents(*paths, **settings):
    account = Account()
    found = list(read(paths, settings, account))
    account.check()
    assert account.kept == len(found)
    return {document.id.removeprefix("stack_exchange/"): document for document in found}, account


def posts(tmp_path, *lines: str, ending="\n</posts>", name="a.example.com-Posts.xml", nl="\n") -> Path:
    (tmp_path / name).write_text(nl.join(['<?xml version="1.0" encoding="utf-8"?>', "<posts>", *lines]) + ending)
    return tmp_path / name


def question(id, **more):
    return row(Id=id, PostTypeId=1, Title=f"Title {id}", Body=f"&lt;p&gt;Body {id}&lt;/p&gt;", **more)


def answer(id, parent, score=0):
    return row(Id=id, PostTypeId=2, ParentId=parent, Score=score, Body=f"&lt;p&gt;Answer {id}&lt;/p&gt;")


def row(**values):
    return "  <row " + " ".join(f'{name}="{value}"' for name, value in values.items()) + " />"


# --- what a document looks like ---


def test_the_sample_becomes_these_documents():
    found, account = documents(SAMPLES)
    assert list(found) == [
        *("tea.stackexchange.com/1", "tea.stackexchange.com/8"),
        *("loops.stackexchange.com/1", "loops.stackexchange.com/3"),
    ]
    assert account == Account(
        seen=9,
        kept=4,
        dropped={
            "neither question nor answer": 3,
            "question without answers": 1,
            "answer without its question": 1,
        },
    )
    assert found["tea.stackexchange.com/1"].text.startswith(
        "Q: How to reach 80 °C without a thermometer?\n\n"
        "My green tea turns bitter after a minute. The packet says 80\u00a0°C, but I have no thermometer & no patience.\n\n"
        "How do I get the water to the right temperature without one?\n\n"
        "A: Look at the bubbles:\n\n"
        "- like shrimp eyes: 70 to 80 °C\n\n"
        "- like a string of pearls: above 90 °C\n\n"
        "  - too hot for green tea\n"
        "  - fine for oolong\n\n"
        "> Listen to the kettle,\n"
        "> not to the packet.\n\n"
        "A: Mix it. With boiling and cold water of shares $a$ and $1-a$ you get\n\n"
        "$$\n  T = 100\\,a + 15\\,(1-a)\n$$\n\n"
        "so three quarters boiling"
    )
    assert found["loops.stackexchange.com/1"].text.split("\n\nA: ")[0] == (
        "Q: A for-loop that prints nothing\n\n"
        "This prints nothing, and I cannot see why:\n\n"
        "def count(limit):\n    for i in range(limit):\n        if i < 0:\n            print(i)\n\n\ncount(3)\n\n"
        "Do I need while instead?"
    )


def test_documents_are_the_same_for_any_number_of_workers_and_order_of_paths():
    found, _ = documents(SAMPLES)
    other, _ = documents(LOOPS, SAMPLES / "tea.stackexchange.com.7z", workers=3)
    assert other == found and list(other) != list(found)


def test_a_document_says_where_it_is_from_and_under_which_licence():
    found, _ = documents(SAMPLES)
    metadata = found["tea.stackexchange.com/1"].metadata
    assert metadata == json.loads(json.dumps(metadata)) == {
        "source": "stack_exchange",
        "language": "en",
        "url": "https://tea.stackexchange.com/questions/1",
        "license": "CC-BY-SA-2.5 AND CC-BY-SA-3.0",
        "date": "2010-11-02",
        "bytes": 2585,
        "site": "tea.stackexchange.com",
        "title": "How to reach 80 °C without a thermometer?",
        "tags": ["green-tea", "water-temperature"],
        "score": 12,
        "answers": [4, 3, 2, 5],
        "answer_scores": [100, 10, 9, -2],
        "accepted": 3,
    }  # fmt: skip
    assert found["tea.stackexchange.com/8"].metadata["tags"] == [
        "leaves",
        "oolong",
    ]  # |a|b|, as dumps since 2024 have it
    assert found["loops.stackexchange.com/1"].metadata["license"] == "CC-BY-SA-3.0 AND CC-BY-SA-4.0"  # by their dates


def test_answers_go_by_number_then_accepted_then_id():
    found, _ = documents(SAMPLES)
    first = found["tea.stackexchange.com/1"].metadata["answer_scores"]
    assert first == [100, 10, 9, -2]
    assert sorted(first, key=str, reverse=True) == [9, 100, 10, -2]  # what a sort of the attribute itself would give
    tied = found["tea.stackexchange.com/8"].metadata
    assert (tied["answers"], tied["answer_scores"], tied["accepted"]) == ([11, 9, 10], [3, 3, 3], 11)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a &amp;lt; b &amp; c</p>", "a &lt; b & c"),
        ("<p>one\ntwo</p>\n\n<p>three</p>\n", "one two\n\nthree"),
        ("<p>one<br>\n  two</p>", "one\ntwo"),
        ("<p>see <a href='https://x.example'>the  page</a>.</p>", "see the page."),
        ("<pre><code>if x:\n\ty = 1\n\n\n    z\n</code></pre>", "if x:\n\ty = 1\n\n\n    z"),
        ("<pre><code>\n  first\n</code></pre>", "  first"),
        (
            "<p>a</p><ul>\n<li>b</li>\n<li>c\n<ol>\n<li>d</li>\n</ol></li>\n</ul>\n<p>e</p>",
            "a\n\n- b\n- c\n  1. d\n\ne",
        ),
        ("<ol start='9'><li>x</li><li><p>y</p><p>z</p></li></ol>", "9. x\n\n10. y\n\n    z"),
        ("<blockquote><p>a</p><p>b</p></blockquote><p>c</p>", "> a\n>\n> b\n\nc"),
        ("<blockquote><pre><code> a\n b</code></pre></blockquote>", ">  a\n>  b"),
        ("<ul><li><pre><code>  a</code></pre></li></ul>", "-\n  a"),
        ("<p>x<sup>2</sup>, x<sub>i</sub>, <sup>a small note</sup></p>", "x^2, x_i, a small note"),
        ("<p>cost $5\\,x &lt; y_1$ and $$a\n  b$$</p>", "cost $5\\,x < y_1$ and $$a\n  b$$"),
        ("<p><img src='x' alt='a cat'><img src='y' alt='Enter image description here'></p>", "a cat"),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td></td><td>2</td></tr></table>", "a | b\n| 2"),
        ("<h2>Head</h2><hr><p>text</p>", "Head\n\ntext"),
        ("<p>a<!-- begin snippet: js -->b</p>", "ab"),
        ("plain, and <b>bold", "plain, and bold"),
        ("<p>a\0\x07b&#1;\ud800c</p>", "abc"),
        ("", ""),
    ],
)
def test_html_becomes_plain_text(html, text):
    assert html_to_text(html) == text


def test_one_post_leaves_nothing_for_the_next():
    assert html_to_text("<ul><li><pre>a") == "-\na"
    assert html_to_text("<p>  b</p>") == "b"


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (b"&lt;p&gt;&#xA;&quot;&#39;&#x1F375;", "<p>\n\"'🍵"),
        (b"&amp;lt;&amp;#xA;&amp;amp;", "&lt;&#xA;&amp;"),  # unescaped once, not twice
        (b"&#x7FFFFF;", "\ufffd"),
    ],
)
def test_attributes_are_unescaped_once(escaped, text):
    assert unescape(escaped) == text


# --- rows of every kind ---


@pytest.mark.parametrize("nl", ["\n", "\r\n", "\n\t"])
def test_rows_come_in_any_order_and_form(tmp_path, nl):
    lines = [
        answer(5, 2, 1),
        "<row\n Body='&lt;p&gt;single \"quotes\"&lt;/p&gt;'\n PostTypeId='2' ParentId='1' Id='4'></row>",
        question(2),
        answer(3, 1, "-1"),
        question(1),
    ]
    found, account = documents(posts(tmp_path, *lines, nl=nl))
    assert [document.text for document in found.values()] == [
        'Q: Title 1\n\nBody 1\n\nA: single "quotes"\n\nA: Answer 3',
        "Q: Title 2\n\nBody 2\n\nA: Answer 5",
    ]
    assert account == Account(seen=2, kept=2)


def test_a_broken_row_costs_itself(tmp_path):
    lines = [
        question(1).replace('Id="1"', 'Id="1', 1),
        question(2).replace('Id="2"', 'Id="two"'),
        question(3).replace("/>", ""),
        row(Id=4, PostTypeId=2, Body="no parent"),
        row(Id=5, PostTypeId=2, ParentId=5, Body="its own parent"),
        "<rwo />",
        row(Id=6, PostTypeId=1, Body="x" * 2**21),
        question(7),
        answer(8, 7),
        question(9),
        answer(10, 9, "many"),
        row(Id=11, PostTypeId=1, Title=" "),
        answer(12, 11).replace("Answer", "").replace("12&lt;", "&lt;"),
    ]
    found, account = documents(posts(tmp_path, *lines))
    assert list(found) == ["a.example.com/7"]
    assert account.errors == {"malformed row": 7, "row over 1 MB": 1}
    assert account.dropped == {"no text": 1}


def test_what_is_no_text_in_utf8_costs_its_question(tmp_path):
    path = posts(tmp_path, question(1), answer(2, 1), question(3), answer(4, 3))
    path.write_bytes(path.read_bytes().replace(b"Answer 2", b"Answer \xff"))
    found, account = documents(path)
    assert list(found) == ["a.example.com/3"] and account.errors == {"malformed row": 1}


def test_repeated_ids_and_answers_that_came_alone_are_dropped(tmp_path):
    found, account = documents(
        posts(tmp_path, question(1), question(1), answer(2, 1), answer(2, 1), answer(3, 99)), unanswered=True
    )
    assert len(found) == 1
    assert account.dropped == {"repeated id": 2, "answer without its question": 1}


def test_unanswered_questions_are_kept_on_demand():
    assert "tea.stackexchange.com/12" not in documents(SAMPLES)[0]
    assert documents(SAMPLES, unanswered=True)[0]["tea.stackexchange.com/12"].text.endswith("their own hojicha?")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'<!DOCTYPE posts [<!ENTITY a "b">]><posts><row Id="1"/></posts>', "document type declared"),
        (b'<posts><!DOCTYPE a SYSTEM "file:///etc/passwd"></posts>', "document type declared"),
        (b"<html><body>503 Slow down</body></html>", "not a Posts.xml"),
        (b"<comments></comments>", "not a Posts.xml"),
        ("<posts></posts>".encode("utf-16"), "not a Posts.xml"),
        (b"", "not a Posts.xml"),
        (b"<posts>", "Posts.xml ends before its last row"),
        (b"\0" * 3_000_000, "not a Posts.xml"),
    ],
)
def test_what_is_no_posts_file_is_said(tmp_path, content, reason):
    (tmp_path / "a.example.com-Posts.xml").write_bytes(content)
    assert documents(tmp_path) == ({}, Account(seen=1, errors={reason: 1}))


def test_an_empty_dump_is_no_fault(tmp_path):
    assert documents(posts(tmp_path)) == ({}, Account())


# --- sites and paths ---


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("coffee.stackexchange.com/Posts.xml", "coffee.stackexchange.com"),
        ("x/es.stackoverflow.com-Posts.xml", "es.stackoverflow.com"),
        ("x/Some__name__Posts.xml", "some__name"),
    ],
)
def test_the_site_is_in_the_name(tmp_path, name, site):
    (tmp_path / name).parent.mkdir()
    posts(tmp_path, question(1), answer(2, 1), name=name)
    (document,) = documents(tmp_path)[0].values()
    assert document.id == f"stack_exchange/{site}/1"
    assert document.metadata["language"] == {"c": "en", "e": "es", "s": ""}[site[0]]
    assert documents(tmp_path, site="tex.stackexchange.com")[0].keys() == {"tex.stackexchange.com/1"}


def test_of_the_tables_of_stackoverflow_only_the_posts_are_read(tmp_path):
    for table in ("Badges", "Posts", "Votes"):
        (tmp_path / f"stackoverflow.com-{table}.7z").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    os.symlink(LOOPS, tmp_path / "Posts.xml")
    assert [name for name, _, _ in inputs([tmp_path], {})] == ["stackoverflow.com"]


def test_paths_that_hold_nothing_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list(read([tmp_path / "nowhere"]))
    with pytest.raises(ValueError, match=r"nothing to read in .*: looked for SITE\.7z or Posts\.xml"):
        list(read([tmp_path]))
    with pytest.raises(ValueError, match="none of the kinds read here by its name: SITE"):
        list(read([Path(__file__)]))
    with pytest.raises(ValueError, match="loops.stackexchange.com is there twice"):
        list(read([LOOPS, LOOPS]))


def test_the_largest_sites_are_counted(tmp_path):
    for name, count in (("small", 1), ("large", 30), ("middle", 9)):
        lines = [question(1), *(answer(i + 2, 1) for i in range(count))]
        posts(tmp_path, *lines, name=f"{name}.example.com-Posts.xml")
    found, account = documents(tmp_path, largest=2)
    assert list(found) == ["large.example.com/1", "middle.example.com/1"]
    assert account.dropped == {"site not among the largest": 1}


# --- archives ---


def archive(path: Path, *members: tuple[str, bytes], **more) -> Path:
    with py7zr.SevenZipFile(path, "w", **more) as file:
        for name, content in members:
            file.writestr(content, name)
    return path


@pytest.mark.parametrize(
    ("reason", "build"),
    [
        ("7z archive without a Posts.xml", lambda path: archive(path, ("Users.xml", b"<users/>"))),
        ("7z archive without a Posts.xml", lambda path: archive(path, ("old/Posts.xml", b"<posts></posts>"))),
        ("7z archive with more than one Posts.xml", lambda path: archive(path, *[("Posts.xml", b"<posts/>")] * 2)),
        ("encrypted 7z archive", lambda path: archive(path, ("Posts.xml", LOOPS.read_bytes()), password="p")),
        (
            "encrypted 7z archive",
            lambda path: archive(path, ("Posts.xml", b"<posts/>"), password="p", header_encryption=True),
        ),
        ("unpacks to too much", lambda path: archive(path, ("Posts.xml", b"<posts>" + b" " * 20_000_000))),
        ("broken 7z archive", lambda path: path.write_bytes(b"<html>not found</html>")),
        ("broken 7z archive", lambda path: path.write_bytes((SAMPLES / "tea.stackexchange.com.7z").read_bytes()[:900])),
    ],
)
def test_an_archive_that_cannot_be_read_is_one_error(tmp_path, reason, build):
    build(tmp_path / "a.example.com.7z")
    assert documents(tmp_path) == ({}, Account(seen=1, errors={reason: 1}))


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("<posts></posts>")
    (tmp_path / "Posts.xml").symlink_to(tmp_path / "secret")
    with py7zr.SevenZipFile(tmp_path / "a.example.com.7z", "w") as file:
        file.write(tmp_path / "Posts.xml", "Posts.xml")
    assert documents(tmp_path / "a.example.com.7z")[1].errors == {"7z archive without a Posts.xml": 1}


def spoilt(path: Path) -> Path:
    """A copy of the sample whose packed data, not its header, has a wrong byte."""
    data = bytearray((SAMPLES / "tea.stackexchange.com.7z").read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


def test_what_comes_before_a_break_in_an_archive_is_kept(tmp_path, no_tools):
    _, account = documents(spoilt(tmp_path / "a.example.com.7z"))
    assert account.errors["broken 7z archive"] == 1


@pytest.fixture
def no_tools(monkeypatch):
    monkeypatch.setattr("data_pipelines.dumps.stack_exchange_archive.TOOLS", {})


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A 7z of our own making, which takes the words that 7-Zip takes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "7z").write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from py7zr import SevenZipFile\n"
        "from py7zr.io import BytesIOFactory\n"
        "assert sys.argv[1:4] == ['x', '-so', '--'] and sys.argv[5:] == ['Posts.xml'], sys.argv\n"
        "factory = BytesIOFactory(10**8)\n"
        "try:\n"
        "    with SevenZipFile(sys.argv[4]) as file:\n"
        "        file.extract(targets=['Posts.xml'], factory=factory)\n"
        "finally:\n"
        "    for product in factory.products.values():\n"
        "        product.seek(0)\n"
        "        sys.stdout.buffer.write(product.read())\n"
    )
    (folder / "7z").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))


def test_a_tool_unpacks_into_a_pipe(tool, tmp_path):
    found, account = documents(SAMPLES)  # with py7zr alone: test_the_sample_becomes_these_documents
    assert list(found)[:2] == ["tea.stackexchange.com/1", "tea.stackexchange.com/8"] and account.kept == 4
    found, account = documents(spoilt(tmp_path / "a.example.com.7z"))
    assert account.errors["broken 7z archive"] == 1


def test_temporary_files_are_gone_in_every_case(tmp_path, monkeypatch, no_tools):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    spoilt(tmp_path / "a.example.com.7z")
    documents(tmp_path / "a.example.com.7z")
    started = read([many(tmp_path)], {"memory_mb": 0.01})
    next(started)
    assert not list((tmp_path / "tmp").iterdir())  # while it reads: those have no names
    started.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_room_to_unpack_is_no_fault_of_the_archive(monkeypatch, no_tools):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="tea.stackexchange.com.7z unpacks to 5,746 bytes"):
        list(read([SAMPLES]))


# --- bounded memory ---


def many(tmp_path) -> Path:
    """A dump of 300 questions after their answers, of some 80 kB."""
    return posts(tmp_path, *(answer(1000 + i, i) for i in range(300)), *(question(i) for i in range(300)))


def test_a_site_larger_than_memory_gives_the_same_documents(tmp_path):
    at_once, account = documents(many(tmp_path))
    in_parts, same = documents(many(tmp_path), memory_mb=0.01)
    assert in_parts == at_once and account == same
    assert len(at_once) == 300 and list(in_parts) != list(at_once)  # it did take another way


def test_memory_does_not_grow_with_the_site(tmp_path):
    def peak(questions: int) -> float:
        body = "&lt;p&gt;" + "word " * 300 + "&lt;/p&gt;"
        with open(tmp_path / "a.example.com-Posts.xml", "w") as file:
            file.write("<posts>\n")
            file.writelines(row(Id=i, PostTypeId=1, Body=body) + "\n" for i in range(questions))
            file.writelines(row(Id=10**6 + i, PostTypeId=2, ParentId=i, Body=body) + "\n" for i in range(questions))
            file.write("</posts>")
        code = (
            "import io, resource\n"
            "from data_pipelines.account import Account\n"
            "from data_pipelines.dumps.stack_exchange_posts import rows, threads\n"
            f"path = {str(tmp_path / 'a.example.com-Posts.xml')!r}\n"
            "import os; a = Account()\n"
            "n = sum(1 for _ in threads(rows(open(path, 'rb'), a), os.path.getsize(path), 10**6, a))\n"
            f"assert n == {questions}, n\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, cwd=ROOT, check=True)
        return float(done.stdout)

    small, large = peak(700), peak(7000)  # 2 MB, 20 MB
    assert large < small + 6


# --- hardening ---


def whole(data: bytes) -> Account:
    """All that happens to a Posts.xml, in this process."""
    account = Account()
    for question, answers in threads(rows(io.BytesIO(data), account), len(data), 10**6, account):
        result = thread(("a.example.com", question, answers))
        if isinstance(result, Failure):
            account.errors[result.reason] += 1
        elif result is None:
            account.dropped["no text"] += 1
        else:
            account.kept += 1
            for character in "\0\r\ud800":
                assert character not in result[1]
            (result[1] + json.dumps(result[2], ensure_ascii=False)).encode()
            assert result[1] == result[1].strip() and " \n" not in result[1]
    account.check()
    return account


WORDS = [b"<row ", b"/>", b'"', b"&#xA;", b"&lt;", b"&amp;", b"<!DOCTYPE ", b"</posts>", b' Id="1"', b"&#xD800;"]
TAGS = b"<pre> </pre> <ul> <li> <blockquote> <sup> </sup> <table><td> <!-- <![CDATA[ &#0; &#xD800; $$ <br> <a '".split()


def test_no_spoilt_posts_file_escapes():
    survive(whole, mutants([LOOPS.read_bytes()], words=WORDS))


def test_no_spoilt_body_escapes():
    bodies = [unescape(part.split(b'"')[0]) for part in LOOPS.read_bytes().split(b'Body="')[1:]]
    seeds = [body.encode() for body in bodies]
    survive(lambda data: html_to_text(data.decode(errors="replace")), mutants(seeds, words=TAGS))


def test_no_spoilt_archive_escapes(tmp_path):
    path, target = str(tmp_path / "a.7z"), str(tmp_path / "target")

    def parse(data: bytes) -> None:
        Path(path).write_bytes(data)
        size = posts_size(path)
        if isinstance(size, int):
            unpack((path, target, size))
            assert os.path.getsize(target) <= size

    survive(
        parse, mutants([(SAMPLES / "tea.stackexchange.com.7z").read_bytes()], words=[b"7z\xbc\xaf\x27\x1c", b"\xff"])
    )
    assert {file.name for file in tmp_path.iterdir()} <= {"a.7z", "target"}


def test_a_clipped_file_gives_what_was_there_and_an_error(tmp_path):
    data = LOOPS.read_bytes()
    whole_text, _ = documents(LOOPS)
    for end in range(0, len(data) - len("</posts>"), 97):
        (tmp_path / "loops.stackexchange.com-Posts.xml").write_bytes(data[:end])
        account = Account()
        with (tmp_path / "loops.stackexchange.com-Posts.xml").open("rb") as file:
            for raw, answers in threads(rows(file, account), 1, 10**6, account):
                account.dropped["read"] += 1
                id, text, _ = thread(("loops.stackexchange.com", raw, answers))
                parts = whole_text[f"loops.stackexchange.com/{id}"].text.split("\n\nA: ")
                assert [part for part in parts if part in text.split("\n\nA: ")] == text.split("\n\nA: ")
        account.check()
        assert account.errors.total() == 1, (end, account)


@pytest.mark.parametrize(
    "html",
    [
        *("<div>" * 200_000, "<ul><li>" * 50_000 + "x", "<blockquote>" * 300 + "a<br>" * 50_000, "<sup>" * 100_000),
        *("<!--" * 100_000, '<a "' * 200_000, "$$" * 300_000, "<pre>" + "\n" * 300_000, "<p><a>" * 50_000),
    ],
    ids=lambda html: html[:20],
)
def test_hostile_html_stays_small_and_fast(html):
    survive(lambda data: html_to_text(data.decode()), iter([html.encode()]))
    assert len(html_to_text(html)) <= 10 * len(html)


# --- real dumps ---


@real
def test_the_real_dumps_are_read_as_another_parser_counts_them():
    found, account = documents(REAL, workers=2)
    per_site: dict[str, int] = {}
    for document in found.values():
        per_site[document.metadata["site"]] = per_site.get(document.metadata["site"], 0) + 1
    assert per_site == {
        "beer.stackexchange.com": 644,
        "coffee.stackexchange.com": 212,
        "stat4decision__python-avr2017": 87,
        "stevenrskelton__scala-2.10-blog-examples": 201,
    }
    # beer: 58 tag wikis, 58 excerpts, 3 of type 7; coffee: 20 and 20; mathoverflow's: 13 and 13
    assert account.dropped == {
        "neither question nor answer": 58 + 58 + 3 + 20 + 20 + 13 + 13,
        "question without answers": (663 - 644) + (225 - 212) + (95 - 87) + (254 - 201),
    }
    assert not account.errors
    assert sum(len(document.metadata["answers"]) for document in found.values()) == 1572 + 327 + 152 + 392
    beer = found["beer.stackexchange.com/8"].metadata
    assert beer["title"] == "What is the difference between an ale and a lager?"
    assert beer["tags"] == ["brewing", "ale", "lager"]
    assert (beer["answers"], beer["accepted"]) == ([18, 398, 406, 17, 24, 978], 18)
    assert beer["answer_scores"] == [36, 15, 10, 5, 3, 1]
    coffee = found["coffee.stackexchange.com/1"]
    assert coffee.metadata["answers"] == [24, 1617, 1618] and coffee.metadata["answer_scores"] == [15, 2, 2]
    assert coffee.text.startswith(
        "Q: How should I store whole bean coffee?\n\n"
        "I just got a pound of microroasted, local coffee and am curious what the optimal way to store it is "
        "(what temperature, humidity, etc)\n\nA: "
    )
    as_strings = sum(
        scores != sorted(scores, key=str, reverse=True)
        for document in found.values()
        for scores in [document.metadata["answer_scores"]]
    )
    assert as_strings == 72 + 19 + 6 + 30  # of 610 questions with two answers or more, so many would be out of order


@real
def test_no_markup_is_left_in_the_real_dumps():
    found, _ = documents(REAL, workers=2)
    tags = ("<p>", "</p>", "<a href", "<code>", "<li>", "</blockquote>", "<strong>", "&amp;", "&quot;", "&#xA;")
    # one question is about the paragraph tags it sees, and says so
    assert {id for id, d in found.items() if any(tag in d.text for tag in tags)} == {
        "stevenrskelton__scala-2.10-blog-examples/225"
    }


def test_importing_the_source_imports_no_parser(root):
    code = "import sys, data_pipelines.sources.stack_exchange; print({'lxml', 'py7zr', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=root)
    assert done.stdout == "set()\n", done.stderr


def test_the_defaults_are_documented():
    for name in stack_exchange.DEFAULTS:
        assert f"`{name}`" in (stack_exchange.read.__doc__ or "")
