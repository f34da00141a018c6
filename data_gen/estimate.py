"""What a run would take, before it is paid for: `dry_run=true` marks some images in memory and asks nobody.

Only first questions are counted. A repair request, which an answer that fails its checks costs, cannot be foreseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_gen.config import Run
from data_gen.documents.stage import read_page
from data_gen.requests import EncodedImage, Request, Tagged
from data_gen.sources.base import ImageRef
from data_gen.stages import mark, open_conversation, reject_image

SAMPLE = 20  # images that are looked at


def estimate(run: Run, refs: Sequence[ImageRef]) -> dict[str, Any]:
    """Requests, tokens and cost of the whole run, by images at even distances through it.

    Returns:
        {"images", "sampled", "unusable" (of those sampled), "requests", "prompt_tokens", "completion_tokens", "cost"};
        the last four for all images, cost in the unit of the annotator's prices. Of pages the first three: they ask
        nobody, so there is nothing to pay.
    """
    count = min(SAMPLE, len(refs))
    totals, unusable = Counter[str](), 0
    for ref in (refs[k * len(refs) // count] for k in range(count)):
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
    if run.is_of_pages:
        return looked_at
    scale = len(refs) / count if count else 0
    keys = ("requests", "prompt_tokens", "completion_tokens", "cost")
    expected = {key: round(totals[key] * scale, 2 if key == "cost" else None) for key in keys}
    return looked_at | expected


def first_requests(run: Run, ref: ImageRef) -> Iterator[Request]:
    """What each recipe would ask about an image; a ValueError when there is nothing to ask about. Pages ask nobody."""
    if run.is_of_pages:
        for index in range(len(run.source.page_ids(ref))):
            read_page(run, ref, index)
        return
    _, marked = mark(run, ref)
    tagged = Tagged(ref.id, EncodedImage.of(marked.image, run.suffix), marked.record)
    for recipe in run.recipes:
        conversation = open_conversation(run, recipe, tagged)
        if (request := next(conversation, None)) is not None:
            yield request
        conversation.close()
