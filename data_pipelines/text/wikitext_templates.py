"""The templates that stand for words of a sentence, and what they show; any other template vanishes.

Names and parameters as documented on the template pages of the wikis themselves. Lists, boxes, notes and citations are
not here: only what leaves a hole in a sentence when it is missing."""

import re

from data_pipelines.text.wikitext_phrases import PHRASES

MAX_ARGUMENTS = 100  # of one template; a box or a list has more, a word in a sentence has not
MAX_SHOWN = 20_000  # characters one template may show: a long quotation; beyond that it is layout around an article


def _words(text: str) -> list[str]:
    return [word.strip() for line in text.strip().splitlines() for word in line.split(" | ")]


# what is shown is an argument: the first, second, third, or the last of those without a name
ARGUMENT: dict[str, int] = dict.fromkeys(
    _words("""
        nowrap | nobr | nobreak | no wrap | nobold | noitalic | normal | small | smaller | big | larger | resize | sc
        smallcaps | smcap | sup | sub | abbr | tooltip | hover title | ipa | ipalink | angle bracket | keypress | key | kbd
        code | mono | var | mvar | math | tmath | bigmath | strong | em | bold | italic | italics | strike | u | underline
        mp | samp | not a typo | typo | proper name | as written | ill | interlanguage link | illm | visible anchor | vanchor
        interlanguage link multi | link-interwiki | iw | num | number | fmtn | flag | flagcountry | flagu | country | pays
        bandera2 | bandiera2 | drapeau2 | flaggland | quote | blockquote | cquote | quotation | rquote | block quote
        centered pull quote | pull quote | citation bloc | citation | cita | цитата | цитат | citat | cytat | citaat | zitat
        citazione | citação | citace | idézet | sitaatti | 仮リンク | не переведено | нп2 | нп3 | нп4 | нп5 | не перекладено
        lien | trad | нобр | comma separated entries | ruby | text | plain text | plaintext | smaller text | api | afi | мфа
        phonétique | msapi | incise | latin | grec | vr | k-de | k-en | k-fr | k-ru | k-la | k-sv | k-es | k-it | k-pl
        ألمانية | إنجليزية | فرنسية | لغة-أل | لغة-إن | ta | currency | url | script
    """),
    1,
)
ARGUMENT |= dict.fromkeys(
    _words("""
        lang | langue | en langue | язык | мова | idioma | jezik | jazyk | språk | lingua | llengua | kieli | rtl-lang | langx
        color | font color | fontcolor | colour | farbe | textcolor | hover | title link | kleur
    """),
    2,
)
ARGUMENT |= dict.fromkeys(_words("transl | transliteration | translit | transcripción | transcription"), -1)

# fmt: off
TEXT = {
    **dict.fromkeys(("nbsp", "space", "spaces", "thinsp", "nnbsp", "esd", "sp", "spc", "hair space", "thin space"), " "),
    **dict.fromkeys(("ndash", "en dash", "–", "endash"), "–"),
    **dict.fromkeys(("mdash", "em dash", "—", "mdashb", "emdash"), "—"),
    **dict.fromkeys(("snd", "snds", "spnd", "spaced ndash", "spaced en dash", "sndash", "nbspndash", "spndash"), " – "),
    **dict.fromkeys(("·", "•", "bull", "bullet", "dot", "middot", "interpunct"), " · "),
    **dict.fromkeys(("'", "apostrophe", "apos", "’"), "’"),
    "!": "|", "!!": "||", "=": "=", "(": "{", ")": "}", "'s": "’s", "' \"": "’ ”", "\\": " / ", "pi": "π", "infin": "∞",
    "sic": "[sic]", "trade": "™", "reg": "®", "euro": "€", "degree": "°", "deg": "°", "eqm": "⇌", "plusmn": "±",
    "av. j.-c.": "av. J.-C.", "ap. j.-c.": "ap. J.-C.", "av jc": "av. J.-C.", "ap jc": "ap. J.-C.", "1er": "1er",
    "bc": "BC", "ad": "AD", "ce": "CE", "bce": "BCE", "z. b.": "z. B.", "н. э.": "н. э.", "до н. э.": "до н. э.",
    "km2": "km²", "km²": "km²", "m2": "m²",
}
BEFORE = {  # what is put before the first parameter
    "us$": "US$", "usd": "US$", "$": "$", "a$": "A$", "£": "£", "gbp": "£", "€": "€", "eur": "€", "inr": "₹", "rs": "₹",
    "indian rupee": "₹", "¥": "¥", "yen": "¥", "circa": "c. ", "c.": "c. ", "ca.": "c. ", "floruit": "fl. ", "fl.": "fl. ",
    "e": "×10^", "uss": "USS ", "hms": "HMS ", "ss": "SS ", "rms": "RMS ",
}
# fmt: on
QUOTED = {'"': "„“", "„": "„“", "“": "“”", "'-": "‚‘", "«": "«»", "кавычки": "«»", "quoted": "“”", "qq": "“”"}

PAGE_NAME = ("pagename", "pagenamee", "fullpagename", "basepagename", "subpagename")
PARSER_FUNCTION = ("formatnum", "lc", "uc", "lcfirst", "ucfirst")
FRENCH = re.compile("[IVXLC]+e siècle|Ier(?: siècle)?|[0-9]+e")  # templates named after what they show


def expand(parts: list[str], title: str) -> str:
    """What a template shows, given what stands between its braces; "" for one not known here."""
    name = parts[0].partition("|")[0] if parts else ""
    name = name.strip().replace("_", " ").lower()
    if not name or len(name) > 40:
        return ""
    function = name.partition(":")[0] if ":" in name else ""
    if name in TEXT:
        return TEXT[name]
    if name in PAGE_NAME:
        return title
    if FRENCH.fullmatch(parts[0].strip()):
        return parts[0].strip()
    foreign = name.startswith(("lang-", "ipa-"))
    if not (
        name in ARGUMENT
        or name in BEFORE
        or name in QUOTED
        or name in PHRASES
        or foreign
        or function in PARSER_FUNCTION
    ):
        return ""
    content = "".join(parts)
    if len(content) > MAX_SHOWN:
        return ""
    if function:
        return content.partition(":")[2].partition("|")[0].strip()
    given, named = arguments(content)
    if name in PHRASES:
        return PHRASES[name](given, named)
    if name in BEFORE:
        return BEFORE[name] + " – ".join(given[:2])
    if name in QUOTED:
        return QUOTED[name][0] + "".join(given[:1]) + QUOTED[name][1]
    if name.startswith("ipa-"):
        return f"[{given[0]}]" if given else ""
    place = ARGUMENT.get(name, 1)
    if place == -1 or len(given) < place:
        return given[-1] if given else named.get("text") or named.get("текст") or ""
    return given[place - 1]


def arguments(content: str) -> tuple[list[str], dict[str, str]]:
    """The parameters without a name, in their order, and those with one. `1=` counts as the first without a name."""
    given: list[str] = []
    named: dict[str, str] = {}
    for part in content.split("|", MAX_ARGUMENTS)[1:]:
        key, equals, value = part.partition("=")
        key = key.strip()
        if equals and key.isdecimal() and len(key) < 3:
            given.append(value.strip())
        elif equals and key.replace("-", "").replace("_", "").replace(" ", "").isalnum() and len(key) <= 30:
            named[key.lower()] = value.strip()
        else:
            given.append(part.strip())
    return given, named
