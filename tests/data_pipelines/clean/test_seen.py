"""The table of hashes: the answers of a set, in a limited table."""

import logging
import random

import pytest

from data_pipelines.clean import seen as module
from data_pipelines.clean.seen import Seen


def test_it_answers_as_a_set_would_while_it_grows():
    chance, table, oracle = random.Random(0), Seen(8), set()
    for _ in range(60_000):
        text = f"line {chance.randrange(40_000)}"
        assert table.add(text) == (text not in oracle)
        oracle.add(text)
    assert table.count == len(oracle) and len(table.table) > module.FIRST_PLACES
    assert not table.full


def test_hashes_that_want_the_same_place_are_told_apart(monkeypatch):
    class Same:
        def __init__(self, data: bytes, digest_size: int):
            self.data = data

        def digest(self) -> bytes:
            # all want the last place, and so go round to the first
            return (int(self.data) * module.FIRST_PLACES + module.FIRST_PLACES - 1).to_bytes(8, "little")

    monkeypatch.setattr(module, "blake2b", Same)
    table = Seen(1)
    assert [table.add(str(i)) for i in (1, 2, 3, 2, 1, 4)] == [True, True, True, False, False, True]


@pytest.mark.parametrize("megabytes", [0, 1])
def test_full_it_keeps_to_its_memory_and_says_so_once(megabytes, caplog):
    table = Seen(megabytes)
    with caplog.at_level(logging.WARNING):
        assert all(table.add(f"line {i}") for i in range(120_000))
    assert 8 * len(table.table) <= max(megabytes * 2**20, 8 * module.FIRST_PLACES)
    assert not table.add("line 0") and table.add("line 119999")  # the old is known, the new is not
    assert [record.message.partition(" (")[0] for record in caplog.records] == ["the memory for repeated text is full"]
