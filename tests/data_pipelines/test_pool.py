"""The pool: whatever an item does to its parser, the others come out, in order, and no process is left."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from data_pipelines.pool import Failure, run_guarded


def parser(item: str) -> str:
    """Does what the item says."""
    match item:
        case "hang":
            time.sleep(600)
        case "grow":
            return str(len(bytearray(2 << 30)))
        case "exit":
            os._exit(3)
        case "abort":
            os.abort()
        case "raise":
            raise KeyError(item)
        case "nest":
            return parser(item)
        case "pid":
            return str(os.getpid())
    return item.upper()


BAD = {
    "hang": "took more than 1 s",
    "grow": "needed more than 512 MB",
    "exit": "crashed the parser",
    "abort": "crashed the parser",
    "raise": "raised KeyError",
    "nest": "nested too deeply",
}


def children() -> int:
    return len(psutil.Process().children(recursive=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_poisoned_item_costs_itself_alone(workers):
    items = [word for bad in BAD for word in ("a", "b", bad, *"cdefghijklmno")]
    before = children()
    results = list(run_guarded(parser, items, seconds=1, megabytes=512, workers=workers))
    expected = [Failure(BAD[item]) if item in BAD else item.upper() for item in items]
    assert results == list(zip(items, expected, strict=True))
    assert children() == before


def test_processes_are_replaced_and_not_for_every_item():
    pids = [result for _, result in run_guarded(parser, ["pid"] * 40, recycle=10)]
    assert [len(set(pids[i : i + 10])) for i in range(0, 40, 10)] == [1] * 4
    assert len(set(pids)) == 4


def test_items_are_taken_as_they_are_needed_and_nothing_is_left_behind_a_reader_who_leaves():
    taken, before = 0, children()

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "x"

    stream = run_guarded(parser, endless(), workers=2)
    for _ in range(20):
        next(stream)
    assert taken <= 20 + 16 * 9
    assert children() == before + 2
    stream.close()
    assert children() == before


def test_a_process_that_is_killed_costs_no_item():
    """As the kernel does where memory is short: between two items it is nobody's fault, and in an item it may not be."""
    results = run_guarded(parser, ["pid"] * 100, batch=4)
    killed = set()
    for number, (_, pid) in enumerate(results):
        assert isinstance(pid, str)
        if number % 20 == 10 and pid not in killed and psutil.pid_exists(int(pid)):
            psutil.Process(int(pid)).kill()
            killed.add(pid)
    assert killed


def test_large_items_are_not_taken_by_the_dozen():
    taken = 0

    def large():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield "x" * 2**20

    stream = run_guarded(parser, large())
    next(stream)
    assert taken <= 5
    stream.close()


def test_results_larger_than_a_pipe_holds_come_back():
    items = ["x" * 2**17] * 40
    assert [result for _, result in run_guarded(parser, items)] == ["X" * 2**17] * 40


def test_whoever_leaves_need_not_wait_for_an_item_that_hangs():
    before = children()
    stream = run_guarded(parser, ["a"] * 3 + ["hang"] * 5, seconds=600, batch=1)
    next(stream)
    stream.close()  # or else this test takes ten minutes
    assert children() == before


def test_a_parser_that_cannot_be_loaded_is_no_document_s_fault():
    with pytest.raises(RuntimeError, match="did not start"):
        next(run_guarded(lambda item: item, ["a"]))  # of no module's top level


def test_no_process_outlives_whoever_is_killed(root):
    code = (
        "from data_pipelines.pool import run_guarded; from tests.data_pipelines.test_pool import parser\n"
        "for _, pid in run_guarded(parser, ['pid'] + ['a'] * 15 + ['hang'], seconds=2): print(pid, flush=True)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as starter:
        child = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    child.wait(timeout=60)  # idle it ends at once, hanging some seconds later
