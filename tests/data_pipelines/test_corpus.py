"""The corpus folder changes hands by renames: stopped at any point, the old corpus or the new one is there."""

import pytest

from data_pipelines.corpus import alone, clean_up, move_into_place, read_corpus, staging


def corpus(folder, sha256):
    (folder / "train").mkdir(parents=True)
    (folder / "corpus.json").write_text(f'{{"format": 1, "inputs_sha256": "{sha256}"}}')


@pytest.fixture
def out(tmp_path):
    """An old corpus, and a new one waiting beside it."""
    corpus(tmp_path / "out", "old")
    corpus(staging(tmp_path / "out"), "new")
    return tmp_path / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_corpus_takes_the_old_ones_place(out):
    move_into_place(out)
    assert read_corpus(out)["inputs_sha256"] == "new"
    clean_up(out)
    assert read_corpus(out)["inputs_sha256"] == "new" and names(out.parent) == ["out"]


def test_stopped_before_the_renames_the_old_one_stays(out):
    clean_up(out)
    assert read_corpus(out)["inputs_sha256"] == "old" and names(out.parent) == ["out"]


def test_stopped_between_the_renames_the_old_one_comes_back(out):
    staging(out).rename(out.parent / "gone")  # so that the second rename fails
    with pytest.raises(FileNotFoundError):
        move_into_place(out)
    assert not out.exists()
    clean_up(out)
    assert read_corpus(out)["inputs_sha256"] == "old" and names(out.parent) == ["gone", "out"]


def test_an_empty_folder_can_be_replaced(out):
    for path in (out / "train", out / "corpus.json"):
        path.rmdir() if path.is_dir() else path.unlink()
    move_into_place(out)
    clean_up(out)
    assert read_corpus(out)["inputs_sha256"] == "new" and names(out.parent) == ["out"]


def test_what_is_no_corpus_is_none(out):
    assert read_corpus(out.parent / "nowhere") is None and read_corpus(out / "corpus.json") is None
    (out / "notes.md").write_text("mine")
    assert read_corpus(out) is None


def test_two_builds_of_one_folder_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with alone(tmp_path / "out"):
        with pytest.raises(ValueError, match="another build is writing .*out"), alone(tmp_path / "out"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []
