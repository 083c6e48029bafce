"""Meta's published Llama 2 model: its ids by its own engine on real text, and every piece back in the file we write."""

import sysconfig
from pathlib import Path

import pytest

from llama_train.tokenizers.sentencepiece_model import from_sentencepiece, to_sentencepiece

from ..conftest import SHARED
from .test_sentencepiece_model import TEXTS, differing, noise, pb, plain, sentencepiece


@pytest.fixture(scope="module")
def published():
    """Meta's Llama 2 model, where it is beside the project."""
    path = SHARED / "realdata" / "tokenizers" / "llama2-tokenizer.model"
    if not path.is_file():
        pytest.skip(f"{path} is not here: Meta's tokenizer exists only on some machines")
    return path


def test_metas_model_has_its_ids_and_comes_back_piece_for_piece(published):
    engine = sentencepiece.SentencePieceProcessor(model_file=str(published))
    opened = from_sentencepiece(published)
    assert opened.encode("Hello world 2024").ids == [1, 15043, 3186, 29871, 29906, 29900, 29906, 29946]
    texts = TEXTS + list(noise(engine, 4, 5000)) + [" " * n + "a" for n in range(200)]
    assert differing(plain(opened), engine, texts) == 0
    before, after = (pb.ModelProto.FromString(d) for d in (published.read_bytes(), to_sentencepiece(opened)))
    assert [(p.piece, p.type) for p in after.pieces] == [(p.piece, p.type) for p in before.pieces]
    again = sentencepiece.SentencePieceProcessor(model_proto=after.SerializeToString())
    assert again.encode(texts) == engine.encode(texts)


@pytest.mark.slow
def test_metas_ids_on_ten_megabytes_of_books_encyclopedias_and_code(published, books, monkeypatch):
    pytest.importorskip("datatrove", reason="datatrove is not installed: it reads the dumps")
    from data_pipelines.sources import wikipedia

    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    engine = sentencepiece.SentencePieceProcessor(model_file=str(published))
    opened = plain(from_sentencepiece(published))
    code = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [path.read_text(encoding="utf-8", errors="replace")[:200_000] for path in sorted(books.glob("*.txt"))]
    texts += [path.read_text(encoding="utf-8", errors="replace") for path in code]
    dumps = sorted((SHARED / "realdata" / "wikipedia").glob("dbpedia__*"))
    texts += [document.text for document in wikipedia.read([str(path) for path in dumps], {})]
    assert sum(len(text.encode()) for text in texts) > 10_000_000
    assert differing(opened, engine, texts) == 0
