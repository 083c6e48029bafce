"""`make audit` judges what pip-audit found out, and does not take silence for health."""

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGES = ["jinja2==3.1.0", "torch==2.13.0"]
# as pip-audit 2.x prints it
CLEAN = {"name": "torch", "version": "2.13.0", "vulns": []}
FLAW = {
    "id": "PYSEC-2024-1",
    "fix_versions": ["3.1.6"],
    "aliases": ["CVE-2024-1"],
    "description": "A sandbox breakout.",
}
VULNERABLE = {"name": "jinja2", "version": "3.1.0", "vulns": [FLAW]}
SKIPPED = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (3.1.0)"}


@pytest.fixture(scope="module")
def audit(root: Path):
    spec = importlib.util.spec_from_file_location("audit", root / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*entries: dict) -> str:
    return json.dumps({"dependencies": entries, "fixes": []})


def test_all_looked_up_and_nothing_found_passes(audit):
    assert audit.problems(PACKAGES, report(VULNERABLE | {"vulns": []}, CLEAN)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report(VULNERABLE, CLEAN), ["jinja2 3.1.0: PYSEC-2024-1, fixed in 3.1.6"]),
        (report(SKIPPED, CLEAN), [f"jinja2 was not looked up: {SKIPPED['skip_reason']}"]),
        (report(CLEAN), ["jinja2==3.1.0 is not in the report"]),
        (report(), ["jinja2==3.1.0 is not in the report", "torch==2.13.0 is not in the report"]),
        ("", ["pip-audit gave no report"]),
        ("null", ["pip-audit gave no report"]),
    ],
)
def test_vulnerable_skipped_and_silent_fail(text, expected, audit):
    assert audit.problems(PACKAGES, text) == expected


def test_a_flaw_without_a_fix_fails_too(audit):
    entry = VULNERABLE | {"vulns": [FLAW | {"fix_versions": []}]}
    assert audit.problems(PACKAGES, report(entry, CLEAN)) == ["jinja2 3.1.0: PYSEC-2024-1, fixed in no version yet"]


def test_what_is_installed_is_audited_and_not_ourselves(audit):
    packages = audit.pinned()
    assert f"torch=={version('torch').split('+')[0]}" in packages
    assert not any("llama" in package or "+" in package for package in packages)
