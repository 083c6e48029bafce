"""Which files of a project may be kept: the licences its folders hold or state, nearest first; what says nothing is refused."""

import json
import re
from pathlib import PurePosixPath

from data_pipelines.clean.license_expressions import Statement, evaluate, tagged
from data_pipelines.clean.licenses import OTHER, UNKNOWN, identify, mentioned

NO_LICENSE = "no licence"
VENDORED = frozenset("_vendor vendor vendored third_party thirdparty 3rdparty externals node_modules".split())
NOT_THEIRS = "vendored without a licence of its own"
MAX_BYTES = 200_000  # of a licence file or package metadata; the text of a longer one is not looked at
MAX_EVIDENCE = 20_000  # licence files in one project; the largest monorepos have some thousands

LICENSE_FILE = re.compile(
    r"(?:[\w.+]+[-_.])?(?:li[cs]en[cs]es?|copying|unlicense|[al]?gpl)(?:[-_. ][\w.+ -]*)?", re.I
)  # LICENSE, COPYING.LESSER, LICENSE-MIT, MIT-LICENSE.txt; for the ones below, not
TEXT_SUFFIX = re.compile(r"(?:\.(?:txt|md|markdown|rst|mit|bsd|apache|lesser|gpl|lgpl|mpl|[\d.]+))?", re.I)
THIRD_PARTY = re.compile(
    r"third|3rd|bundle|depend|vendor|header|template|checker", re.I
)  # about parts, or about checking
README = re.compile(r"readme(?:\.(?:md|rst|txt|markdown))?", re.I)
HEADING = re.compile(r"^[#=*_ \t]*(?:[\w&]+ (?:and|&) )?licen[cs](?:e|ing)\b[^\n]{0,40}$", re.I | re.M)
SECTION_CHARACTERS = 600  # of a README below that heading
TABLES = ("project", "package", "workspace.package", "tool.poetry", "metadata", "tool.flit.metadata")
METADATA = ("pkg-info", "metadata", "pyproject.toml", "setup.cfg", "cargo.toml", "package.json", "composer.json")


def is_evidence(path: str) -> bool:
    """Whether a file of this name may say something about the project's licence."""
    name = PurePosixPath(path).name
    reuse = path.startswith("LICENSES/") and path.endswith(".txt") and path.count("/") == 1
    return name.lower() in METADATA or is_license(path) or reuse or bool(README.fullmatch(path))


def is_license(path: str) -> bool:
    """Whether a file of this name is a licence text."""
    name = PurePosixPath(path).name
    stem, dot, suffix = name.rpartition(".")
    if len(name) > 100 or not LICENSE_FILE.fullmatch(name) or THIRD_PARTY.search(name):
        return False
    # LICENSE-2.0 and LICENSE.some-name are texts; license.py, licenses.json and license.go are code
    return (
        not dot
        or bool(TEXT_SUFFIX.fullmatch(dot + suffix))
        or stem.upper() in ("LICENSE", "LICENCE", "COPYING")
        and (len(suffix) > 4 or suffix.isupper())
    )


class Gate:
    """The licences of one project. First show it every file that `is_evidence`, then ask about any path."""

    def __init__(self) -> None:
        self.evidence: dict[str, list[tuple[str, Statement]]] = {}  # folder -> (text, stated or readme; what it says)
        self.count = 0
        self.judged: dict[str, tuple[str | None, str]] = {}

    def add(self, path: str, content: bytes) -> None:
        """Take in a file; one that is too long or no text counts as a licence nobody recognises."""
        folder, _, name = path.rpartition("/")
        self.count += 1
        self.judged.clear()
        if self.count > MAX_EVIDENCE:
            return
        text = content[: MAX_BYTES + 1].decode("utf-8", "replace").removeprefix("\ufeff")
        if is_license(path) or folder == "LICENSES":
            verdict = identify(text) if len(content) <= MAX_BYTES else UNKNOWN
            kind = "reuse" if folder == "LICENSES" else "text"
            self._note("" if folder == "LICENSES" else folder, kind, Statement(verdict, False))
        elif README.fullmatch(name):
            if section := HEADING.search(text):
                below = text[section.end() : section.end() + SECTION_CHARACTERS].split("\n#")[0]
                verdict = mentioned(f"{section[0]}\n{below}")
                self._note(folder, "readme", Statement(verdict, False))
            elif (tag := tagged(text)) is not None:
                self._note(folder, "readme", Statement(tag, False))
        else:
            for said in _stated(name.lower(), text):
                self._note(folder, "stated", said)

    def state(self, expression: str) -> None:
        """Take in what somebody else, such as GitHub, says about the whole project."""
        said = ("stated", evaluate(expression))
        if said not in self.evidence.get("", []):
            self._note("", *said)
            self.judged.clear()

    def judge(self, path: str) -> tuple[str | None, str]:
        """(SPDX expression of the licence, "") of the file at `path`, or (None, reason) where it may not be kept."""
        if self.count > MAX_EVIDENCE:
            return None, UNKNOWN
        folder = path.rpartition("/")[0]
        if folder not in self.judged:
            if len(self.judged) > 100_000:
                self.judged.clear()
            self.judged[folder] = self._judge_folder(folder)
        return self.judged[folder]

    def _note(self, folder: str, kind: str, said: Statement) -> None:
        self.evidence.setdefault(folder, []).append((kind, said))

    def _judge_folder(self, folder: str) -> tuple[str | None, str]:
        """The nearest folder with a licence text decides; one with a mere statement may only add its own refusal."""
        stated = None
        while True:
            kinds = self.evidence.get(folder)
            if kinds:
                verdict = _weigh(kinds)
                if verdict[0] is None or not folder or any(kind == "text" for kind, _ in kinds):
                    return verdict if verdict[0] is None or stated is None else stated
                stated = stated or verdict
            if not folder:
                return None, NO_LICENSE
            folder, _, name = folder.rpartition("/")
            if name.lower() in VENDORED:  # what lies in there is by others: a licence around it is not its own
                return None, NOT_THEIRS


def _weigh(evidence: list[tuple[str, Statement]]) -> tuple[str | None, str]:
    """One verdict from all that lies in one folder: texts, then statements; a REUSE folder or a README where there are none."""
    texts = [said.verdict for kind, said in evidence if kind == "text"]
    stated = [said for kind, said in evidence if kind == "stated"]
    texts = texts or [said.verdict for kind, said in evidence if kind == "reuse"]
    if not texts and not stated:
        texts = [said.verdict for kind, said in evidence if kind == "readme"]
    if any(said.verdict == OTHER for said in stated):
        return None, OTHER
    for said in stated:
        if said.choice:  # "MIT OR GPL-2.0": the other licence's text may lie there too
            return said.verdict, ""
    for refused in (OTHER, UNKNOWN):
        if refused in texts:
            return None, refused
    for said in stated:
        if " OR " in said.verdict:
            return said.verdict, ""
    if texts:
        return _join(texts), ""
    if any(said.verdict == UNKNOWN for said in stated):
        return None, UNKNOWN
    return (_join([said.verdict for said in stated]), "") if stated else (None, NO_LICENSE)


def _join(verdicts: list[str]) -> str:
    parts = sorted({part for verdict in verdicts for part in verdict.split(" AND ")})
    if "BSD" in parts and any(part.startswith("BSD-") for part in parts):
        parts.remove("BSD")
    return " AND ".join(parts)


# --- what package metadata states ---


def _stated(name: str, text: str) -> list[Statement]:
    text = text[:MAX_BYTES]
    if name in ("pkg-info", "metadata"):
        return _core_metadata(text)
    if name in ("package.json", "composer.json"):
        return _json(text)
    return _table(text)


def _core_metadata(text: str) -> list[Statement]:
    """Python's: License-Expression (PEP 639), else License, else the classifiers, of which all must hold."""
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    fields = re.findall(r"^([A-Za-z-]+): ?(.*(?:\r?\n[ \t].*)*)", head, re.M)
    found: dict[str, list[str]] = {}
    for key, value in fields:
        found.setdefault(key.lower(), []).append(value.strip())
    if "license-expression" in found:
        return [evaluate(found["license-expression"][0])]
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in found.get("classifier", [])
        if value.startswith("License :: ") and not value.endswith("OSI Approved")
    ]
    said = found.get("license", [""])[0]
    if said and said.upper() != "UNKNOWN":
        statement = evaluate(said) if len(said) < 200 and "\n" not in said else Statement(identify(said), False)
        if statement.verdict != UNKNOWN or not classifiers:
            return [statement]
    return [evaluate(classifier) for classifier in classifiers[:20]]


def _json(text: str) -> list[Statement]:
    try:
        package = json.loads(text)
    except (ValueError, RecursionError):
        return []
    said = package.get("license") or package.get("licenses") if isinstance(package, dict) else None
    names = [one.get("type") if isinstance(one, dict) else one for one in (said if isinstance(said, list) else [said])]
    return [evaluate(one) for one in names if isinstance(one, str)]


def _table(text: str) -> list[Statement]:
    """license = "MIT", license = {text = "MIT"} and setup.cfg's bare words. No TOML parser: theirs take quadratic time on
    some input; a licence that points to a file is told by that file."""
    statements: list[Statement] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[] \t").split("]")[0]
        match = re.match(r"(license(?:-expression)?)\s*=\s*(.{1,300})$", line) if table in TABLES else None
        if match:
            value = match[2].split(" #")[0].strip()
            inner = re.fullmatch(r"\{\s*text\s*=\s*(.*?)\s*,?\s*\}", value)
            value = (inner[1] if inner else value).strip("\"'")
            if value and not value.startswith("{") and not value.lower().startswith(("file:", "license")):
                statements.append(evaluate(value))
    return statements[:5]
