"""Weights: the bytes that make the wanted shares of tokens, taken evenly and exactly, the same each time."""

import math
import random

import pytest

from data_pipelines.tokenizer_text import Text
from data_pipelines.tokenizer_weights import (
    MAX_GROUPS,
    bytes_to_take,
    check_weights,
    group_by,
    parse_weights,
    survey,
    take,
)


def test_bytes_are_taken_in_shares_of_tokens():
    available = {"de": 1000, "en": 1000}
    rates = {"de": 0.5, "en": 0.25}  # tokens per byte
    assert bytes_to_take(available, rates, {"de": 1, "en": 1}, math.inf) == {"de": 1000, "en": 2000}  # en twice
    assert bytes_to_take(available, rates, {"de": 2, "en": 1}, math.inf) == {"de": 1000, "en": 1000}
    assert bytes_to_take(available, rates, {"de": 1, "en": 1}, 1500) == {"de": 500, "en": 1000}  # max_bytes
    assert bytes_to_take({"de": 10, "en": 1000}, rates, {"de": 1, "en": 1}, math.inf) == {
        "de": 200,
        "en": 400,
    }  # 20 times
    assert bytes_to_take({"all": 999}, {"all": 1.0}, {"all": 1.0}, 10**9) == {"all": 999}
    assert bytes_to_take({"all": 999}, {"all": 1.0}, {"all": 1.0}, 100) == {"all": 100}


def test_only_the_poorest_tenth_falls_short():
    names = list("abcdefghijkl")
    available, rates = dict.fromkeys(names, 10_000) | {"a": 1}, dict.fromkeys(names, 0.5)
    equal = dict.fromkeys(names, 1.0)
    assert bytes_to_take(available, rates, equal, math.inf) == available | {"a": 20}  # and not 20 of each
    assert set(bytes_to_take(available, rates, equal | {"a": 2.0}, math.inf).values()) == {20, 10}  # more than a tenth
    both = bytes_to_take(available | {"b": 2}, rates, equal, math.inf)
    assert both == dict.fromkeys(names, 40) | {"a": 20}  # b, too, would be more than a tenth


def test_taking_is_exact_even_and_the_same_each_time():
    digits = random.Random(0)
    texts = [("a", Text("".join(f"{digits.randrange(10**6)} " for _ in range(50 * i)), "", "a")) for i in range(1, 80)]
    texts += [("b", Text(f"{i} {'ü' * 300}", "", "b")) for i in range(400)]
    available = {name: sum(len(text.text.encode()) for n, text in texts if n == name) for name in "ab"}
    wanted = {"a": available["a"] // 3, "b": available["b"] * 5 // 2}
    taken = list(take(texts, available, wanted))
    assert taken == list(take(texts, available, wanted))
    for name in "ab":
        assert abs(sum(len(text.encode()) for n, text in taken if n == name) - wanted[name]) <= 2048
    pieces = [text for name, text in taken if name == "a"]
    assert all(any(piece in text.text for _, text in texts) for piece in pieces)  # cut, but nowhere changed
    assert max(map(len, pieces)) <= 1024 and all(piece[0].isspace() or piece[0].isdigit() for piece in pieces)
    counts = [sum(t == text.text for _, t in taken) for name, text in texts if name == "b"]
    assert set(counts) == {2, 3}  # all of it twice, half of it once more
    assert 75 < sum(count - 2 for count in counts[:200]) < 125  # from its beginning as from its end
    assert list(take(texts, available, available)) == [(name, text.text) for name, text in texts]


def test_a_sample_is_even_over_the_text_and_bounded():
    texts = [Text(f"{i:05} " + "word " * 100, "en" if i % 3 else "de", "s") for i in range(3000)]
    groups = survey(texts, group_by("language"), 50_000)
    assert {name: (group.documents, group.bytes) for name, group in groups.items()} == {
        "de": (1000, 506_000),
        "en": (2000, 1_012_000),
    }
    for group in groups.values():
        numbers = [int(piece.text[:5]) for _, _, piece in group.sample]
        assert 49_000 < group.sample_bytes == 506 * len(group.sample) <= 50_000
        assert 1200 < sum(numbers) / len(numbers) < 1800
    assert survey(texts, group_by(None))["all"].sample == []
    assert list(survey([Text("a", "", "s")], group_by("language"))) == ["unknown"]


def test_weights_that_cannot_work_name_the_groups():
    assert parse_weights("en=2, de = 1.5") == {"en": 2, "de": 1.5} and parse_weights("a=b=1") == {"a=b": 1}
    for words in ("en", "en=", "=1", "en=0", "en=-1", "en=nan", "en=inf", "en=1,,de=1"):
        with pytest.raises(ValueError, match="is not GROUP=NUMBER with a number above 0"):
            parse_weights(words)
    with pytest.raises(ValueError, match="en is there twice"):
        parse_weights("en=1,en=2")
    with pytest.raises(ValueError, match="no text of fr; found de, en"):
        check_weights({"de": 1, "en": 1, "fr": 1}, ["de", "en"])
    with pytest.raises(ValueError, match="no weight for en; found de, en"):
        check_weights({"de": 1}, ["de", "en"])
    with pytest.raises(ValueError, match=f"more than {MAX_GROUPS} groups to weight: 0, 1, .* and 191 more"):
        survey((Text("a", str(i), "s") for i in range(1000)), group_by("language"))
