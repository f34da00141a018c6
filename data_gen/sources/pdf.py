"""Pages of PDF files that have a text layer: pictures by PDFium, and the words of the layer where they are drawn.

Some pages in a row make one ref, so that tasks can ask about several pages at once (DocOwl2, arXiv 2409.03420, 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from data_gen.documents.layout import blocks_of_words
from data_gen.documents.pdf import count_pages, open_page, render
from data_gen.documents.pdf_text import pdf_words
from data_gen.sources import SOURCES
from data_gen.sources.base import FileBacked, ImageRef, Page, PageSource
from llava_som.config_file import option
from llava_som.images import ImageError

PDF_SUFFIX = ".pdf"


@dataclass(frozen=True)
class PageRange:
    """Pages `first` (from 0) to `last` of a PDF file; or what is wrong with the file."""

    first: int = 0
    last: int = 0
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class PdfPages(FileBacked, PageSource):
    """PDF files, some pages at a time."""

    dpi: int = option(150, help="dots an inch that PDF pages are drawn at; a page gets at most 25 million pixels")
    window: int = option(4, help="pages of a PDF that follow each other and may be asked about together; 1: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 36 <= self.dpi <= 600:
            raise ValueError(f"dpi={self.dpi}: 36 to 600 make sense; text of usual size can be read from about 100.")
        if self.window < 1:
            raise ValueError(f"window={self.window}: give the number of pages, at least 1.")

    def page_ids(self, ref: ImageRef) -> Sequence[str]:
        """The file and the page's number from 1: "a/report.pdf/0003"."""
        if not is_pdf(ref) or ref.annotations[0].problem:
            return super().page_ids(ref)
        (pages,) = ref.annotations
        return [f"{named(ref)}/{number + 1:04d}" for number in range(pages.first, pages.last + 1)]

    def refs_of_pdf(self, ref: ImageRef) -> list[ImageRef]:
        """One ref for every `window` pages of a file; where it cannot be opened, a single one that says why."""
        try:
            count = count_pages(self.file(ref))
        except ImageError as error:
            return [ImageRef(named(ref), ref.path, (PageRange(problem=str(error)),))]
        ranges = [PageRange(first, min(first + self.window, count) - 1) for first in range(0, count, self.window)]
        return [ImageRef(f"{named(ref)}/{name_of(pages)}", ref.path, (pages,)) for pages in ranges]


@SOURCES.register("pdf")
@dataclass(frozen=True, kw_only=True)
class PdfSource(PdfPages):
    """Pages of PDF files with a text layer; for recipe=document."""

    medium: ClassVar[str] = "PDF"
    suffixes: ClassVar[frozenset[str]] = frozenset({PDF_SUFFIX})
    image_suffix: ClassVar[str] = ".png"

    images: Path = option(help="folder of PDF files, or one PDF file")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for every `window` pages: "report.pdf/0001-0004"."""
        return [part for file in super().refs() for part in self.refs_of_pdf(file)]

    def page(self, ref: ImageRef, index: int) -> Page:
        """The picture of a page, and its text layer in blocks.

        Raises:
            ImageError: the file or the page is damaged.
            Rejected: the page has no usable text layer.
        """
        with open_page(self.file(ref), page_index(ref, index)) as page:
            image, position = render(page, self.dpi)
            return Page(image, "document", blocks_of_words(pdf_words(page, position, image.size)))


def is_pdf(ref: ImageRef) -> bool:
    """Whether a ref is of a PDF file, by its name."""
    return ref.path is not None and ref.path.suffix.lower() == PDF_SUFFIX


def named(ref: ImageRef) -> str:
    """What the parts of a file are called after: its path with suffix, which no other file or folder can have."""
    assert ref.path is not None  # every ref of a file has one
    return ref.path.as_posix()


def name_of(pages: PageRange) -> str:
    """The pages of a range by number, from 1: "0005-0008", or "0009" for one."""
    first, last = f"{pages.first + 1:04d}", f"{pages.last + 1:04d}"
    return first if first == last else f"{first}-{last}"


def page_index(ref: ImageRef, index: int) -> int:
    """The place in its file (from 0) of page `index` of a ref; an ImageError where the file cannot be used."""
    (pages,) = ref.annotations
    if pages.problem:
        raise ImageError(pages.problem)
    return pages.first + index
