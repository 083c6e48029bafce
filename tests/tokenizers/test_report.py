"""The tokenizer report's numbers: ratios counted by hand, groups and totals, what cannot be reported."""

import json
import random
import tracemalloc
from typing import NamedTuple

import pytest

from llama_train.tokenizers import batches, report
from llama_train.tokenizers.report import Row, count_words, measure, to_json


class Text(NamedTuple):
    text: str
    language: str = "en"
    source: str = "web"


class Every:
    """A token for every `size` characters or part of them."""

    def __init__(self, size):
        self.size, self.batches = size, []

    def encode_batch(self, texts):
        self.batches.append(len(texts))
        return [range(-(-len(text) // self.size)) for text in texts]


def one(rows, tokenizer, language, source):
    (row,) = [row for row in rows if (row.tokenizer, row.language, row.source) == (tokenizer, language, source)]
    return row


HAND = [
    Text("It's 3.5 °C.\n\n Ok"),  # 17 characters, 18 bytes, 4 words
    Text("Füße, Straße", "de"),  # 12 characters, 15 bytes, 2 words
    Text("東京は日本", "ja", "wiki"),  # 5 characters, 15 bytes, no words
    Text("the API of 東", "en", "wiki"),  # 12 characters, 14 bytes, 4 words: a twelfth is Chinese
]


def test_the_ratios_are_those_counted_by_hand():
    rows = measure({"a": Every(1), "b": Every(4)}, HAND, progress=False)
    english = one(rows, "b", "en", "web")
    assert english == Row("b", "en", "web", documents=1, characters=17, bytes=18, words=4, tokens=5, tokens_of_words=5)
    assert (english.characters_per_token, english.bytes_per_token, english.tokens_per_word) == (17 / 5, 18 / 5, 5 / 4)
    german = one(rows, "a", "de", "web")
    assert (german.characters_per_token, german.bytes_per_token, german.tokens_per_word) == (1, 15 / 12, 6)


def test_japanese_has_no_tokens_per_word_and_does_not_enter_the_totals_of_others():
    rows = measure({"a": Every(1)}, HAND, progress=False)
    japanese, everything = one(rows, "a", "ja", "wiki"), one(rows, "a", None, None)
    assert japanese.tokens_per_word is None and japanese.tokens == 5
    assert everything.tokens == 17 + 12 + 5 + 12
    assert everything.tokens_per_word == (17 + 12 + 12) / (4 + 2 + 4)
    assert everything.tokens_per_word != everything.tokens / everything.words  # what leaving Japanese in would give


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        (" \n\t ", 0),
        ("don't stop - now!", 4),
        ("a\u00a0b\u3000c\u2028d", 4),
        ("हिन्दी में पाठ", 3),  # vowel signs are no letters to Python's \w: by it these would be seven
        ("मराठी", 1),
        ("한국어 문장", 2),
        ("สวัสดีชาวโลก ครับ", 0),
        ("ພາສາລາວ", 0),
        ("မြန်မာဘာသာ", 0),
        ("ភាសាខ្មែរ", 0),
        ("བོད་སྐད་", 0),
        ("カタカナ", 0),
        ("ｶﾀｶﾅ", 0),
        ("汉字", 0),
        ("𠀀𠀁", 0),
        ("Москва слезам не верит", 4),
        ("مرحبا بالعالم", 2),
    ],
)
def test_words_are_what_stands_between_spaces_in_scripts_that_have_them(text, words):
    assert count_words(text) == words


def test_every_language_source_and_total_has_a_row_for_each_tokenizer_in_a_fixed_order():
    rows = measure({"b": Every(1), "a": Every(2)}, HAND, progress=False)
    groups = [("de", "web"), ("de", None), ("en", "web"), ("en", "wiki"), ("en", None), ("ja", "wiki"), ("ja", None)]
    groups += [(None, "web"), (None, "wiki"), (None, None)]
    assert [(row.tokenizer, row.language, row.source) for row in rows] == [(n, *g) for n in "ba" for g in groups]
    shuffled = random.Random(0).sample(HAND, len(HAND))
    assert measure({"b": Every(1), "a": Every(2)}, shuffled, progress=False) == rows


def test_totals_are_the_sums_of_their_parts():
    rows = measure({"a": Every(3)}, HAND, progress=False)
    leaves = [row for row in rows if row.language is not None and row.source is not None]
    for name in report.COUNTS:
        for language in ("en", "de", "ja"):
            parts = [getattr(row, name) for row in leaves if row.language == language]
            assert getattr(one(rows, "a", language, None), name) == sum(parts)
        assert getattr(one(rows, "a", None, None), name) == sum(getattr(row, name) for row in leaves)


def test_batches_change_nothing_and_bound_the_memory(monkeypatch):
    whole = measure({"a": Every(3)}, HAND * 50, progress=False)
    monkeypatch.setattr(batches, "BATCH_CHARS", 100)
    pieces = Every(3)
    assert measure({"a": pieces}, iter(HAND * 50), progress=False) == whole
    assert max(pieces.batches) < 20 and sum(pieces.batches) == 200

    def stream(count):
        for i in range(count):
            yield Text(f"{i:10000}")

    def peak(count):
        tracemalloc.start()
        measure({"a": Every(3)}, stream(count), progress=False)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is imported
    assert peak(400) < 2 * peak(40)


def test_empty_documents_beside_others_count_for_nothing():
    with_empty = measure({"a": Every(3)}, [*HAND, Text("")], progress=False)
    assert one(with_empty, "a", "en", "web").documents == 2
    assert one(with_empty, "a", "en", "web").tokens_per_word == 6 / 4


@pytest.mark.parametrize(
    ("encoders", "documents", "message"),
    [
        ({}, HAND, "no tokenizer to report on"),
        ({"a": Every(1)}, [], "no documents to report on"),
        ({"a\n": Every(1), "a\t": Every(1)}, HAND, r"2 tokenizers would be called 'a\?'"),
        ({"x" * 50: Every(1), "x" * 60: Every(1)}, HAND, "2 tokenizers would be called 'xxx"),
        (
            {"a": Every(1)},
            [*HAND, Text("", "fr", "web"), Text("", "fr", "web")],
            r"language 'fr', source 'web': .* \(2\)",
        ),
        ({"a": Every(1)}, [Text("", "", "")], "language 'unknown', source 'unknown'"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(encoders, documents, message):
    with pytest.raises(ValueError, match=message) as error:
        measure(encoders, documents, progress=False)
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_makes_nothing_of_a_text_is_named():
    class Nothing:
        def encode_batch(self, texts):
            return [[] for _ in texts]

    with pytest.raises(ValueError, match="tokenizer 'b' made no token of 12 characters in language 'de', source 'web'"):
        measure({"a": Every(1), "b": Nothing()}, [HAND[1]], progress=False)


def test_json_holds_the_counts_and_the_ratios():
    rows = json.loads(to_json(measure({"a": Every(4)}, HAND[2:3], progress=False)))
    expected = {"tokenizer": "a", "language": "ja", "source": "wiki", "documents": 1, "characters": 5, "bytes": 15}
    expected |= {"words": 0, "tokens": 2, "tokens_of_words": 0}
    expected |= {"characters_per_token": 2.5, "bytes_per_token": 7.5, "tokens_per_word": None}
    assert rows[0] == expected
    assert [(row["language"], row["source"]) for row in rows] == [
        ("ja", "wiki"),
        ("ja", None),
        (None, "wiki"),
        (None, None),
    ]
