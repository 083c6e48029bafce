"""Which folders count as checkpoints, and what happens to those that were there."""

import pytest

from llama_train.train.checkpoint import checkpoints, find_checkpoint, move_aside, open_output_dir, read_state


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
    open_output_dir(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2"}


def test_a_fresh_run_moves_the_earlier_ones_aside_each_to_its_own_place(tmp_path):
    make(tmp_path, "previous-2")
    for number in (1, 2):
        make(tmp_path, f"checkpoint-{number}", "final")
        move_aside(tmp_path, start_step=0)
    assert {path.parent.name + "/" + path.name for path in tmp_path.glob("previous-*/*/")} == {
        "previous-1/checkpoint-1",
        "previous-1/final",
        "previous-3/checkpoint-2",
        "previous-3/final",
    }
    assert not checkpoints(tmp_path)


def test_going_on_from_an_earlier_checkpoint_moves_only_the_later_ones(tmp_path):
    make(tmp_path, "checkpoint-2", "checkpoint-4", "final")
    (tmp_path / "metrics.jsonl").touch()
    move_aside(tmp_path, start_step=4)
    assert not list(tmp_path.glob("previous-*"))
    move_aside(tmp_path, start_step=2)
    assert {path.name for path in tmp_path.glob("previous-1/*")} == {"checkpoint-4", "final"}


def test_a_broken_state_is_named(tmp_path):
    make(tmp_path, "checkpoint-2")
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"step": ')
    with pytest.raises(
        ValueError, match="checkpoint-2/trainer_state.json is broken .* resume from an earlier checkpoint"
    ):
        read_state(tmp_path / "checkpoint-2")
