"""Tasks that ask for the text or data of whole pages: parsing, continuation, and their forms over several pages.

Targets are those of unified structure learning: `<doc>` text whose white space shows the layout, `<md>` tables and data
of charts, `<ocr>` text in photos (arXiv 2403.12895, section 3.1); `<doc 2>` and `<img 2>` name pages by their place in
the conversation, from 1 (arXiv 2409.03420, section 3.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from data_gen.documents import prompts
from data_gen.documents.text import Reading, page_text
from data_gen.requests import Turn
from llava_som.data.page_record import PageRecord
from llava_som.data.schema import IMAGE_PLACEHOLDER

PROMPTS = {
    "document": prompts.READ_TEXT,
    "table": prompts.TABLE_TO_MARKDOWN,
    "chart": prompts.CHART_TO_MARKDOWN,
    "photo": prompts.READ_PHOTO,
}
MOST_TARGETS = 2  # pages that a task over several asks for
Turns = tuple[Turn, ...]


def parse(page: PageRecord, reading: Reading, rng: Random) -> Turns:
    """Asks for all that a page says, in the form that suits its kind."""
    asked = prompts.DESCRIBE_PHOTO if page.caption else PROMPTS[page.kind]
    return exchange(rng.choice(asked), target(page, reading))


def target(page: PageRecord, reading: Reading) -> str:
    """The parsing target of a page."""
    if page.markdown is not None:
        return f"<md> {page.markdown} </md>"
    if page.kind == "photo":
        return " ".join([*([page.caption] if page.caption else []), f"<ocr> {page_text(page, reading)} </ocr>"])
    return f"<doc> {page_text(page, reading)} </doc>"


def continuation(page: PageRecord, reading: Reading, rng: Random) -> Turns | None:
    """Gives the first rows of a page and asks for the others; None for a page of a single row."""
    rows = page_text(page, reading).split("\n")
    if len(rows) < 2:
        return None
    given = rng.randint(1, len(rows) - 1)
    start, rest = "\n".join(rows[:given]), "\n".join(rows[given:])
    return exchange(rng.choice(prompts.CONTINUE_TEXT).format(start=f"<doc> {start}"), f"{rest} </doc>")


def parse_pages(pages: Sequence[PageRecord], reading: Reading, rng: Random) -> Turns:
    """Shows several pages and asks for the text of one or two of them."""
    chosen = sorted(rng.sample(range(len(pages)), rng.randint(1, min(MOST_TARGETS, len(pages)))))
    named = " and ".join(f"page {k + 1}" for k in chosen)
    texts = (f"<doc {k + 1}> {page_text(pages[k], reading)} </doc {k + 1}>" for k in chosen)
    return exchange(rng.choice(prompts.READ_PAGES).format(pages=named), " ".join(texts), images=len(pages))


def look_up_pages(pages: Sequence[PageRecord], reading: Reading, rng: Random) -> Turns | None:
    """Shows several pages and the text of one or two, and asks which they are; None where all pages say the same."""
    texts = [page_text(page, reading) for page in pages]
    count = Counter(texts)
    distinct = [k for k, text in enumerate(texts) if count[text] == 1]
    if not distinct:
        return None
    chosen = rng.sample(distinct, rng.randint(1, min(MOST_TARGETS, len(distinct))))
    asked = " ".join(f"<doc> {texts[k]} </doc>" for k in chosen)
    answer = " ".join(f"<img {k + 1}>" for k in chosen)
    wordings = prompts.FIND_PAGE if len(chosen) == 1 else prompts.FIND_PAGES
    return exchange(rng.choice(wordings).format(texts=asked), answer, images=len(pages))


def exchange(question: str, answer: str, images: int = 1) -> Turns:
    """A question behind so many images, and its answer."""
    return Turn("human", f"{IMAGE_PLACEHOLDER}\n" * images + question), Turn("gpt", answer)
