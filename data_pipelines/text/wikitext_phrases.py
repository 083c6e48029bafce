"""Templates that put words together: measures, numbers, dates, names in two scripts.

Each is a function of the parameters without a name and of those with one; it shows what the reader of the page sees, in
plain characters, and nothing that would have to be computed (of {{convert}} the measure as given, not the converted)."""

import re
from collections.abc import Callable, Mapping

UNITS = {"sqmi": "sq mi", "sqft": "sq ft", "sqyd": "sq yd", "c": "°C", "f": "°F", "kph": "km/h", "cuft": "cu ft"}
UNITS |= {"km2": "km²", "m2": "m²", "cm2": "cm²", "m3": "m³", "km3": "km³", "cuyd": "cu yd", "impgal": "imp gal"}
UNITS |= {
    "c-change": "°C",
    "f-change": "°F",
    "k": "K",
    "kg/m3": "kg/m³",
    "m/s2": "m/s²",
    "ft2": "sq ft",
    "mi2": "sq mi",
}
RANGES = {"to": " to ", "-": "–", "–": "–", "and": " and ", "or": " or ", "x": " × ", "by": " by ", "×": " × "}
RANGES |= {"to(-)": " to ", "+/-": " ± ", "±": " ± ", "&": " and ", "*": " × ", "xx": " × ", "and(-)": " and "}
NUMBER = re.compile(r"[-−+]?[\d.,]+(?:[+ ]?\d+[/⁄]\d+)?(?:e[-+]?\d+)?|[-−+]?\d+[/⁄]\d+", re.IGNORECASE)
MONTHS = "January February March April May June July August September October November December".split()


def _convert(given: list[str], named: Mapping[str, str]) -> str:
    """{{convert|5|to|10|km|mi}}: "5 to 10 km"."""
    shown = ""
    for value in given[:12]:
        if not shown or shown[-1] in " –":
            if len(value) > 30 or not NUMBER.fullmatch(value):
                break
            shown += value.replace("+", " ")
        elif value.lower() in RANGES:
            shown += RANGES[value.lower()]
        else:
            return f"{shown}{'' if value in ('%', '°') else ' '}{UNITS.get(value.lower(), value)}"
    return shown.strip()


def _fraction(given: list[str], named: Mapping[str, str]) -> str:
    match given[:3]:
        case [whole, over, under]:
            return f"{whole} {over}/{under}"
        case [over, under]:
            return f"{over}/{under}"
    return "/".join(["1", *given])


def _nihongo(given: list[str], named: Mapping[str, str]) -> str:
    name, inside = "".join(given[:1]), ", ".join(filter(None, given[1:4]))
    return f"{name} ({inside})" if name and inside else name or inside


def _as_of(given: list[str], named: Mapping[str, str]) -> str:
    words = f"{named.get('pre', '')} as of".strip() if named.get("lc") or named.get("pre") else "As of"
    return named.get("alt") or f"{words} {_date(given, named)}{named.get('post', '')[:1]}"


def _date(given: list[str], named: Mapping[str, str]) -> str:
    """Year, month, day, of which the month may be a number: {{start date|1789|7|14}}. French {{date|14|juillet|1789}} stands in
    the order in which it is read."""
    words = [word for word in given[:3] if word]
    if not words or len(words[0]) < 4:
        return " ".join(words)
    if words[1:] and (month := words[1].lstrip("0")) in map(str, range(1, 13)):
        words[1] = MONTHS[int(month) - 1]
    return " ".join(reversed(words))


def _value(given: list[str], named: Mapping[str, str]) -> str:
    """{{val|1.5|0.1|e=3|u=m}}: "1.5±0.1×10^3 m"."""
    exponent = f"×10^{named['e']}" if named.get("e") else ""
    return " ".join(filter(None, ["±".join(given[:2]) + exponent, named.get("u") or named.get("ul")]))


def _number_and_unit(given: list[str], named: Mapping[str, str]) -> str:
    """{{unité|12|km|2}}: "12 km2"; {{unité|9,8|m||s|-2}}: "9,8 m s-2"; {{nombre|300|habitants}}."""
    number, units = "".join(given[:1]), given[1:9]
    if units[1:] and re.fullmatch(r"[-−]?\d{0,2}", units[1]):
        units = [unit + power for unit, power in zip(units[::2], [*units[1::2], ""], strict=False)]
    return " ".join(filter(None, [number, *units]))


def _ship(given: list[str], named: Mapping[str, str]) -> str:
    """{{ship|HMS|Victory|1765}}: "HMS Victory (1765)"."""
    return " ".join(given[:2]) + (f" ({given[2]})" if "".join(given[2:3]) else "")


def _siecle(given: list[str], named: Mapping[str, str]) -> str:
    return "".join(given[:1]) + "e siècle"


def _seculo(given: list[str], named: Mapping[str, str]) -> str:
    return "século " + "".join(given[:1])


def _segle(given: list[str], named: Mapping[str, str]) -> str:
    return ("segle " if "s" in given[1:] else "") + "".join(given[:1])


def _joined(given: list[str], named: Mapping[str, str]) -> str:
    return "".join(given)


def _names(text: str, phrase: Callable[[list[str], Mapping[str, str]], str]) -> dict:
    return dict.fromkeys(text.split(" | "), phrase)


PHRASES: dict[str, Callable[[list[str], Mapping[str, str]], str]] = {
    **_names(
        "convert | cvt | convertspell | conv | conversie | convertir | converti | conversão | umrechnung", _convert
    ),
    **_names("frac | fraction | sfrac | bruch | vulgar fraction | дробь", _fraction),
    **_names("nihongo | nihongo2 | nihongo krt | japonais", _nihongo),
    **_names("as of | asof", _as_of),
    **_names(
        "start date | end date | date | dts | datum | date- | start-date | birth-date | birth date | death date", _date
    ),
    **_names("date de naissance | date de décès | naissance | décès", _date),
    **_names("val | gaps", _value),
    **_names("unité | unite | nombre | nb | heure | tmp", _number_and_unit),
    **_names("ship | sclass | sclass-", _ship),
    **_names("s | s- | siècle | siecle", _siecle),
    **_names("séc | século", _seculo),
    **_names("segle", _segle),
    **_names("chem | chem2 | linktext | nums | angbr | gapnum | comma", _joined),
}
