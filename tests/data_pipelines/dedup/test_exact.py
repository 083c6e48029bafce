"""Exact deduplication keeps the first of equal texts and nothing else changes."""

from collections import Counter

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dedup.exact import drop_duplicates


def test_the_first_of_equal_texts_stays_in_its_place():
    texts = ["a", "b", "a", "A", "a ", "b", "c"]
    account = Account(seen=len(texts), kept=len(texts))
    kept = drop_duplicates((Document(text=text, id=str(i)) for i, text in enumerate(texts)), account)
    assert [document.id + document.text for document in kept] == ["0a", "1b", "3A", "4a ", "6c"]
    assert account == Account(seen=7, kept=5, dropped=Counter(duplicate=2))


def test_it_is_a_stream():
    endless = (Document(text=str(i), id=str(i)) for i in iter(int, 1))
    assert next(drop_duplicates(endless)).text == "0"
