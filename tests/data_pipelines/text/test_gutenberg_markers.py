"""Headers and licences of every generation of Project Gutenberg, taken off; nothing of a body taken with them."""

import pytest

from data_pipelines.text.gutenberg_markers import field, has_licence, take_apart

LICENCE = ["Small Print! Read this.", "", "Project Gutenberg Literary Archive Foundation", "", "indemnify and hold"]


def body_of(text: str) -> str:
    parts = take_apart(text.split("\n"))
    assert parts is not None
    return "\n".join(line for line in parts.body if line)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***", "*** END OF THIS PROJECT GUTENBERG EBOOK EMMA ***"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***", "*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***"),
        ("***START OF THE PROJECT GUTENBERG EBOOK EMMA***", "***END OF THE PROJECT GUTENBERG EBOOK EMMA***"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK, EMMA ***", "End of Project Gutenberg's Emma, by Jane Austen"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA\nAND OTHER TALES ***", "End of the Project Gutenberg EBook of\nEmma"),
        ("*** START OF THIS PROJECT GUTENBERG E-TEXT EMMA ***", "End of The Project Gutenberg Etext of Emma"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of Project Gutenberg Etext of Emma"),
        ("*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*", "This is the end of the Project Gutenberg Etext"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*\nVer.04.29.93*END*", "Ende dieses Projekt Gutenberg Etextes"),
        ("*END* THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "Fin de cette édition de Projet Gutenberg"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***", "End of Project Gutenberg’s Emma"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***", "Einde van dit Project Gutenberg boek"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***", "*** START: FULL LICENSE ***"),
    ],
)  # fmt: skip
def test_every_generation_of_markers(before, after):
    text = "\n".join(["Project Gutenberg's Emma", *LICENCE, "", before, "", "I", "", "The end.", "", after, *LICENCE])
    assert body_of(text) == "I\nThe end."


def test_a_header_of_today():
    text = """The Project Gutenberg eBook of Emma\n
This ebook is for the use of anyone anywhere in the United States and\n
Title: Emma\n\nAuthor: Jane Austen\n\nRelease date: August 1, 1994 [eBook #158]
                Most recently updated: January 21, 2024\n\nLanguage: English\n\nCredits: Somebody\n\n
*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\n\nEMMA\n\n*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***\n
Updated editions will replace the previous one--the old editions will\nbe renamed."""
    parts = take_apart(text.split("\n"))
    assert parts is not None and [line for line in parts.body if line] == ["EMMA"]
    assert (
        field(parts.header, "release date").startswith("August 1, 1994")
        and field(parts.header, "author") == "Jane Austen"
    )


def test_the_licence_at_the_end_of_2002_is_no_body():
    text = """*** START OF THE PROJECT GUTENBERG EBOOK, EMMA ***\nBody.\n*** END OF THE PROJECT GUTENBERG EBOOK, EMMA ***
***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN EBOOKS**START***\nterms\n
*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"""
    assert body_of(text) == "Body."


def test_a_new_header_around_an_old_one():
    text = """*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***\nProject Gutenberg Etext of Emma
***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nterms
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\nBody.\nEnd of Project Gutenberg's Emma"""
    assert body_of(text) == "Body."


def test_a_file_of_several_books_keeps_the_bodies_of_all():
    book = "PROJECT GUTENBERG EBOOK {0} ***\n"
    one = f"*** START OF THIS {book}Body of {{0}}.\n*** END OF THIS {book}terms\n"
    assert body_of(one.format("ONE") + one.format("TWO")) == "Body of ONE.\nBody of TWO."


def test_a_file_without_header_is_all_body_and_one_whose_header_does_not_end_is_refused():
    assert body_of("I\nIt was a dark night.\nEnd of Project Gutenberg's Night") == "I\nIt was a dark night."
    assert take_apart("The Project Gutenberg EBook of Night\n\nIt was dark.".split("\n")) is None
    assert take_apart([*LICENCE, "It was dark."]) is None


def test_a_start_without_an_end_is_clipped():
    parts = take_apart("*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***\n\nBody and".split("\n"))
    assert parts is not None and parts.clipped and parts.body == ["", "Body and"]
    old = take_apart("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\nBody.".split("\n"))
    assert old is not None and not old.clipped  # they did not always say where they end


@pytest.mark.parametrize(
    "line", ["The end of the project was near.", "*** END ***", "Gutenberg printed here.", "FINIS"]
)
def test_words_of_a_body_end_nothing(line):
    text = f"*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***\n{line}\nMore.\n*** END OF THIS PROJECT GUTENBERG EBOOK EMMA ***"
    assert body_of(text) == f"{line}\nMore."


def test_a_licence_left_in_a_body_is_seen():
    assert has_licence([["the Project Gutenberg-tm", "License"], ["You agree to indemnify and", "hold the Foundation"]])
    assert not has_licence([["She asked for a replacement or refund."], ["He said no."]])


def test_fields_have_continuation_lines():
    header = ["Title: News from Nowhere", "       or An Epoch of Rest", "", "Author: William Morris"]
    assert field(header, "title") == "News from Nowhere or An Epoch of Rest"
    assert field(header, "author") == "William Morris" and field(header, "language") == ""
