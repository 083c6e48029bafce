"""What the tests of `llama-data tokenizer` share: a command line, and documents in invented languages."""

import json
import random

import pytest

from data_pipelines import cli
from llama_train.tokenizers.folder import open_tokenizer

DOCUMENTS = {"en": 600, "de": 500, "ru": 300, "code": 100}
LETTERS = {"en": "etaoinshrdlu", "de": "enisratdhulc", "ru": "оеаинтсрвлкм"}  # Russian has two bytes a letter


def main(words):
    cli.main(["tokenizer", *map(str, words)])


def text_of(language, documents, seed=0):
    """Documents of invented words: short ones in "en", long and rarer ones in "de", hexadecimal numbers in "code"."""
    chosen = random.Random(f"{language} {seed}")
    if language == "code":
        return [" ".join(f"{chosen.getrandbits(40):x}" for _ in range(60)) for _ in range(documents)]
    length, number = {"en": (5, 300), "de": (9, 3000), "ru": (6, 600)}[language]
    words = ["".join(chosen.choices(LETTERS[language], k=length)) for _ in range(number)]
    return [" ".join(chosen.choices(words, k=80)) + ".\n" for _ in range(documents)]


def write_documents(path, languages):
    """A .jsonl of {language: documents}, one language after the other."""
    with path.open("w", encoding="utf-8") as file:
        for language, documents in languages.items():
            file.writelines(json.dumps({"text": t, "language": language}) + "\n" for t in text_of(language, documents))
    return path


def lines_of(capsys, words):
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code, capsys.readouterr().err.strip().splitlines()


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def count(folder, texts):
    """Tokens by the finished tokenizer, as the tokenizers library counts them."""
    tokenizer = open_tokenizer(folder)
    return sum(len(one.ids) for one in tokenizer.encode_batch(texts, add_special_tokens=False))
