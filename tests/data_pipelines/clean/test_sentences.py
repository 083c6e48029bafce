"""Where sentences end, by expectations written by hand."""

import pytest

from data_pipelines.clean.sentences import split_sentences


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Pell met Dr. J. Smith of the U.S. Navy. Why?", ["Mr. Pell met Dr. J. Smith of the U.S. Navy.", "Why?"]),
        ("It costs $3.50 at www.example.org today.", ["It costs $3.50 at www.example.org today."]),
        ('"Stop!" he said. "Why?" She left.', ['"Stop!" he said.', '"Why?"', "She left."]),
        ("So it was (at least for me.) Then it ended.", ["So it was (at least for me.)", "Then it ended."]),
        ("Wait... what did you say? Nothing... At all?!", ["Wait... what did you say?", "Nothing...", "At all?!"]),
        ("We use tools, e.g. a saw. In fig. 3 it is shown.", ["We use tools, e.g. a saw.", "In fig. 3 it is shown."]),
        ("He said no. So did I. We agreed.", ["He said no.", "So did I.", "We agreed."]),
        ("Two  blanks.  Then more.   but not here.", ["Two  blanks.", "Then more.   but not here."]),
        ("Émile came. Årets slut. 12 people left.", ["Émile came.", "Årets slut.", "12 people left."]),
        ("", []),
        ("   ", []),
        ("...", ["..."]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_would_say(line, sentences):
    assert split_sentences(line) == sentences


def test_no_character_but_blanks_is_lost():
    line = "“Is it?” asked Prof. Lund.  It was! (Perhaps...) 5 p.m. came. and went"
    assert "".join("".join(split_sentences(line)).split()) == "".join(line.split())


@pytest.mark.parametrize(
    "line", ["." * 10**6, ". " * 10**6, "." + '"' * 10**6, " " * 10**6 + "." + " " * 10**6 + "a", "a.A" * 10**6]
)
def test_a_million_marks_take_linear_time(line):
    assert split_sentences(line) is not None  # with time squared this would not end
