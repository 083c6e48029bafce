"""Benchmarks of functions: each side gets the same items, in a process of its own."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "sample", "peers"),
    [("posts_xml", "stack_exchange/loops.stackexchange.com/Posts.xml", ["lxml"])],
)
def test_a_benchmark_runs_and_writes_what_it_found(name, sample, peers, root, tmp_path):
    pytest.importorskip("lxml")
    path, out = root / "data_pipelines" / "samples" / sample, tmp_path / "out.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", str(path), "--rounds", "1", "--out", str(out)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    results = json.loads(out.read_text())
    assert [result["name"] for result in results] == [f"{name}, beside {peer}" for peer in peers]
    for result in results:
        assert result["amount"] == pytest.approx(20 * path.read_text().count("<row ") / 1000)
        assert result["ratio"] > 0 and {"machine", "versions", "ours", "peer"} <= result.keys()
        assert f"| {result['name']} |" in run.stdout


def test_a_side_counts_its_own_work_and_not_the_reading(root):
    from benchmarks.beside import beside

    calls = []
    sides = {"ours": lambda: calls.append, "nothing": lambda: None}
    beside("x", "d", lambda path: ["a", "b"], len, sides, argv=["some", "--side", "ours"])
    assert calls == ["a", "b"]
