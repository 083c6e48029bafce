"""The harness of the benchmarks: turns, medians, memory of the children too, and clear ends."""

import json
import subprocess
import sys

import pytest

from benchmarks.alternate import COLUMNS, alternate, markdown_row, measure


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


def saying(seconds: float) -> list[str]:
    """A command that times itself."""
    return python(f"print('working'); print('{{\"seconds\": {seconds}}}')")


def test_the_two_take_turns_in_fresh_processes_after_one_turn_each_to_warm_up(tmp_path):
    log = tmp_path / "log"
    note = "import os, sys; open(sys.argv[1], 'a').write(f'{sys.argv[2]} {os.getpid()}\\n')"
    result = alternate("turns", python(note, log, "ours"), python(note, log, "peer"), rounds=2)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [side for side, _ in lines] == ["ours", "peer"] * 3
    assert len({process for _, process in lines}) == 6
    assert [len(result[side]["seconds"]) for side in ("ours", "peer")] == [2, 2]


def test_the_ratio_is_how_many_times_as_fast_ours_is():
    result = alternate("speed", saying(2.0), saying(5.0), rounds=1, unit="MB", amount=10)
    assert (result["ours"]["median_seconds"], result["peer"]["median_seconds"], result["ratio"]) == (2.0, 5.0, 2.5)
    assert (result["ours"]["rate"], result["peer"]["rate"]) == (5.0, 2.0)


def test_the_median_of_the_rounds_counts_and_the_warm_up_does_not(tmp_path):
    file = tmp_path / "times"
    file.write_text("99 1 50 3")  # a warm-up of 99 s, then rounds of 1, 50 and 3 s: the median is 3, the mean 18
    code = "import sys; f = sys.argv[1]; a, *b = open(f).read().split(); open(f, 'w').write(' '.join(b))"
    result = alternate("median", python(code + "; print('{\"seconds\": ' + a + '}')", file), saying(6), rounds=3)
    assert (result["ours"]["seconds"], result["ours"]["median_seconds"]) == ([1, 50, 3], 3)
    assert result["ratio"] == 2


def test_a_process_is_timed_from_its_start_to_its_end():
    run = measure(python("import time; time.sleep(0.3)"))
    assert run["seconds"] >= 0.3 and not run["times_itself"]


def test_the_memory_of_children_counts():
    held = "x = bytearray(120_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(1)"
    parent = f"import subprocess, sys; c = [sys.executable, '-S', '-c', {held!r}]; a = subprocess.Popen(c); "
    run = measure(python(parent + "b = subprocess.Popen(c); a.wait(); b.wait()"))
    assert 240 <= run["peak_mb"] < 400  # two of 120 MB; one alone, or the parent, would be below


def test_what_the_harness_itself_once_held_is_not_counted():
    big = bytearray(600_000_000)
    big[::4096] = b"1" * len(big[::4096])
    del big
    assert measure(python("pass"))["peak_mb"] < 300


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (python("1 / 0"), "failed with exit code 1: ZeroDivisionError: division by zero"),
        (python("import os; os.kill(os.getpid(), 9)"), "failed with exit code -9: it said nothing"),
        (["no-such-program"], "no-such-program does not start: No such file or directory"),
        (saying(0), "says that it took 0 s"),
    ],
)
def test_a_command_that_cannot_be_timed_says_why(command, words):
    with pytest.raises(ValueError, match=words):
        measure(command)


def test_one_side_that_times_itself_beside_one_that_does_not_is_refused():
    with pytest.raises(ValueError, match="only one of the two times itself"):
        alternate("unfair", saying(1), python("pass"), rounds=1)


def test_settings_that_measure_nothing_are_refused():
    for wrong, words in (
        ({"rounds": 0}, "0 rounds"),
        ({"amount": 0.0}, "amount of work is 0"),
        ({"packages": ["no-such-package"]}, "no-such-package is not installed"),
    ):
        with pytest.raises(ValueError, match=words):
            alternate("wrong", saying(1), saying(1), **wrong)


def test_the_command_line_writes_json_and_a_row(root, tmp_path):
    out = tmp_path / "speed.json"
    words = [
        "--name",
        "parse",
        "--ours",
        f"{sys.executable} -S -c 'print(1)'",
        "--peer",
        f"{sys.executable} -c 'print(2)'",
    ]
    words += ["--rounds", "1", "--unit", "pages", "--amount", "12.5", "--versions", "numpy", "--out", str(out)]
    run = [sys.executable, str(root / "benchmarks" / "alternate.py"), *words]
    said = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=root)
    assert said.returncode == 0, said.stderr
    result = json.loads(out.read_text())
    assert list(result) == "name date rounds unit amount ours peer ratio machine versions".split()
    assert set(result["versions"]) == {"python", "numpy"}
    assert set(result["machine"]) == {"processor", "cores", "memory_gb", "system"}
    assert said.stdout == f"{COLUMNS}\n{markdown_row(result)}\n"
    assert len({line.count("|") for line in said.stdout.splitlines()}) == 1
    assert "pages/s" in said.stdout


def test_a_failing_command_ends_in_one_line_and_leaves_no_file(root, tmp_path):
    out = tmp_path / "speed.json"
    run = [sys.executable, str(root / "benchmarks" / "alternate.py"), "--name", "x", "--out", str(out)]
    run += ["--ours", f"{sys.executable} -c 1/0", "--peer", "true"]
    said = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=root)
    assert (said.returncode, said.stdout, out.exists()) == (1, "", False)
    assert said.stderr.startswith("error: ") and said.stderr.count("\n") == 1
    assert said.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_missing_folder_is_told_before_anything_runs(root, tmp_path):
    ran = tmp_path / "ran"
    run = [
        sys.executable,
        str(root / "benchmarks" / "alternate.py"),
        "--name",
        "x",
        "--out",
        str(tmp_path / "no" / "o.json"),
    ]
    said = subprocess.run(
        [*run, "--ours", f"touch {ran}", "--peer", "true"], capture_output=True, text=True, timeout=120, cwd=root
    )
    assert said.returncode == 1 and "is no folder" in said.stderr and not ran.exists()
