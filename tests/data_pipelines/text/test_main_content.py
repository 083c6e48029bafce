import pytest

from data_pipelines.text.html import html_to_text

STORY = "".join(
    f"<p>Paragraph {n} tells of the harbour, where the boats came in late that evening, <a href=/{n}>heavy</a> with fish.</p>"
    for n in range(9)
)
TEXT = "\n\n".join(
    f"Paragraph {n} tells of the harbour, where the boats came in late that evening, heavy with fish." for n in range(9)
)
MENU = "<ul><li><a href=a>Weather in the north</a><li><a href=b>Sports of the week</a><li><a href=c>Cars</a></ul>"
REMARK = "<p>Something else that a site says to whoever comes by, which is as long as a sentence.</p>"


def text_of(body: str) -> str:
    return html_to_text(f"<!DOCTYPE html><title>Harbour</title><body>{body}")


@pytest.mark.parametrize(
    "frame",
    [
        f"<nav>{REMARK}</nav>",
        f"<aside>{REMARK}</aside>",
        f"<footer>{REMARK}</footer>",
        f"<form>{REMARK}<input></form>",
        f"<div role=complementary>{REMARK}</div>",
        f"<div class='widget widget_text'>{REMARK}</div>",
        f"<div id=relatedPosts>{REMARK}</div>",
        f"<section class=shareBar>{REMARK}</section>",
        f"<div class=cookiebar>{REMARK}</div>",
        f"<ol class=commentlist><li>{REMARK}</ol>",
        f"<div class=post-meta>{REMARK}</div>",
        "<p class=byline>By our reporter</p>",
        f"<div hidden>{REMARK}</div>",
        f"<div style='color: red; display: none'>{REMARK}</div>",
        MENU,
        f"<div>{MENU}</div>",
        "<p><a href=x>Read more: the fish that nobody wanted</a></p>",
        "<h3><a href=x>The fish that nobody wanted</a></h3>",
    ],
)
@pytest.mark.parametrize(
    "page", ["{0}{1}", "<div>{1}{0}</div>", "<main>{0}<div>{1}</div></main>", "<article>{1}{0}</article>"]
)
def test_a_frame_goes_wherever_it_is(frame, page):
    assert text_of(page.format(frame, STORY)) == TEXT


@pytest.mark.parametrize(
    "content",
    [
        "<pre>while boat:\n    land(boat)</pre>",
        "<ul><li>cod from the <a href=x>bank</a> in the north<li>herring</ul>",
        "<table><tr><th>boat<th>fish<tr><td>Anna<td>12</table>",
        "<img src=x alt='A boat in the evening'>",
        "<figure><img src=x><figcaption>The boat at the pier</figcaption></figure>",
        "<blockquote>It was late.</blockquote>",
        "<h2>What came of it</h2>",
        "<p class=teaser>The evening in short</p>",
        "<p class='shared-boats adrift'>No word of a name is a piece of one.</p>",
        "<math alttext='a^2'><mi>a</mi></math>",
    ],
)
@pytest.mark.parametrize(
    "page", ["<article>{}</article>", "<div id=content>{}</div>", "<main><div><div>{}</div></div></main>"]
)
def test_content_stays(content, page):
    alone = html_to_text(f"<body><article>{content}</article>")
    assert alone and text_of(page.format(STORY + content)).removeprefix(TEXT).strip() == alone


def test_a_title_outside_of_the_story_stays():
    page = "<div><header><h1>The harbour</h1><span>12 May</span></header><div class=story>{}</div></div>"
    assert text_of(page.format(STORY)) == "The harbour\n\n" + TEXT


def test_what_lies_beside_the_story_goes_where_it_is_short_or_links():
    beside = f"<div>12 May</div><div>{MENU}</div>"
    assert text_of(f"{beside}<div><div>{beside}</div><div class=x>{STORY}</div>{beside}</div>") == TEXT
    long = "<div>" + "The day before was as long as this sentence. " * 5 + "</div>"
    assert "The day before" in text_of(f"{long}<div>{STORY}</div>")


def test_the_article_is_the_page_but_not_a_small_one():
    other = "<div>" + REMARK * 2 + "</div>"
    assert text_of(f"{other}<article>{STORY}</article>{other}") == TEXT
    assert text_of(f"<div>{STORY}</div><article>{REMARK}</article>").startswith(TEXT)


@pytest.mark.parametrize("name", ["class=sidebar", "class=comments", "id=footer", "class='widget Blog'"])
def test_a_name_lies_about_most_of_the_text(name):
    assert text_of(f"<div {name}>{STORY}</div>") == TEXT


def test_tags_of_a_post_do_not_name_it():
    post = "<div class='post hentry tag-comments category-social'>{}</div>"
    assert text_of(post.format(2 * REMARK) + post.format(STORY)).startswith("Something else")


def test_a_page_that_is_all_frame_keeps_some():
    asked = "<div class=comment><p>How do I dry a net, when the wind comes from the sea for days?</p></div>"
    assert text_of(asked * 5).count("How do I dry a net") == 5


@pytest.mark.parametrize(
    "page",
    [
        "<div class=comment><a href=x>a</a>" * 900,
        "<article><div>text <a href=x>b</a>" * 450,
        "<a href=x>c</a> " * 30_000,
        "<div class=foo><p>d</p></div>" * 30_000,
        "<ul>" + "<li class=share><a href=x>e</a>" * 30_000,
        "<nav>f</nav>" * 30_000,
    ],
)
def test_a_large_page_is_read_in_time_that_does_not_grow_with_its_square(page):
    text_of(page)  # with the square, this test would not end
