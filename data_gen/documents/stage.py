"""The stage of a run over pages: read or draw each page, write its picture and sidecar, make its conversations.

It stands where tagged images are marked and annotated. Nobody is asked: the pages themselves hold the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from data_gen.card import shareable
from data_gen.documents.checks import check_page
from data_gen.journal import Entry, images_of
from data_gen.requests import Rejected
from data_gen.stages import empty_entry, file_of, llava_sample, output_name, reject, reject_image
from data_gen.writers.files import save_page
from llava_som.data.page_record import PageRecord, page_sidecar_path

if TYPE_CHECKING:
    from PIL import Image

    from data_gen.config import Run
    from data_gen.sources.base import ImageRef

UNUSABLE = "unusable page"
OF_IMAGES = ("unusable image", "annotation does not fit the image")  # what it is called where images are marked


@dataclass(frozen=True)
class MakePages:
    """Refs of a page source to entries with their pages and samples, written to the output folder."""

    run: Run

    def __call__(self, refs: Sequence[ImageRef]) -> list[Entry]:
        """One entry for each ref: what was made of its pages, and why there is nothing of others."""
        return [self._entry(ref) for ref in refs]

    def _entry(self, ref: ImageRef) -> Entry:
        entry = empty_entry(ref)
        pages: dict[str, PageRecord] = {}
        written: dict[str, dict[str, Any]] = {}
        for index, page_id in enumerate(self.run.source.page_ids(ref)):
            try:
                image, record = read_page(self.run, ref, index)
                written[page_id] = self._write(page_id, image, record)
                pages[page_id] = record
            except Exception as error:
                entry["rejects"].append(of_page(reject_image(ref, error), page_id, ref))
        if pages:
            entry["pages"] = list(written.values())
            self._add_samples(entry, pages, {page_id: page["image"] for page_id, page in written.items()})
            shown = {image for sample in entry["samples"] for image in images_of(sample)}
            unasked = (page_id for page_id, page in written.items() if page["image"] not in shown)
            entry["rejects"] += [of_page(reject_unasked(pages[page_id]), page_id, ref) for page_id in unasked]
        return entry

    def _write(self, page_id: str, image: Image.Image, record: PageRecord) -> dict[str, Any]:
        """Write one page; returns what the journal says of it."""
        name = output_name(page_id, self.run.suffix)
        save_page(image, record, self.run.config.out / "images", name)
        path = f"images/{name}"
        return {
            "image": path,
            "sidecar": page_sidecar_path(Path(path)).as_posix(),
            "kind": record.kind,
            "words": sum(1 for _ in record.words),
        }

    def _add_samples(self, entry: Entry, pages: Mapping[str, PageRecord], images: Mapping[str, str]) -> None:
        """Add what every recipe makes of the pages, in place."""
        several = len(self.run.recipes) > 1
        for name in self.run.recipes:
            try:
                for made in page_samples(self.run, name, pages):
                    shown = [images[page_id] for page_id in made.pages]
                    sample_id = f"{made.id}:{name}" if several else made.id
                    entry["samples"].append(llava_sample(sample_id, shown, name, made.turns, made.task))
            except Exception as error:
                entry["rejects"].append(reject(name, error))


def read_page(run: Run, ref: ImageRef, index: int) -> tuple[Image.Image, PageRecord]:
    """Page `index` of a ref: its picture and its record, without the name of a file.

    Raises:
        ValueError: the page cannot be used, and why.
    """
    page = run.source.page(ref, index)
    check_page(page)
    record = PageRecord(
        size=page.image.size,
        kind=page.kind,
        file=file_of(ref),
        origin=shareable(run.origin),
        blocks=page.blocks,
        markdown=page.markdown,
        caption=page.caption,
    )
    return page.image, record


def page_samples(run: Run, recipe: str, pages: Mapping[str, PageRecord]) -> Iterator[Any]:
    """What a recipe makes of pages; chance depends on the run's seed, the sample and the recipe."""
    return run.recipes[recipe].samples(pages, lambda name: Random(f"{run.config.seed}:{name}:{recipe}"))


def reject_unasked(page: PageRecord) -> dict[str, Any]:
    """The reject of a page that stands in no sample."""
    return reject(None, Rejected("nothing to ask", f"no task suits a {page.kind} like this one; see tasks="))


def of_page(rejected: dict[str, Any], page_id: str, ref: ImageRef) -> dict[str, Any]:
    """A reject in the words of pages, whose reason names the page where the ref has several."""
    kind = UNUSABLE if rejected["kind"] in OF_IMAGES else rejected["kind"]
    reason = rejected["reason"] if page_id == ref.id else f"{page_id}: {rejected['reason']}"
    return rejected | {"kind": kind, "reason": reason}
