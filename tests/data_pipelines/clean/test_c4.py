"""C4's rules: each by a literal page, and all beside datatrove's filter on real text."""

import random

import pytest
from datatrove.data import Document

from data_pipelines.clean.c4 import (
    bad_word_rule,
    clean_page,
    drop_seen_lines,
    drop_seen_spans,
    has_sentences,
)
from data_pipelines.clean.seen import Seen
from data_pipelines.clean.sentences import split_sentences
from tests.data_pipelines.fuzz import mutants, survive

GOOD = ["The tide goes out twice a day.", "What it leaves behind is ours!", "Does anybody want to come along?"]


def page(*lines: str) -> str:
    return "\n".join([*GOOD, *lines])


@pytest.mark.parametrize(
    "line",
    [
        "Home | About us | Contact all of us",
        "This line of text simply has no end",
        "And then there was nothing more to read...",
        "Too few words here.",
        "Please enable JavaScript to see this map.",
        "By reading on you accept our Terms of Use.",
        "Our privacy policy has changed since last year.",
        "Our cookie policy has changed since last year.",
        "This site uses cookies, as all sites do.",
        "We make use of cookies to count you.",
        "We use cookies to find out who you are.",
        "A word of data: " + "x" * 1001 + " stands in this line.",
        "   ",
    ],
)
def test_a_line_goes(line):
    assert clean_page(page(line)) == ("\n".join(GOOD), "")
    assert clean_page("\n".join([line, *GOOD])) == ("\n".join(GOOD), "")


@pytest.mark.parametrize(
    "line",
    [
        "Just five words are enough.",
        'And he called it "the end of it all"',
        "A word of data: " + "x" * 1000 + " stands in this line.",
        "Scripts of Java are what we read in the evening.",
        "The terms that we use are those of the field.",
    ],
)
def test_a_line_stays(line):
    assert clean_page(page(line)) == (page(line), "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here is Lorem Ipsum for your new page.", "lorem ipsum"),
        ("The function looks like { return 1 } here.", "curly bracket"),
        ("A long page. " * 15_000, "longer than 190,000 characters"),
    ],
)
def test_a_page_goes(line, reason):
    assert clean_page(page(line)) == ("", reason)


def test_what_condemns_a_page_does_so_only_in_lines_that_would_stay():
    assert (
        clean_page(page("function() { return 1; }", "Lorem ipsum", "javascript { in the same line as this."))[1] == ""
    )


def test_citations_go_and_what_they_leave_is_no_blank_at_the_end():
    cited = page("Limpets come home to their scar.[12] [edit]", "They graze on weed[citation needed] at night, always.")
    assert clean_page(cited)[0].splitlines()[3:] == [
        "Limpets come home to their scar.",
        "They graze on weed at night, always.",
    ]
    assert clean_page(page("Limpets [sic] come home to their [a] scar."))[0].endswith(
        "[sic] come home to their [a] scar."
    )


def test_a_citation_does_not_hide_a_word():
    assert clean_page(page("Turn on java[1]script to see all of it."))[0] == "\n".join(GOOD)


@pytest.mark.parametrize(
    ("text", "enough"),
    [
        ("\n".join(GOOD), True),
        ("\n".join(GOOD[:2]), False),
        (" ".join(GOOD), True),  # on one line too
        ("Mr. J. Smith met Dr. Who in Mt. Pleasant. They talked for a while.", False),
        ("", False),
    ],
)
def test_a_page_needs_three_sentences(text, enough):
    assert clean_page(text) == ((text, "") if enough else ("", "too few sentences"))


def test_the_numbers_of_the_papers_first_version_can_be_had():
    text = "\n".join(["Three words now."] * 5)
    assert clean_page(text, min_words=3, min_sentences=5) == (text, "")
    assert clean_page(text, min_words=4, min_sentences=5)[1] == clean_page(text, 3, 6)[1] == "too few sentences"


def test_has_sentences_counts_as_splitting_does():
    chance = random.Random(0)
    parts = ["Mr. Pell came.", "Why?", "It was 5 p.m. and dark", "Wait...", "So! (I said.)"]
    for _ in range(300):
        lines = [" ".join(chance.choices(parts, k=chance.randrange(1, 4))) for _ in range(chance.randrange(4))]
        count = sum(len(split_sentences(line)) for line in lines)
        assert all(has_sentences(lines, least) == (count >= least) for least in range(1, 8))


def test_bad_words_count_only_alone_and_in_any_case():
    is_bad = bad_word_rule(["grumblefrock\n", "silly goose\n", "\n", "C++ers", "b.a.d"])
    assert (
        is_bad("You GRUMBLEFROCK!") and is_bad("grumblefrock") and is_bad("a (silly goose)") and is_bad("Those c++ers.")
    )
    assert is_bad("silly\nno, silly goose\n") and is_bad("b.a.d")
    for fine in ("grumblefrocks", "silly", "a silly gooseberry", "goose silly", "bxaxd", "", "unsilly goose"):
        assert not is_bad(fine)


def test_repeated_spans_of_three_sentences_go_and_one_copy_stays():
    seen = Seen(1)
    first = "One is here. Two is here. Three is here.\nFour is here."
    assert drop_seen_spans(first, seen) == first
    assert (
        drop_seen_spans("New line. ONE is here. Two is here.\nThree is here. And more.", seen) == "New line.\nAnd more."
    )
    assert drop_seen_spans("One is here. Two is here. Another end.", seen) == "One is here. Two is here. Another end."
    assert drop_seen_spans(first, seen) == ""  # the last page's own copy would have gone, had it been longer


def test_repeated_lines_go_and_one_copy_stays():
    seen = Seen(1)
    assert drop_seen_lines("Sign up now!\nText.\nSign up now!", seen) == "Sign up now!\nText."
    assert drop_seen_lines("SIGN UP NOW!\nOther text.", seen) == "Other text."


def datatrove_cleans(text: str, monkeypatch) -> str:
    """datatrove's filter with the code's numbers; its sentence splitter needs a model, so it gets ours."""
    from datatrove.pipeline.filters import c4_filters

    monkeypatch.setattr(c4_filters, "split_into_sentences", lambda line, language: split_sentences(line))
    document = Document(text=text, id="0")
    verdict = c4_filters.C4QualityFilter(min_num_sentences=3, min_words_per_line=5).filter(document)
    return document.text if verdict is True else ""


def web_pages(count: int) -> list[str]:
    """Pages put together from lines that each rule has an opinion on."""
    lines = [*GOOD, "Home", "No end here", "", "Uses cookies, this page of ours does.", "A { in a line that stays here.",
             "See [1] what [edit] he wrote about it[citation needed].", "Javascript is what you need for this.", "a b c d.",
             "Lorem ipsum is what this page says.", "Dots at the end of it...", "w" * 1001 + " is a long word here.",
             "Dr. No met J. R. Ewing. They talked.", "  blanks before and after all this.  ", "lorem ipsum {"]  # fmt: skip
    chance = random.Random(0)
    return [
        "\n".join(chance.choices(lines, [8] * 3 + [2] * 4 + [1] * (len(lines) - 7), k=chance.randrange(1, 12)))
        for _ in range(count)
    ]


def test_datatrove_keeps_the_same_lines(monkeypatch):
    kept = 0
    for text in web_pages(2000):
        ours = clean_page(text)[0]
        assert ours == datatrove_cleans(text, monkeypatch)
        kept += bool(ours)
    assert 300 < kept < 1700


def test_where_datatrove_differs_and_why(monkeypatch):
    # ' ends no line in the authors' code; datatrove takes it for an end mark.
    quoted = page("And so he called it 'the end of it all'")
    assert (clean_page(quoted)[0], datatrove_cleans(quoted, monkeypatch)) == ("\n".join(GOOD), quoted)
    # The authors count words when citations are gone, datatrove before.
    cited = page("Not enough words [1] .")
    assert clean_page(cited)[0] == "\n".join(GOOD) and datatrove_cleans(cited, monkeypatch).endswith("words  .")
    # A blank that a citation leaves behind makes the line end in no end mark, in the authors' code and in datatrove's.
    noted = page("It comes home to the same scar. [3]")
    assert clean_page(noted)[0].endswith("scar.") and datatrove_cleans(noted, monkeypatch) == "\n".join(GOOD)


def test_spoilt_pages_are_judged_and_nothing_else_happens():
    seeds = [text.encode() for text in web_pages(50)]
    words = [
        b"[",
        b"[1",
        b"[edit]",
        b"{",
        b".",
        b"...",
        b'"',
        b"\xe2\x80\xa8",
        b"\r",
        b"javascript",
        b"Mr. ",
        b"x" * 900,
        b"\xc4\xb0",
    ]
    seen, is_bad = Seen(1), bad_word_rule(["grumblefrock", "silly goose"])

    def judge(data: bytes) -> None:
        text = data.decode(errors="surrogateescape")
        left, reason = clean_page(text)
        assert bool(left) != bool(reason)
        is_bad(left)
        drop_seen_lines(left, seen)
        drop_seen_spans(left, seen)

    survive(judge, mutants(seeds, words=words))
