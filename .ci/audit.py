"""Known vulnerabilities in what is installed beside this Python. `make audit` runs it; it needs the network.

python .ci/audit.py PIP_AUDIT

pip-audit calls an audit in which it could look up no package at all "no known vulnerabilities". Here that fails."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions

OWN = "llama-train"


def pinned() -> list[str]:
    """`name==version` of every installed package but ours; without the local part (2.13.0+cpu), which no index knows."""
    found = {(d.name.lower().replace("_", "-"), d.version.partition("+")[0]) for d in distributions()}
    return sorted(f"{name}=={version}" for name, version in found if name != OWN)


def problems(packages: list[str], report: str) -> list[str]:
    """Why the audit of `packages` fails, from pip-audit's JSON: vulnerable, skipped, or not in it at all."""
    try:
        entries = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return ["pip-audit gave no report"]
    found = [
        f"{entry['name']} was not looked up: {entry['skip_reason']}" for entry in entries if "skip_reason" in entry
    ]
    for entry in entries:
        for flaw in entry.get("vulns", []):
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            found.append(f"{entry['name']} {entry['version']}: {flaw['id']}, fixed in {fixed}")
    audited = {entry["name"].lower().replace("_", "-") for entry in entries}
    missing = [package for package in packages if package.partition("==")[0] not in audited]
    return found + [f"{package} is not in the report" for package in missing]


def main() -> None:
    packages = pinned()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(packages))
        file.flush()
        words = [
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        audit = subprocess.run([sys.argv[1], *words], stdout=subprocess.PIPE, text=True)
    if found := problems(packages, audit.stdout):
        print(*found, sep="\n")
        raise SystemExit(f"error: the audit of {len(packages)} packages failed: {len(found)} problems")
    print(f"{len(packages)} packages looked up, no known vulnerabilities")


if __name__ == "__main__":
    main()
