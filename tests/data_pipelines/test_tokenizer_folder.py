"""The folder a tokenizer is written to: whole or not at all, never over anything else."""

import pytest

from data_pipelines.tokenizer_folder import whole_folder


def write(out, text="{}"):
    with whole_folder(str(out)) as new:
        (new / "tokenizer.json").write_text(text)
        (new / "tokenizer_config.json").write_text('{"made_by": "llama_train"}')


def test_a_tokenizer_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    write(tmp_path / "far" / "o", "old")
    write(tmp_path / "far" / "o", "new")
    assert (tmp_path / "far" / "o" / "tokenizer.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["o"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")


def test_what_these_commands_did_not_write_is_left_alone(tmp_path):
    """Nor is a tokenizer of someone else replaced, saved by transformers for one."""
    (tmp_path / "file").write_text("precious")
    for name, files in [
        ("theirs", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]),
        ("model", ["tokenizer.json", "model.safetensors"]),
        ("half", ["tokenizer_config.json"]),
        ("cache", [".x"]),
    ]:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("precious")
    for name in ("theirs", "model", "half", "cache", "file"):
        with pytest.raises(
            ValueError, match=f"{name} holds something else than a tokenizer written by llama-data: name"
        ):
            write(tmp_path / name)
    assert (tmp_path / "model" / "tokenizer.json").read_text() == (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file" / "o")


def test_what_is_read_is_not_written_over(tmp_path):
    write(tmp_path / "o", "old")
    for source in ("o", "o/tokenizer.json"):
        reading = whole_folder(str(tmp_path / "o"), str(tmp_path / source))
        with pytest.raises(ValueError, match="is where .*o.* is read from: name another folder"), reading:
            pass
    assert (tmp_path / "o" / "tokenizer.json").read_text() == "old"


def test_whenever_it_is_stopped_the_old_one_is_there(tmp_path, monkeypatch):
    write(tmp_path / "o", "old")
    rename = type(tmp_path).rename
    for stop in (1, 2):  # before the old one goes aside, and before the new one takes its place
        left = [stop]

        def stopped(path, target, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return rename(path, target)

        monkeypatch.setattr(type(tmp_path), "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "o", "new")
        assert (tmp_path / "o" / "tokenizer.json").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_a_killed_run_is_undone_by_the_next(tmp_path):
    write(tmp_path / "o", "old")
    (tmp_path / "o").rename(tmp_path / ".o.replaced")  # as if killed between the renames
    (tmp_path / ".o.building").mkdir()
    with pytest.raises(RuntimeError, match="no luck"), whole_folder(str(tmp_path / "o")):
        raise RuntimeError("no luck")
    assert (tmp_path / "o" / "tokenizer.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_two_runs_do_not_write_one_folder(tmp_path):
    with whole_folder(str(tmp_path / "o")) as new:
        (new / "tokenizer.json").write_text("first")
        with pytest.raises(ValueError, match="another build is writing"):
            write(tmp_path / "o")
