"""Embedding rows for a grown vocabulary: a new token starts as the mean of the tokens that it was cut into before."""

from typing import TYPE_CHECKING, Any

from llama_train.tokenizers.llama3 import to_ranks
from llama_train.tokenizers.ranks import parts

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def parts_of_new(base: "Tokenizer", grown: "Tokenizer") -> dict[int, list[int]]:
    """The base's ids for the bytes of each new token, by the new token's id; special tokens have none.

    Raises ValueError where the two are no byte-level BPEs, or where `grown` does not keep every id of `base`.
    """
    old, old_specials = to_ranks(base)
    new, new_specials = to_ranks(grown)
    for token, i in (old | old_specials).items():
        if (now := new.get(token) if isinstance(token, bytes) else new_specials.get(token)) != i:
            raise ValueError(
                f"{token!r} has id {i} in the base and {now} in the grown tokenizer: it was not grown from it"
            )
    limit = max(old.values()) + 1
    return {i: [old[part] for part in parts(token, old, limit)] for token, i in new.items() if token not in old}


def init_rows(rows: Any, base: "Tokenizer", grown: "Tokenizer") -> Any:
    """`rows` of the base's vocabulary, (V, d), as rows of the grown one's, in their own dtype: for embeddings and for the head.

    rows: a numpy array or a torch tensor, which stays where it is. Old tokens keep theirs, bit for bit; a new one has the mean
    of its parts' rows, a new special token the mean of all, computed in float64. Raises ValueError as `parts_of_new`
    does, and where `rows` are not as many as the base has ids.
    """
    size, grown_size = base.get_vocab_size(), grown.get_vocab_size()
    if len(rows) != size:
        raise ValueError(
            f"there are {len(rows)} rows for a base of {size} ids: one for each is needed; leave out rows of padding"
        )
    new = parts_of_new(base, grown)
    rows = rows.detach() if hasattr(rows, "detach") else rows
    out = rows[[i if i < size else 0 for i in range(grown_size)]]
    for i in range(size, grown_size):
        out[i] = _mean(rows[new[i]] if i in new else rows)
    return out


def _mean(rows: Any) -> Any:
    """Over the first axis; torch's tensors and numpy's arrays call the same conversion by different names."""
    return (rows.double() if hasattr(rows, "double") else rows.astype("float64")).mean(0)
