"""Some records of a dataset as one page: a file to open, mail or put beside the data, without a server.

The page holds its records, masks and text; images are linked by paths relative to it, so that a folder with the page in
it can move. Only images in a form that browsers do not show are in the page itself, converted.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llava_som.files import new_file

from .images import is_shown_as_it_is
from .page import render_page
from .readers import run_dataset
from .records import Dataset


def write_page(out: Path, entries: Iterable[Mapping[str, Any]], count: int) -> Path:
    """Write index.html into the folder of a run, from its journal entries; returns its path."""
    return write_dataset_page(run_dataset(out, entries), out / "index.html", count)


def write_dataset_page(dataset: Dataset, page: str | Path, count: int) -> Path:
    """Write `page` with at most `count` records of a dataset, evenly spread; returns its path.

    A quarter of the places is for images with rejects, more where the others do not fill theirs: a page of a thousand
    good records and one bad shows the bad one.
    """
    if count < 1:
        raise ValueError(f"count={count}: a page shows at least 1 record.")
    page = Path(page)
    folder = page.parent.resolve()

    def link(number: int, position: int, file: Path) -> str:
        if is_shown_as_it_is(file):
            return quote(os.fsencode(os.path.relpath(file, folder)))
        content, kind = dataset.image(number, position)
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"

    data = {
        "title": dataset.name,
        "total": len(dataset),
        "rejected": dataset.facets["rejected"],
        "records": [dataset.view(number, link) for number in chosen(dataset, count)],
    }
    with new_file(page) as file:
        file.write(render_page(data).encode())
    return page


def chosen(dataset: Dataset, count: int) -> list[int]:
    """The numbers of the records that a page of `count` shows, ascending."""
    rejected = [number for number, facts in enumerate(dataset.facts) if facts.kinds]
    others = [number for number, facts in enumerate(dataset.facts) if not facts.kinds]
    for_rejected = min(len(rejected), max(-(-count // 4), count - len(others)))
    return sorted(spread(rejected, for_rejected) + spread(others, count - for_rejected))


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most `count` of the numbers, at even distances, the first among them."""
    count = min(count, len(numbers))
    return [numbers[position * len(numbers) // count] for position in range(count)]
