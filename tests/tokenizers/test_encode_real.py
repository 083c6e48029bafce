"""Bulk encoding on real text with Meta's own vocabularies: the ids of the engines they were published with."""

import pytest

from llama_train.tokenizers.encode import Encoder
from llama_train.tokenizers.folder import open_tokenizer
from llama_train.tokenizers.llama3 import SPLIT_PATTERN
from llama_train.tokenizers.ranks import read_ranks
from tests.conftest import SHARED
from tests.tokenizers.test_encode import noise

RANKS, MODEL = (
    SHARED / "realdata/tokenizers" / name for name in ("meta-llama-3-8B.tiktoken", "llama2-tokenizer.model")
)


def real(books, root):
    """Some megabytes of books, in all their languages, and of code."""
    texts = [path.read_text(encoding="utf-8", errors="replace")[:60_000] for path in sorted(books.glob("*.txt"))]
    return [*texts, *(path.read_text(encoding="utf-8") for path in sorted(root.glob("[dlt]*/**/*.py"))[:200])]


@pytest.mark.slow
@pytest.mark.skipif(
    not RANKS.is_file(), reason=f"{RANKS} is not here: Meta's own tokenizers exist only on some machines"
)
def test_metas_llama_3_has_tiktokens_ids_on_real_text(books, root):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: its ids are the oracle here")

    encoding = tiktoken.Encoding("x", pat_str=SPLIT_PATTERN, mergeable_ranks=read_ranks(RANKS)[0], special_tokens={})
    encoder, texts = Encoder(open_tokenizer(RANKS)), [*real(books, root), *noise(5, 2000)]
    theirs = encoding.encode_ordinary_batch(texts, num_threads=4)
    assert [ids.tolist() for ids in encoder.encode_batch(texts)] == theirs


@pytest.mark.slow
@pytest.mark.skipif(
    not MODEL.is_file(), reason=f"{MODEL} is not here: Meta's own tokenizers exist only on some machines"
)
def test_metas_llama_2_has_sentencepieces_ids_on_real_text(books, root):
    sentencepiece = pytest.importorskip(
        "sentencepiece", reason="sentencepiece is not installed: its ids are the oracle"
    )

    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    encoder, texts = Encoder(open_tokenizer(MODEL)), real(books, root)
    assert [ids.tolist() for ids in encoder.encode_batch(texts)] == processor.encode(texts)
