"""Where packed documents begin: told, or found in restarting positions."""

import pytest
import torch

from llama_train.model.documents import find_documents, given_documents, restarting_positions


def found(positions, mask=None):
    documents = find_documents(torch.tensor(positions), None if mask is None else torch.tensor(mask), True)
    return documents and documents.offsets


def test_plain_rows_are_not_packed():
    assert found([[0, 1, 2, 3], [0, 1, 2, 3]]) is None
    assert found([[7, 8, 9]]) is None
    assert found([[0, 1, 2, 9, 10]]) is None  # a gap is no restart: skip-wise positions of context extension


def test_a_restart_begins_a_document():
    assert found([[0, 1, 2, 0, 1]]) == [0, 3, 5]
    assert found([[4, 5, 0, 0, 1]]) == [0, 2, 3, 5]
    assert found([[0, 1, 0, 1], [0, 1, 2, 3]]) == [0, 2, 4, 8]  # over the flattened batch, every row on its own


@pytest.mark.parametrize("positions", [[1, 1, 0, 1, 2], [0, 0, 0, 1, 2]])
def test_left_padding_as_generate_builds_it_is_not_packed(positions):
    assert found([positions], [[0, 0, 1, 1, 1]]) is None


def test_right_padding_is_not_packed():
    assert found([[0, 1, 2, 0, 0]], [[1, 1, 1, 0, 0]]) is None
    assert found([[0, 1, 2, 1, 1], [0, 1, 2, 3, 4]], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]) is None


def test_padding_in_a_packed_row_is_a_document_of_its_own():
    assert found([[0, 1, 0, 1, 2, 0, 0]], [[1, 1, 1, 1, 1, 0, 0]])[:3] == [0, 2, 5]
    assert found([[1, 1, 0, 1, 0, 1, 2]], [[0, 0, 1, 1, 1, 1, 1]])[-3:] == [2, 4, 7]
    assert found([[0, 1, 2, 3, 0, 1]], [[1, 1, 0, 0, 1, 1]]) == [0, 2, 4, 6]


def test_given_boundaries_are_kept_with_their_longest():
    documents = given_documents(torch.tensor([0, 3, 3, 10]), None, 10, on_host=True)
    assert documents.offsets == [0, 3, 3, 10] and documents.max_length == 7
    kernel = given_documents(torch.tensor([0, 3, 10]), 7, 10, on_host=False)
    assert kernel.offsets is None and kernel.max_length == 7


@pytest.mark.parametrize("bounds", [[0, 3, 9], [1, 10], [0, 7, 3, 10]])
def test_boundaries_that_do_not_cover_the_batch_are_refused(bounds):
    with pytest.raises(ValueError, match="must rise from 0 to the 10 tokens"):
        given_documents(torch.tensor(bounds), None, 10, on_host=True)


def test_positions_count_from_zero_in_each_document():
    assert restarting_positions(torch.tensor([0, 3, 3, 5]), 5).tolist() == [0, 1, 2, 0, 1]
