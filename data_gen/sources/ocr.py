"""Pages without a text layer, read by RapidOCR (PP-OCR models in ONNX, which its package brings): scans, photos, PDFs.

What is read is not always what is written: a record of this source teaches the reader's faults too. `min_score` keeps
out lines that it was unsure of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from data_gen.documents.layout import blocks_of_lines, lines_of_row
from data_gen.documents.pdf import open_page, render
from data_gen.requests import Rejected
from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, Page, read_json
from data_gen.sources.pdf import PDF_SUFFIX, PdfPages, is_pdf, page_index
from llava_som.config_file import option
from llava_som.data.page_record import Line, Word, around, inside
from llava_som.images import IMAGE_SUFFIXES, open_image

if TYPE_CHECKING:
    from PIL import Image

LEAST_SURE = 0.75  # of 1, on average; the scanned page that this was tried on has 0.99, upside down 0.63
LONG_LINE = 6  # characters; the direction of a shorter line is uncertain


@SOURCES.register("ocr")
@dataclass(frozen=True, kw_only=True)
class OcrSource(PdfPages):
    """Scans, photos and PDF pages whose text RapidOCR reads; for recipe=document."""

    medium: ClassVar[str] = "image or PDF"
    suffixes: ClassVar[frozenset[str]] = IMAGE_SUFFIXES | {PDF_SUFFIX}

    images: Path = option(help="folder of images and PDF files, or one file")
    kind: Literal["document", "photo"] = option(
        "document", help="document: pages of text; photo: natural images with some text in them"
    )
    captions: Path | None = option(
        None, help='of photos: JSON {"file": "what it shows"}; the answer then is the caption and the text'
    )
    min_score: float = option(0.5, help="leave out lines that the reader was less sure of, 0 to 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score={self.min_score}: give a number from 0 to 1.")
        if self.captions is not None and self.kind != "photo":
            raise ValueError(f"captions={self.captions}: belong to kind=photo. Leave them out, or say kind=photo.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each image, and one for every `window` pages of a PDF file."""
        captions = {} if self.captions is None else read_captions(self.captions, self.root)
        found: list[ImageRef] = []
        for ref in super().refs():
            if is_pdf(ref):
                found += self.refs_of_pdf(ref)
            else:
                caption = captions.get(str(ref.path))
                found.append(ImageRef(ref.id, ref.path, () if caption is None else (caption,)))
        return found

    def page(self, ref: ImageRef, index: int) -> Page:
        """The picture, and what is read from it in blocks.

        Raises:
            ImageError: the file or the page cannot be used.
            Rejected: nothing is read from it.
        """
        image = self._picture(ref, index)
        found = read(image, self.min_score)
        if found.txts is None:
            told = f"the reader found none that it was sure of (min_score={self.min_score:g})"
            raise Rejected("no text", told)
        if self.kind == "document":
            check_upright(found)
        lines = [line for words in found.word_results for line in lines_of(words, image.size)]
        caption = None if is_pdf(ref) or not ref.annotations else ref.annotations[0]
        return Page(image, self.kind, blocks_of_lines(lines), caption=caption)

    def _picture(self, ref: ImageRef, index: int) -> Image.Image:
        if not is_pdf(ref):
            return open_image(self.file(ref))
        with open_page(self.file(ref), page_index(ref, index)) as page:
            return render(page, self.dpi)[0]


def read_captions(file: Path, root: Path) -> dict[str, str]:
    """The captions by image file below `root`; a ValueError where the file is not of that form or names another."""
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(text, str) and text.strip() for text in content.values()):
        raise ValueError(f'{file}: has to hold captions by image file, {{"a.jpg": "A street sign at night."}}.')
    if absent := next((name for name in content if not (root / name).is_file()), None):
        raise ValueError(f"{file}: {absent!r} is no file in {root}. Name images by their paths from there.")
    return {name: " ".join(text.split()) for name, text in content.items()}


def read(image: Image.Image, min_score: float) -> Any:
    """What RapidOCR reads in an RGB image, line by line: `txts`, `scores`, `boxes` (four corners), `word_results`."""
    import numpy as np

    # An array: given the path of a palette PNG, RapidOCR 3.10 silently reads nothing. Its classifier would turn lines
    # that are upside down and read them, and nobody would know; without it they are nonsense, and found out.
    return reader()(np.asarray(image)[:, :, ::-1], return_word_box=True, text_score=min_score, use_cls=False)


def check_upright(found: Any) -> None:
    """Refuse a page whose words we would put in a wrong order.

    Raises:
        Rejected: its lines run downwards, are tilted, or the reader is so unsure that the page may be upside down.
    """
    corners = [box for text, box in zip(found.txts, found.boxes, strict=True) if len(text) >= LONG_LINE]
    if corners:
        down = sum(box[2][1] - box[0][1] > box[2][0] - box[0][0] for box in corners)
        if 2 * down > len(corners):
            raise Rejected("turned page", f"{down} of {len(corners)} lines run downwards. Turn the picture upright")
        slope = sum(box[1][1] - box[0][1] for box in corners) / sum(box[1][0] - box[0][0] for box in corners)
        across = max(box[1][0] for box in corners) - min(box[0][0] for box in corners)
        if abs(slope) * across > median(math.dist(box[0], box[3]) for box in corners):
            degrees = abs(math.degrees(math.atan(slope)))
            told = f"by {degrees:.1f} degrees, so that a line ends at the height of another one. Straighten the scan"
            raise Rejected("tilted page", told)
    if (sure := fmean(found.scores)) < LEAST_SURE:
        told = f"the reader is sure by {sure:.2f} on average. The page may be upside down, or too coarse"
        raise Rejected("unreadable page", told)


def lines_of(words: Sequence[Any], size: tuple[int, int]) -> list[Line]:
    """A line of RapidOCR's as ours; one that runs across columns is cut."""
    placed = sorted(words_of(words, size), key=lambda word: word.box[0])
    return lines_of_row(placed) if placed else []


def words_of(line: Sequence[Any], size: tuple[int, int]) -> Iterator[Word]:
    """The words of one line of RapidOCR's, upright boxes around their corners, kept inside the image."""
    for text, _, corners in line:
        if not text.strip():  # such a word has no corners
            continue
        yield Word(text="".join(text.split()), box=inside(around([(x, y, x, y) for x, y in corners]), size))


@cache
def reader() -> Any:
    """RapidOCR with the models of its package; one for each process."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        raise ImportError("source=ocr needs RapidOCR: pip install 'llava_som[gen]'.") from None
    return RapidOCR(params={"Global.log_level": "error"})
