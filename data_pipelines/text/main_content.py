"""The main content of a page: what frames it is taken out of resiliparse's DOM, by elements, names, place and links.

A frame is what elements are for (<nav>, <footer>), what authors call it (class="sidebar"), what lies beside the way from
<body> down to most of the text, and lists that are all links. Nothing goes that holds much of the page's text: names lie.
"""

import re
from functools import lru_cache
from typing import Any

UNSEEN = (
    "script, style, template, noscript, select, iframe, svg,"
    ' [hidden], [style*="display:none" i], [style*="display: none" i]'
)
FRAME = (
    "nav, aside, footer, button, dialog, menu, form,"
    " [role=complementary], [role=navigation], [role=contentinfo], [role=banner]"
)
ROOTS = (  # the most telling first
    "[itemprop=articleBody]",
    "article",
    "main, [role=main]",
    ".entry-content, .post-content, .article-body, .article-content, .articleBody, #article-body",
)
BLOCKS = "div[class], div[id], section, ul, ol, table[class], header, dl[class]"
PARTS = "p[class], span[class], h2, h3, h4, a[class], td[class], td[id], li[class], small"
# what pages call their frame, as a word of a class or an id: "post-meta", "shareBar"
WORDS = frozenset(
    """ad ads advert advertisement advertising anzeige author authors banner bio bookmark bookmarks btn button buttons byline
    caption captions colophon credit credits cta disclaimer disclosure dropdown editsection flyout foot footer icon icons like
    likes login logo masthead menu menus meta modal most nav navbar navi overlay pager pagination paging pingback pingbacks
    popular popup postmeta postmetadata prev previous print promo rating ratings recent replies reply respond robots rss
    search share shares sharing signup social sponsor sponsored submenu subscribe tags taglist teasers toc toggle toolbar
    upsell werbung widget widgets widgettitle""".split()
)
PIECES = re.compile(  # ... or as a piece of one: "relatedposts", "cookiebar"
    "addtoany|breadcrumb|comment|consent|cookie|copyright|disqus|gdpr|kommentar|navigation|newsletter|outbrain|recommend"
    "|related|relacionad|screen-reader|sharedaddy|sidebar|subscri|taboola|trackback"
)
WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
POST = "hentry"  # WordPress lists a post's tags and categories among its classes
MOST = 0.5  # of the page's text: what holds more is no frame, whatever its name
GENTLE = 0.1  # the same where that has left too little
ROOT_SHARE = 0.35  # what holds less is one article of several
LINKS = 0.45  # of a block's text: what has more is a list of links
MORE_LINKS = 0.8  # of what holds sentences or data with links in them
SENTENCES = 100  # characters: a longer paragraph is no "Read more: ...", however much of it is links
SHORT = 100  # characters: of less, a block beside the content is a remark
MOST_LINKS = 0.4  # of the page's text: a larger block goes only where it is a list, and hardly anything but links
LEVELS = 4  # a link lies in its list: a, p, li, ul
CANDIDATES = 20  # for the root: a page with more of them is a list of articles
TEXT = frozenset("a b blockquote br em h1 h2 h3 i img p pre span strong".split())  # stays beside the content
WHOLE = frozenset("blockquote dl ol p pre table ul".split())  # the way to the content goes no deeper
LISTS = frozenset("div dl h2 h3 h4 h5 ol p section table ul".split())


def keep_main_content(tree: Any, gently: bool = False) -> None:
    """Take out of a resiliparse HTMLTree with a <body> what is not its main content; `gently`: less, for odd pages.

    The time it takes grows with the page, and with the number of levels of its largest parts."""
    body, most = tree.body, GENTLE if gently else MOST
    for element in body.query_selector_all(UNSEEN).values():
        element.remove()
    _go_to_root(body)
    limit = most * _length(body)
    for element in body.query_selector_all(FRAME).values():
        if _length(element) < limit:
            element.remove()
    _remove_named(body, BLOCKS, most)
    _remove_link_lists(body)
    _clear_the_way(body)
    _remove_named(body, PARTS, most)


def _length(element: Any) -> int:
    """The characters of its text that are no blanks."""
    text = element.text
    return len(text) - text.count(" ") - text.count("\n") - text.count("\t")


@lru_cache(10_000)
def _names_frame(names: str) -> bool:
    if POST in names:
        return False
    lower = names.lower()
    return (
        not WORDS.isdisjoint(WORD.findall(lower))
        or not WORDS.isdisjoint(map(str.lower, WORD.findall(names)))
        or PIECES.search(lower) is not None
    )


def _remove_named(body: Any, selector: str, most: float) -> None:
    limit = most * _length(body)
    for element in body.query_selector_all(selector).values():
        if _names_frame(f"{element.class_name or ''} {element.id or ''}") and _length(element) < limit:
            element.remove()


def _go_to_root(body: Any) -> None:
    least = max(SHORT, ROOT_SHARE * _length(body))
    for selector in ROOTS:
        candidates = body.query_selector_all(selector).values()[:CANDIDATES]
        if candidates:
            root = max(candidates, key=_length)
            if _length(root) >= least:
                body.replace_children(root)
                return


def _clear_the_way(body: Any) -> None:
    element = body
    while element is not None:
        children, child = [], element.first_element_child
        while child is not None:
            children.append(child)
            child = child.next_element_sibling
        lengths = [_length(child) for child in children]
        longest = max(lengths, default=0)
        if 2 * longest < sum(lengths) or longest == 0:
            return
        element = children[lengths.index(longest)]
        if element.tag in WHOLE:
            return
        for child, length in zip(children, lengths, strict=True):
            if child is not element and child.tag not in TEXT and (length < SHORT or 2 * _linked(child) > length):
                title = child.query_selector("h1")
                if title is not None and title.text.strip():
                    child.replace_with(title)
                else:
                    child.remove()


def _linked(element: Any) -> int:
    return sum([_length(link) for link in element.query_selector_all("a").values()])


def _remove_link_lists(body: Any) -> None:
    paragraphs = {p: _length(p) for p in body.query_selector_all("p").values()}
    unlinked = dict(paragraphs)
    linked: dict[Any, int] = {}
    for link in body.query_selector_all("a").values():
        length, element = _length(link), link.parent
        for _ in range(LEVELS if length else 0):
            if element is None or element is body:
                break
            if element in paragraphs:
                unlinked[element] -= length
                if paragraphs[element] > SENTENCES:
                    break
            linked[element] = linked.get(element, 0) + length
            element = element.parent
    around: set[Any] = set()  # what holds sentences
    for element, length in unlinked.items():
        for _ in range(LEVELS if length > SENTENCES else 0):
            element = element.parent
            if element is None or element in around:
                break
            around.add(element)
    limit = MOST_LINKS * _length(body)
    for element, length in linked.items():
        tag = element.tag
        if tag in LISTS and element not in around:
            text, share = _length(element), MORE_LINKS if tag in ("p", "table") else LINKS
            if length > share * text and (text < limit or (tag in WHOLE and length > MORE_LINKS * text)):
                element.remove()
