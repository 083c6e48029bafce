"""The held-out split: every character on exactly one side, chosen by the text, in the size asked for."""

import pytest
from datatrove.data import Document

from data_pipelines.heldout import SHARE, Heldout


def documents(count, size, start=0):
    texts = ("".join(f"line {k} of {i}\n" for k in range(size // 14)) for i in range(start, start + count))
    return [Document(text=text, id=f"d{i}", metadata={"source": "files"}) for i, text in enumerate(texts)]


def divide(some, heldout_bytes=None):
    heldout = Heldout(some, sum(len(d.text.encode()) for d in some), heldout_bytes)
    parts = [part for document in some for part in heldout.split(document)]
    return [d for held, d in parts if not held], [d for held, d in parts if held]


def size(some):
    return sum(len(document.text.encode()) for document in some)


def test_whole_documents_are_held_out_up_to_the_share(tmp_path):
    some = documents(1000, 2000)
    train, held = divide(some)
    assert sorted(d.id for d in train + held) == sorted(d.id for d in some)
    assert SHARE * size(some) <= size(held) <= SHARE * size(some) + 3000
    assert not {d.text for d in train} & {d.text for d in held}


def test_one_long_document_is_divided_at_line_ends():
    (book,) = documents(1, 1_000_000)
    train, held = divide([book], 60_000)
    assert 60_000 <= size(held) <= 60_000 + 30_000 and size(train) + size(held) == size([book])
    parts = sorted(train + held, key=lambda d: int(d.id.removeprefix("d0@")))
    assert "".join(d.text for d in parts) == book.text and all(d.text.endswith("\n") for d in parts)


def test_the_choice_is_the_texts_and_not_the_names_or_the_order():
    some = documents(300, 3000)
    renamed = [Document(text=d.text, id=f"other{i}", metadata=d.metadata) for i, d in enumerate(reversed(some))]
    assert {d.text for d in divide(some)[1]} == {d.text for d in divide(renamed)[1]}


def test_a_corpus_that_grows_keeps_its_held_out_text_where_the_size_grows_too():
    small, large = documents(500, 3000), documents(1000, 3000)
    assert {d.text for d in divide(small, 40_000)[1]} < {d.text for d in divide(large, 120_000)[1]}


def test_something_is_always_held_out_and_something_left():
    train, held = divide(documents(2, 500))
    assert len(train) == len(held) == 1


def test_too_little_text_and_too_much_asked_for_are_errors():
    with pytest.raises(ValueError, match="445 bytes of text are too little to hold any of it out"):
        divide(documents(1, 500))
    with pytest.raises(ValueError, match="heldout_bytes 900 is more than half of the text"):
        divide(documents(3, 500), 900)
