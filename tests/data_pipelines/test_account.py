"""The account: every record in, kept, dropped or an error, once."""

from collections import Counter

import pytest

from data_pipelines.account import Account


def test_each_record_has_one_outcome():
    account = Account(seen=2, kept=2)
    account.drop("empty")
    account.fail("clipped")
    account.take_back("duplicate")
    account.check()
    assert account == Account(4, 1, Counter({"empty": 1, "duplicate": 1}), Counter({"clipped": 1}))
    assert account.reasons() == "dropped: 1 empty, 1 duplicate; errors: 1 clipped"
    assert Account().reasons() == "dropped: none; errors: none"


@pytest.mark.parametrize(
    "wrong", [Account(seen=1), Account(kept=1), Account(2, 1, Counter(empty=1), Counter(clipped=1))]
)
def test_a_lost_or_doubled_record_is_noticed(wrong):
    with pytest.raises(RuntimeError, match="records went in"):
        wrong.check()


def test_what_was_begun_when_the_reading_ends_early_is_forgotten():
    account = Account(seen=9, kept=3, dropped=Counter(empty=2))
    account.forget_unfinished()
    assert account.seen == 5
