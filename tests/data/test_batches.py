"""Batches: the same rows for every number of processes and workers and after a resume, and the tensors' contract."""

import itertools

import numpy as np
import pytest
import torch

from llama_train.data.batches import collate_packed, collate_padded, eval_batches, rows_at, train_batches
from llama_train.data.packing import Rows, row_order


@pytest.fixture
def rows(make_shards, lengths):
    return Rows(make_shards(lengths), 16)


def steps(rows, count, **settings):
    settings = {"seed": 3, "per_device_batch_size": 2} | settings
    return list(itertools.islice(train_batches(rows, **settings), count))


def same(left, right):
    return all(
        np.array_equal(a[key], b[key])
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
        for key in a | b
    )


def test_packed_batch_literally(make_shards):
    rows = Rows(make_shards([3, 0, 20]), 6)  # <bos> 0 0 0 <eos> <bos> | <bos> <eos> <bos> 2 2 2 | ...
    batch = collate_packed([rows[0], rows[1]])
    assert batch["input_ids"].tolist() == [[100, 0, 0, 0, 101, 100, 100, 101, 100, 2, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 0, 1, 0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[-100, 0, 0, 0, 101, -100, -100, 101, -100, 2, 2, 2]]
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 5, 6, 8, 12]
    assert batch["max_length_q"] == batch["max_length_k"] == 5 and type(batch["max_length_q"]) is int
    assert {batch[key].dtype for key in ("input_ids", "position_ids", "labels")} == {torch.int64}
    assert batch["cu_seq_lens_q"].dtype == torch.int32


def test_padded_batch_literally(make_shards):
    rows = Rows(make_shards([3, 0, 20]), 6)
    batch = collate_padded([rows[0], rows[1]])
    pieces = [[100, 0, 0, 0, 101], [100, 0, 0, 0, 0], [100, 101, 0, 0, 0], [100, 2, 2, 2, 0]]
    assert batch["input_ids"].tolist() == pieces
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 2, 3, 0]]
    assert batch["labels"].tolist() == [
        [-100, 0, 0, 0, 101], [-100] * 5, [-100, 101, -100, -100, -100], [-100, 2, 2, 2, -100],
    ]  # fmt: skip
    assert set(batch) == {"input_ids", "attention_mask", "position_ids", "labels"}


def test_packed_and_padded_have_the_same_targets(rows):
    some = [rows[i] for i in range(9)]
    packed, padded = collate_packed(some)["labels"], collate_padded(some)["labels"]
    assert packed[packed != -100].tolist() == padded[padded != -100].tolist()


def test_no_label_is_predicted_from_another_document(rows):
    """A label stands where the token before it, the one that predicts it, is of the same piece."""

    def crossing(batch):
        piece = torch.bucketize(torch.arange(batch["labels"].shape[1]), batch["cu_seq_lens_q"][1:], right=True)
        counted = batch["labels"][0, 1:] != -100
        return int((counted & (piece[1:] != piece[:-1])).sum())

    batch = collate_packed([rows[i] for i in range(len(rows))])
    assert crossing(batch) == 0
    leaked = batch | {"labels": batch["input_ids"]}  # the mistake of training on <eos> -> <bos>
    assert crossing(leaked) == len(batch["cu_seq_lens_q"]) - 2


def test_an_epoch_takes_every_row_once_in_the_order_of_its_seed(rows):
    n = len(rows)
    taken = rows_at(0, 3 * n, n, seed=3)
    assert [sorted(taken[i * n : i * n + n]) for i in range(3)] == [list(range(n))] * 3
    assert taken == np.concatenate([row_order(n, 3, epoch) for epoch in range(3)]).tolist()


def test_a_global_batch_larger_than_an_epoch_runs_on_into_the_next(rows):
    size = 2 * len(rows) + 5
    ((batch,),) = steps(rows, 1, per_device_batch_size=size)
    expected = [rows[i] for i in rows_at(0, size, len(rows), 3)]
    assert same([[batch]], [[collate_packed(expected)]])


@pytest.mark.parametrize(("world", "accumulation"), [(1, 4), (2, 2), (4, 1), (2, 1)])
def test_the_global_batch_has_the_same_rows_for_every_world_size(rows, world, accumulation):
    size = 8 // (world * accumulation)
    ranks = [
        steps(rows, 20, per_device_batch_size=size, accumulation=accumulation, rank=rank, world=world)
        for rank in range(world)
    ]
    alone = steps(rows, 20, per_device_batch_size=8)
    for step in range(20):  # 160 rows: about two epochs
        assert all(len(ranks[rank][step]) == accumulation for rank in range(world))
        micro_batches = [ranks[rank][step][m] for m in range(accumulation) for rank in range(world)]
        joined = torch.cat([micro["input_ids"] for micro in micro_batches], dim=1)
        assert torch.equal(joined, alone[step][0]["input_ids"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("packing", [True, False])
def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(rows, workers, packing):
    unbroken = steps(rows, 12, accumulation=2, rank=1, world=2, packing=packing)
    resumed = steps(rows, 5, accumulation=2, rank=1, world=2, packing=packing, start_batch=7, num_workers=workers)
    assert same(unbroken[7:], resumed)
    assert not same(unbroken[6:11], resumed)  # off by one step would be seen


def test_batches_leave_the_global_random_state_alone(rows):
    before = torch.get_rng_state()
    steps(rows, 3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("max_rows", [None, 10, 1, 10**6])
@pytest.mark.parametrize("packing", [True, False])
def test_evaluation_sees_every_row_once_and_every_rank_as_many_batches(make_shards, lengths, world, max_rows, packing):
    rows = Rows(make_shards(lengths), 16, partial=True)
    ranks = [
        list(eval_batches(rows, batch_size=4, rank=rank, world=world, max_rows=max_rows, packing=packing))
        for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    counted = torch.cat([batch["labels"].flatten() for batches in ranks for batch in batches])
    count = min(len(rows), max_rows or len(rows))
    expected = [collate_packed([rows[i * len(rows) // count]])["labels"][0] for i in range(count)]
    expected = torch.cat(expected)
    assert sorted(counted[counted != -100].tolist()) == sorted(expected[expected != -100].tolist())
    if max_rows is None:
        assert int((counted != -100).sum()) == len(rows.shards) - len(lengths)


def test_a_rank_without_rows_gets_a_batch_without_targets(rows):
    (batch,) = eval_batches(rows, batch_size=4, rank=1, world=2, max_rows=3)
    assert (batch["labels"] == -100).all() and batch["labels"].shape == batch["input_ids"].shape
