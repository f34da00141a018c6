"""What a run would take, before it is paid for: `dry_run=true` marks some images in memory and asks nobody.

Only first questions are counted. A repair request, which an answer that fails its checks costs, cannot be foreseen.
Pages ask nobody; what a run over them costs is time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_gen.config import Run
from data_gen.documents.stage import page_samples, read_page
from data_gen.requests import EncodedImage, Request, Tagged
from data_gen.sources.base import ImageRef
from data_gen.stages import mark, open_conversation, reject_image

SAMPLE = 20  # images or pages that are looked at


def estimate(run: Run, refs: Sequence[ImageRef]) -> dict[str, Any]:
    """Requests, tokens and cost of the whole run, by images at even distances through it.

    Returns:
        {"images", "sampled", "unusable" (of those sampled), "requests", "prompt_tokens", "completion_tokens", "cost"};
        the last four for all images, cost in the unit of the annotator's prices. Of pages see `estimate_pages`.
    """
    if run.is_of_pages:
        return estimate_pages(run, refs)
    chosen = spread_out(refs, SAMPLE)
    count, totals, unusable = len(chosen), Counter[str](), 0
    for ref in chosen:
        try:
            requests = list(first_requests(run, ref))
        except Exception as error:
            reject_image(ref, error)  # raises what would stop the run
            unusable += 1
            continue
        totals["requests"] += len(requests)
        for request in requests:
            totals.update(run.annotator.estimate(request))
    looked_at = {"images": len(refs), "sampled": count, "unusable": unusable}
    scale = len(refs) / count if count else 0
    keys = ("requests", "prompt_tokens", "completion_tokens", "cost")
    expected = {key: round(totals[key] * scale, 2 if key == "cost" else None) for key in keys}
    return looked_at | expected


def estimate_pages(run: Run, refs: Sequence[ImageRef]) -> dict[str, Any]:
    """Conversations and time of a whole run over pages, by some of them at even distances.

    Returns:
        {"images" (pages), "sampled", "unusable" (of those sampled), "records", "seconds"}; the last two for all pages,
        seconds in one process and without writing the files.
    """
    pages = sum(len(run.source.page_ids(ref)) for ref in refs)
    chosen, began = spread_out(refs, max(1, SAMPLE * len(refs) // max(1, pages))), time.monotonic()
    sampled = unusable = records = 0
    for ref in chosen:
        read = {}
        for index, page_id in enumerate(run.source.page_ids(ref)):
            sampled += 1
            try:
                read[page_id] = read_page(run, ref, index)[1]
            except Exception as error:
                reject_image(ref, error)  # raises what would stop the run
                unusable += 1
        records += sum(1 for recipe in run.recipes for _ in page_samples(run, recipe, read))
    scale = pages / sampled if sampled else 0
    expected = {"records": round(records * scale), "seconds": round((time.monotonic() - began) * scale, 1)}
    return {"images": pages, "sampled": sampled, "unusable": unusable, **expected}


def spread_out(refs: Sequence[ImageRef], most: int) -> list[ImageRef]:
    """At most so many of the refs, at even distances."""
    count = min(most, len(refs))
    return [refs[k * len(refs) // count] for k in range(count)]


def first_requests(run: Run, ref: ImageRef) -> Iterator[Request]:
    """What each recipe would ask about an image; a ValueError when there is nothing to ask about."""
    _, marked = mark(run, ref)
    tagged = Tagged(ref.id, EncodedImage.of(marked.image, run.suffix), marked.record)
    for recipe in run.recipes:
        conversation = open_conversation(run, recipe, tagged)
        if (request := next(conversation, None)) is not None:
            yield request
        conversation.close()
