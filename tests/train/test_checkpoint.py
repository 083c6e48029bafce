"""Which folders count as checkpoints, and what happens to those that were there."""

import pytest

from llama_train.train.checkpoint import checkpoints, find_checkpoint, open_output_dir


def make(folder, *names, complete=True):
    for name in names:
        (folder / name).mkdir(parents=True)
        if complete:
            (folder / name / "trainer_state.json").write_text("{}")


def test_the_newest_is_by_number_and_half_written_ones_do_not_count(tmp_path):
    make(tmp_path, "checkpoint-9", "checkpoint-100", "checkpoint-20", "checkpoint-best")
    make(tmp_path, "checkpoint-200", ".staging-checkpoint-300", complete=False)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert find_checkpoint("auto", tmp_path).name == "checkpoint-100"
    assert find_checkpoint("none", tmp_path) is None
    assert find_checkpoint(str(tmp_path / "checkpoint-9"), tmp_path).name == "checkpoint-9"


def test_auto_without_a_checkpoint_starts_anew(tmp_path):
    assert find_checkpoint("auto", tmp_path) is None


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a checkpoint"):
        find_checkpoint(str(tmp_path), tmp_path)


def test_staging_folders_of_a_killed_run_are_removed(tmp_path):
    make(tmp_path, ".staging-checkpoint-3", "checkpoint-2")
    open_output_dir(tmp_path, fresh=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2"}


def test_a_fresh_run_moves_the_earlier_ones_aside_each_to_its_own_place(tmp_path):
    for number in (1, 2):
        make(tmp_path, f"checkpoint-{number}", "final")
        open_output_dir(tmp_path, fresh=True)
    assert {path.name for path in tmp_path.glob("previous-*/*")} == {"checkpoint-1", "checkpoint-2", "final"}
    assert not checkpoints(tmp_path)
