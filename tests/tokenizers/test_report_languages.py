"""Llama 2's tokenizer against Llama 3's on real text in twenty languages, by the engines they were published with."""

import re

import pytest

from llama_train.tokenizers.report import measure
from llama_train.tokenizers.report_table import table
from tests.conftest import SHARED
from tests.tokenizers.test_report import Text, one

LLAMA_2 = SHARED / "realdata" / "tokenizers" / "llama2-tokenizer.model"
LLAMA_3 = SHARED / "realdata" / "tokenizers" / "meta-llama-3-8B.tiktoken"
WIKIPEDIA = SHARED / "realdata" / "wikipedia"

# Characters per token of Llama 2's and of Llama 3's tokenizer, measured on one to twenty-two articles a language.
LLAMA_2_AND_3 = {
    "ar": (1.22, 2.70), "bg": (2.40, 2.48), "ca": (2.91, 3.03), "cs": (2.37, 3.14), "da": (2.74, 3.02),
    "de": (3.36, 3.46), "en": (3.76, 4.52), "es": (3.35, 3.56), "fi": (2.34, 2.63), "fr": (3.16, 3.39),
    "hr": (2.43, 2.64), "it": (3.27, 3.37), "ja": (0.90, 1.45), "nl": (3.06, 3.24), "pl": (2.62, 2.67),
    "pt": (3.09, 3.38), "ro": (2.85, 3.02), "ru": (2.79, 3.11), "sl": (2.55, 2.65), "sv": (2.97, 3.07),
}  # fmt: skip


class SentencePiece:
    def __init__(self, path):
        engine = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: it is the oracle here")
        self.model = engine.SentencePieceProcessor(model_file=str(path))

    def encode_batch(self, texts):
        return self.model.encode(texts)


class Tiktoken:
    def __init__(self, path, count=128_000):
        tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: it is the oracle here")
        load = pytest.importorskip("tiktoken.load").load_tiktoken_bpe
        pattern = (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+"
        )
        ranks = {token: rank for token, rank in load(str(path)).items() if rank < count}
        self.encoding = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode_batch(self, texts):
        return [self.encoding.encode_ordinary(text) for text in texts]


@pytest.fixture(scope="module")
def articles():
    from data_pipelines.sources import wikipedia

    dumps = sorted(map(str, WIKIPEDIA.glob("dbpedia__*.xml.bz2")))
    if not dumps or not LLAMA_2.is_file() or not LLAMA_3.is_file():
        pytest.skip(f"{WIKIPEDIA} or {LLAMA_2.parent} is not here: real articles and tokenizers exist on some machines")
    return [Text(document.text, document.metadata["language"], "wikipedia") for document in wikipedia.read(dumps)]


def test_llama_3_gains_over_llama_2_in_twenty_languages_by_what_was_measured(articles):
    encoders = {"2": SentencePiece(LLAMA_2), "3": Tiktoken(LLAMA_3), "100k": Tiktoken(LLAMA_3, 100_000)}
    rows = measure(encoders, articles, progress=False)
    measured = {
        language: tuple(one(rows, name, language, None).characters_per_token for name in encoders)
        for language in {row.language for row in rows if row.language}
    }
    assert measured.keys() == LLAMA_2_AND_3.keys()
    for language, expected in LLAMA_2_AND_3.items():
        llama_2, llama_3, first_100k = measured[language]
        assert llama_3 > llama_2
        assert (llama_2, llama_3) == pytest.approx(expected, rel=0.015), language
        assert llama_3 / llama_2 == pytest.approx(expected[1] / expected[0], rel=0.01), language
        # without the 28,000 tokens Llama 3 added, which are mostly for other languages, the figures are others
        if language in ("ar", "cs", "ru"):
            assert first_100k != pytest.approx(expected[1], rel=0.05), language
    # the paper's 3.94 / 3.17 = 1.243, on a sample of English data that was not published (Dubey et al. 2024, section 3.2)
    assert measured["en"][1] / measured["en"][0] == pytest.approx(1.203, abs=0.005)


def test_the_table_of_the_articles_leads_with_arabic_and_leaves_japanese_without_words(articles):
    rows = measure({"Llama 2": SentencePiece(LLAMA_2), "Llama 3": Tiktoken(LLAMA_3)}, articles, progress=False)
    lines = table(rows).splitlines()
    assert re.split(r"\s{2,}", lines[3].strip())[0] == "ar"
    (japanese,) = [line for line in lines if line.startswith("  ja ")]
    assert re.split(r"\s{2,}", japanese.strip())[-3:-1] == ["-", "-"]


def test_our_own_engine_reports_what_sentencepiece_and_tiktoken_do(articles):
    from llama_train.tokenizers.encode import Encoder
    from llama_train.tokenizers.folder import open_tokenizer

    theirs = {"2": SentencePiece(LLAMA_2), "3": Tiktoken(LLAMA_3)}
    ours = {"2": Encoder(open_tokenizer(LLAMA_2)), "3": Encoder(open_tokenizer(LLAMA_3))}
    assert measure(ours, articles, progress=False) == measure(theirs, articles, progress=False)
