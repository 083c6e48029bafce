"""Wrapped lines become paragraphs; verse, tables, titles stay; credits, notes and page numbers go."""

import textwrap

import pytest

from data_pipelines.text.gutenberg_paragraphs import drop_foreign, is_prose, join, paragraphs, split_blocks

PROSE = (
    "It was the custom of the house that whoever came down last to breakfast should read the newspaper aloud to the "
    "others, and since nobody liked the newspaper, nobody was ever late; until the morning when Uncle George did not "
    "come down at all, and they sat, with the paper folded in the middle of the table, looking at one another."
)
SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:"""


def text_of(text: str) -> str:
    return "\n\n".join(paragraphs(drop_foreign(split_blocks(text.split("\n")))))


@pytest.mark.parametrize("width", [58, 65, 70, 75, 79])
def test_prose_is_joined_at_any_width_it_was_wrapped_at(width):
    wrapped = textwrap.fill(PROSE, width)
    assert text_of(f"{wrapped}\n\n{wrapped}") == f"{PROSE}\n\n{PROSE}"


@pytest.mark.parametrize("indent", ["  ", "     ", "          "])
def test_indented_prose_is_joined(indent):
    letter = textwrap.fill(PROSE, 72, initial_indent=indent, subsequent_indent=indent)
    assert text_of(f"{textwrap.fill(PROSE, 72)}\n\n{letter}") == f"{PROSE}\n\n{PROSE}"


def test_verse_keeps_its_lines_and_the_indents_that_differ():
    assert text_of(SONNET) == SONNET
    indented = textwrap.indent("The wind that blew on Monday,\n  It blew the clouds away;", "    ")
    assert text_of(f"{textwrap.fill(PROSE, 70)}\n\n{indented}").endswith(
        "\n\nThe wind that blew on Monday,\n  It blew the clouds away;"
    )
    tercet = (
        "  Nel mezzo del cammin di nostra vita\n  mi ritrovai per una selva oscura,\n  ché la diritta via era smarrita."
    )
    assert text_of("\n\n".join([tercet] * 9)).split("\n\n")[8] == textwrap.dedent(tercet)


def test_tables_titles_and_lists_keep_their_lines():
    table = "Corn            Weight         Price\nWheat           60 lb.         5s. 4d."
    title = "HARD TIMES\nBY CHARLES DICKENS"
    contents = "I.      I Am Born\nII.     I Observe\nIII.    I Have a Change"
    text = "\n\n".join([textwrap.fill(PROSE, 72)] * 5 + [table, title, contents])
    assert text_of(text).endswith(f"\n\n{table}\n\n{title}\n\n{contents}")


def test_the_rule_is_the_next_word_and_not_the_length():
    lines = ["a" * 50, "b" * 25 + " and so on, for as long as there is", "something"]
    assert is_prose(lines, 60)  # the long word would not have fitted on the first line
    assert not is_prose(
        ["a short line,", "b" * 8 + " and so on, for as long as there is", "something to say of it"], 60
    )


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["she came down to-", "day with it"], "she came down to-day with it"),
        (["he laughed--", "and left"], "he laughed--and left"),
        (["he laughed", "--and left"], "he laughed--and left"),
        (["he laughed --", "and left"], "he laughed -- and left"),
        (["he laughed—", "and left"], "he laughed—and left"),
        (["nach der Park-", "und Gartenseite"], "nach der Park- und Gartenseite"),
        (["the end.  A new", "sentence"], "the end. A new sentence"),
        (["1801-", "1805 were"], "1801- 1805 were"),
    ],
)
def test_how_two_lines_become_one(lines, joined):
    assert join(lines) == joined


def test_signs_of_the_transcriber_go_and_words_stay():
    pictures = "[Illustration]\n\n[Illustration: The _mill_\nat dawn.]\n\n"
    assert (
        text_of(pictures + "It was =very= still, said snake_case_name.[1]\n\n_All_ of _it is\nlost_.")
        == "The mill\nat dawn.\n\nIt was very still, said snake_case_name.[1]\n\nAll of it is\nlost."
    )
    assert (
        text_of("[Illustration: Fig. 1.\n\nFrom a photograph.]\n\nIt was [1].")
        == "Fig. 1.\n\nFrom a photograph.\n\nIt was [1]."
    )
    assert text_of("a_b and __init__ and ______") == "a_b and __init__ and ______"


def test_page_numbers_go_and_the_paragraph_goes_on():
    assert text_of("it was cool and\n\n[Pg 12]\n\ndark inside.") == "it was cool and\ndark inside."
    assert text_of("It was[Pg 12] cool {p. 13}inside the inter[Page 14]national mill.") == (
        "It was cool inside the international mill."
    )
    assert text_of("One.\n\n[Page 7]\n\nTwo.") == "One.\n\nTwo."
    pages = "\n\n".join(f"The {word} page.{{{i}}}" for i, word in enumerate(("first", "second", "third", "last"), 1))
    assert "{" not in text_of(pages)
    notes = "\n\n".join(f"A word{{{i}}}.\n\n{{{i}}} Its note." for i in (1, 2, 3))
    assert text_of(notes).count("{2}") == 2


@pytest.mark.parametrize(
    "foreign",
    [
        "Produced by Two Volunteers and the Online Distributed\nProofreading Team at http://www.pgdp.net",
        "This eBook was produced by David Widger",
        "E-text prepared by Chuck Greif",
        "Transcribed from the 1908 Longmans, Green, and Co. edition by David\nPrice",
        "This etext was created by Judith Boss, of Omaha, Nebraska, from the\n1896 edition",
        'Dieses Buch wurde uns freundlicherweise vom "Gutenberg Projekt-DE"\nzur Verfuegung gestellt.',
        "[Transcriber's Note: The spelling was kept.\n\nSo were the commas.]",
        "Special thanks are due to Sharon Partridge for extensive\nproofreading and correction of this etext.",
        "A German translation is available from Project\nGutenberg.",
        "NOTE DEL TRASCRITTORE\n\n -Testo in corsivo: _testo_\n\n",
        "Au lecteur.\n\n  Le texte en italiques est indiqué comme _italiques_.\n\n  Voir la fin.\n\n",
        "Transcriber’s Notes:\n\nPage 12: “flower” was changed.\n\nPage 13: a stop.\n\n",
    ],
)
def test_what_is_not_the_authors_goes(foreign):
    assert text_of(f"{foreign}\n\n\n\nCHAPTER I\n\nIt began.") == "CHAPTER I\n\nIt began."


def test_what_is_the_authors_stays():
    own = (
        "Johann Gutenberg printed it.\n\nThe transcriber's hand was steady.\n\nTranslated by W. K. Marriott\n\nProduce."
    )
    assert text_of(own) == own
    act = (
        "Entered according to Act of Congress, in the year 1868,\nby A. Writer, in the Clerk's Office of the District."
    )
    assert text_of(act) == act
    preface = "Au lecteur.\n\nC'est icy un livre de bonne foy, lecteur."
    assert text_of(preface) == preface
    late = "\n\n".join(["A line."] * 20 + ["Produced by the heat, by and by, a haze lay over it."])
    assert text_of(late) == late


def test_a_note_ends_where_the_book_goes_on():
    assert text_of("Transcriber's Note\n\nOne.\n\nTwo.\n\n\nCHAPTER I\n\nIt began.") == "CHAPTER I\n\nIt began."
    assert text_of("Transcriber's Note\n\n\nOne.\n\n\n\nCHAPTER I\n\nIt began.") == "CHAPTER I\n\nIt began."
    story = "\n\n".join(["It began."] * 40)
    assert text_of(f"Transcriber's Note: A word.\n\n{story}") == story  # nothing says where it ends: it is one block
    assert text_of(f"{story}\n\n\n\nTranscriber's Notes:\n\nOne.\n\nTwo.") == story  # to the end
    corrected = "Au lecteur.\n\nSeules quelques erreurs typographiques ont été corrigées.\n\nPage 9: «niet»."
    assert text_of(f"{story}\n\n\n* * *\n\n\n{corrected}") == story  # and so does the rule above it
    assert text_of(f"[Transcriber's Note: One.\n\n{story}") == story  # nor does a bracket that is never closed
