"""Rows: every token is a target exactly once, and positions restart where documents and rows do."""

from collections import Counter

import numpy as np
import pytest

from llama_train.data.packing import Rows, row_order


def targets(rows):
    """How often each place of the stream is a target: a token is one unless it starts a document or a row."""
    seen: Counter[int] = Counter()
    for i in range(len(rows)):
        _, positions = rows[i]
        seen.update((i * (rows.max_length - 1) + np.flatnonzero(positions)).tolist())
    return seen


@pytest.mark.parametrize("max_length", [2, 3, 16, 17, 1000])
def test_every_token_but_the_first_of_a_document_is_a_target_exactly_once(make_shards, lengths, max_length):
    shards = make_shards(lengths)
    seen = targets(Rows(shards, max_length, partial=True))
    assert set(seen.values()) == {1}
    assert len(seen) == len(shards) - len(lengths)  # tokens - documents
    assert set(seen) == set(range(len(shards))) - set(shards.document_starts(0, len(shards)).tolist())


@pytest.mark.parametrize("max_length", [2, 16, 17])
def test_full_rows_have_as_many_targets_as_tokens_covered_less_documents_started(make_shards, lengths, max_length):
    shards = make_shards(lengths)
    rows = Rows(shards, max_length)
    covered = len(rows) * (max_length - 1) + 1
    assert len(shards) - covered < max_length - 1
    assert sum(targets(rows).values()) == covered - len(shards.document_starts(0, covered))


def test_positions_that_run_on_over_a_document_border_would_be_noticed(make_shards, lengths):
    class Leaky(Rows):
        def __getitem__(self, i):
            ids, positions = super().__getitem__(i)
            return ids, np.arange(len(positions))

    shards = make_shards(lengths)
    assert len(targets(Leaky(shards, 16, partial=True))) > len(shards) - len(lengths)


def test_positions_count_from_the_last_start(make_shards):
    rows = Rows(make_shards([3, 0, 4]), 8)  # <bos> 0 0 0 <eos> <bos> <eos> <bos> 2 2 2 2 <eos>
    assert len(rows) == 1 and len(Rows(rows.shards, 8, partial=True)) == 2
    ids, positions = rows[0]
    assert ids.tolist() == [100, 0, 0, 0, 101, 100, 101, 100] and ids.dtype == positions.dtype == np.int64
    assert positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0]
    ids, positions = Rows(rows.shards, 8, partial=True)[1]
    assert ids.tolist() == [100, 2, 2, 2, 2, 101] and positions.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_row_inside_a_document_starts_at_position_0(make_shards):
    ids, positions = Rows(make_shards([20]), 8)[1]
    assert ids.tolist() == [0] * 8 and positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_neighbours_share_one_token(make_shards, lengths):
    rows = Rows(make_shards(lengths), 16)
    assert all(rows[i][0][-1] == rows[i + 1][0][0] for i in range(len(rows) - 1))
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_a_corpus_shorter_than_a_row_is_an_error_with_both_numbers(make_shards):
    shards = make_shards([10])
    assert len(Rows(shards, 12)) == 1 and len(Rows(shards, 13, partial=True)) == 1
    with pytest.raises(ValueError, match="context longer than the rows: .* 12 tokens, max_length is 13; lower"):
        Rows(shards, 13)
    with pytest.raises(ValueError, match="max_length 1 leaves nothing"):
        Rows(shards, 1)


def test_row_order_is_a_permutation_from_seed_and_epoch_only():
    order = row_order(1000, 7, 0)
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, row_order.__wrapped__(1000, 7, 0))
    assert not np.array_equal(order, row_order(1000, 7, 1)) and not np.array_equal(order, row_order(1000, 8, 0))
    # the same on every machine, in every version of NumPy
    assert row_order(8, 42, 0).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
