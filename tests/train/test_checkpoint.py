"""Which checkpoint a run takes, what happens to those that were there, which ones rotation removes."""

import json
import random
from types import SimpleNamespace

import pytest

from llama_train.train.checkpoint import (
    checkpoints,
    find_checkpoint,
    mark_launch,
    move_aside,
    open_output_dir,
    peek,
    resume_again,
    rotate,
    to_remove,
)
from llama_train.train.manifest import write_file, write_manifest

ALONE = SimpleNamespace(process_index=0, num_processes=1, is_main_process=True, print=print)
CONTROL = SimpleNamespace(sum=lambda *values: list(values))


def make(folder, *names, eval_loss=None):
    for name in names:
        (folder / name).mkdir(parents=True)
        step = int(name.split("-")[-1]) if name.startswith("checkpoint-") and name[-1].isdigit() else 4
        text = json.dumps({"step": step, "eval_loss": eval_loss, "ledger": []})
        entries = {"trainer_state.json": write_file(folder / name / "trainer_state.json", [text.encode()])}
        write_manifest(folder / name, entries, {"step": step})


def find(resume, folder):
    found = find_checkpoint(resume, folder, ALONE, CONTROL)
    return found and found.name


def test_the_newest_is_by_number(tmp_path):
    make(tmp_path, "checkpoint-9", "checkpoint-100", "checkpoint-20", "checkpoint-best", ".staging-checkpoint-300")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert find("auto", tmp_path) == "checkpoint-100"
    assert find("none", tmp_path) is None
    assert find(str(tmp_path / "checkpoint-9"), tmp_path) == "checkpoint-9"


def test_auto_without_a_checkpoint_starts_anew(tmp_path):
    assert find("auto", tmp_path) is None


def test_bad_ones_go_to_quarantine_with_the_reason_and_the_newest_good_one_is_taken(tmp_path, capsys):
    make(tmp_path, "checkpoint-2", "checkpoint-4", "checkpoint-6")
    (tmp_path / "checkpoint-6" / "manifest.json").unlink()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"step": 4, "eval_loss": 1234, "ledger": []}')
    assert find("auto", tmp_path) == "checkpoint-2"
    said = capsys.readouterr().out
    assert "checkpoint-6 is damaged and moved to" in said
    assert "manifest.json is missing" in said
    assert "trainer_state.json has" in said
    assert {path.name for path in (tmp_path / "quarantine").iterdir()} == {"checkpoint-4-1", "checkpoint-6-1"}
    assert find("auto", tmp_path) == "checkpoint-2"
    assert (tmp_path / "latest").read_text() == "checkpoint-2\n"


def test_when_all_are_bad_the_run_does_not_quietly_start_from_nothing(tmp_path):
    make(tmp_path, "checkpoint-2")
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("")
    with pytest.raises(ValueError, match="all 1 checkpoints in .* are damaged .* --resume_from_checkpoint none"):
        find("auto", tmp_path)


def test_a_folder_given_by_hand_is_verified_and_left_where_it_is(tmp_path):
    make(tmp_path, "checkpoint-2")
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match="checkpoint-2 is not a good checkpoint .trainer_state.json has 2 bytes"):
        find(str(tmp_path / "checkpoint-2"), tmp_path)
    with pytest.raises(ValueError, match="is not a good checkpoint .manifest.json is missing"):
        find(str(tmp_path), tmp_path)
    with pytest.raises(ValueError, match="there is no folder .*elsewhere"):
        find(str(tmp_path / "elsewhere"), tmp_path)
    assert (tmp_path / "checkpoint-2").is_dir()


def test_peeking_reads_the_newest_state_that_can_be_read(tmp_path):
    assert peek("auto", tmp_path) is None
    make(tmp_path, "checkpoint-2", "checkpoint-4")
    assert peek("auto", tmp_path)["step"] == 4
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"step": 5, "eval_loss": null, "ledger": []}')
    assert peek("auto", tmp_path)["step"] == 2
    assert peek(str(tmp_path / "checkpoint-2"), tmp_path)["step"] == 2
    assert peek("none", tmp_path) is None


@pytest.mark.parametrize(
    "launch", [{"TORCHELASTIC_RESTART_COUNT": "1"}, {"SLURM_RESTART_COUNT": "1", "SLURM_JOB_ID": "7"}]
)
def test_a_restarted_run_goes_on_whatever_it_was_first_started_from(tmp_path, launch):
    make(tmp_path, "checkpoint-2")
    assert resume_again("none", tmp_path, launch) == "none", "what lies there is another run's"
    mark_launch(tmp_path, launch)
    assert resume_again("none", tmp_path, launch) == "auto"
    assert resume_again("/some/checkpoint-9", tmp_path, launch) == "auto"
    assert resume_again("none", tmp_path, dict.fromkeys(launch, "0")) == resume_again("none", tmp_path, {}) == "none"
    assert resume_again("none", tmp_path, launch | {"SLURM_JOB_ID": "8"}) == "none", "another launch"


def test_staging_folders_of_a_killed_run_are_removed(tmp_path):
    make(tmp_path, ".staging-checkpoint-3", "checkpoint-2")
    with open_output_dir(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", ".lock"}


def test_a_second_run_in_the_same_folder_is_refused_and_touches_nothing(tmp_path):
    with open_output_dir(tmp_path):
        (tmp_path / ".staging-checkpoint-3").mkdir()
        refused = pytest.raises(OSError, match=r"another run .process \d+ on .*writes to .*choose another --output_dir")
        with refused, open_output_dir(tmp_path, patience=0.1):
            pass
        assert (tmp_path / ".staging-checkpoint-3").exists()
    with open_output_dir(tmp_path, patience=0.1):
        pass


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


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step, loss in ((2, 3.0), (4, 1.5), (6, 2.0), (8, None), (10, 2.5)):
        make(tmp_path, f"checkpoint-{step}", eval_loss=loss)
    rotate(tmp_path, 0)
    assert len(checkpoints(tmp_path)) == 5
    rotate(tmp_path, 2)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-8", "checkpoint-10"]


def test_ten_thousand_rotations_never_remove_the_best_or_the_last_verified():
    rng = random.Random(0)
    for _ in range(10_000):
        losses, keep = {}, rng.randrange(4)
        for step in range(1, rng.randrange(2, 12)):
            losses[step] = rng.choice([None, rng.random(), 0.5])
            removed = to_remove(losses, keep)
            measured = [loss for loss in losses.values() if loss is not None]
            assert step not in removed
            if keep:
                assert len(losses) - len(removed) <= keep + 1
            for old in removed:
                del losses[old]
            assert not measured or min(measured) in losses.values()
