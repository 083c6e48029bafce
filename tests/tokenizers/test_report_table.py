"""The tokenizer report for people: the table and the picture."""

import warnings

import pytest

from llama_train.tokenizers import report, report_table
from llama_train.tokenizers.report import label, measure
from llama_train.tokenizers.report_picture import draw
from llama_train.tokenizers.report_table import sections, table
from tests.tokenizers.test_report import HAND, Every, Text


def rows_of(ratios, names=("a", "b"), source="web"):
    """Rows for languages with the given tokens for 1,000 characters or 200 words, a number for each tokenizer."""
    texts = [Text("word " * 200, language, source) for language in ratios]

    class Fixed:
        def __init__(self, i):
            self.i = i

        def encode_batch(self, batch):
            return [range(ratios[document.language][self.i]) for document in texts][: len(batch)]

    return measure({name: Fixed(i) for i, name in enumerate(names)}, texts, progress=False)


def test_the_table_says_it_all_and_gains_lead():
    assert table(rows_of({"de": (400, 320), "en": (250, 250), "sw": (500, 250)})).splitlines() == [
        "                             chars/token  bytes/token  tokens/word  gain over a",
        "          documents    text      a     b      a     b      a     b            b",
        "language",
        "  sw              1  1.0 kB   2.00  4.00   2.00  4.00   2.50  1.25      +100.0%",
        "  de              1  1.0 kB   2.50  3.12   2.50  3.12   2.00  1.60       +25.0%",
        "  en              1  1.0 kB   4.00  4.00   4.00  4.00   1.25  1.25        +0.0%",
        "all",
        "  all             3  3.0 kB   2.61  3.66   2.61  3.66   1.92  1.37       +40.2%",
    ]


def test_one_tokenizer_has_no_gain_and_the_best_language_leads():
    text = table(rows_of({"de": (400,), "en": (250,)}, names=["a"]))
    assert "gain" not in text and "%" not in text
    assert text.index("  en") < text.index("  de")


def test_sections_are_shown_where_they_tell_something():
    def titles(documents):
        return [title for title, _ in sections(measure({"a": Every(3)}, documents, progress=False))]

    assert titles([Text("x")]) == ["all"]
    assert titles([Text("x"), Text("x", "de")]) == ["language", "all"]
    assert titles([Text("x"), Text("x", "de", "books")]) == ["language", "source", "all"]
    assert titles(HAND) == ["language", "source", "language, source", "all"]


def test_four_tokenizers_with_long_names_and_twenty_languages_fit_into_120_columns():
    names = ["/models/meta/Llama-2-7b-hf/original", "Llama-3.2-1B-Instruct", "ours-128k-multilingual", "ours-32k"]
    languages = [f"{a}{b}" for a in "abcd" for b in "fghij"]
    text = table(rows_of(dict.fromkeys(languages, (400, 320, 333, 777)), names=names))
    assert max(map(len, text.splitlines())) <= report_table.MAX_WIDTH
    assert text.startswith("A: /models/met…-hf/original\nB: Llama-3.2-1B-Instruct\n")


@pytest.mark.parametrize(
    ("characters", "size"), [(1, "1 B"), (999, "999 B"), (1000, "1.0 kB"), (70_783, "70.8 kB"), (2_832_007, "2.8 MB")]
)
def test_sizes_are_in_decimal_units(characters, size):
    assert size in table(measure({"a": Every(3)}, [Text("x" * characters)], progress=False))


def test_labels_cannot_drive_a_terminal():
    rows = measure({"a": Every(3)}, [Text("x", "\x1b[31mred", "a\nb"), Text("x", "\u202eevil")], progress=False)
    assert all(sign.isprintable() for line in table(rows).split("\n") for sign in line)
    assert len(label("x" * 1000)) == report.MAX_LABEL


def test_a_picture_is_drawn_of_many_languages_tokenizers_and_any_label(tmp_path):
    pytest.importorskip("matplotlib")
    languages = ["日本語", "$x^$", "русский", "", *(f"l{i}" for i in range(16))]
    rows = rows_of(dict.fromkeys(languages, (400, 320, 500, 290)), ("a", "b_$", "丙", "d"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph missing from the font is a warning
        draw(rows, tmp_path / "new" / "picture.png")
        draw(measure({"a": Every(3)}, [HAND[2]], progress=False), tmp_path / "no-words.png")
    height, width = (int.from_bytes((tmp_path / "new" / "picture.png").read_bytes()[i : i + 4]) for i in (20, 16))
    assert 1000 < height < 1600 and width == 1800
    first = (tmp_path / "new" / "picture.png").read_bytes()
    draw(rows, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == first
