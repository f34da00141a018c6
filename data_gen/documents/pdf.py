"""PDF files: opening them safely, and pages as pictures. What is wrong with one is an ImageError that says what to do.

Pictures and text come from one library, PDFium, so a word's box lies where the word is drawn. Annotations and form
fields are not drawn: their text is no part of a page's text layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llava_som.images import ImageError

if TYPE_CHECKING:
    import pypdfium2
    from PIL import Image

POINTS = 72  # an inch
MAX_PIXELS = 25_000_000  # of a picture; an A4 page at 300 dpi has 9 million
LONGEST_SIDE = 30_000  # pixels
_INSTALL = "PDF files need pypdfium2: pip install 'llava_som[gen]'."


@contextmanager
def open_pdf(file: Path) -> Iterator[pypdfium2.PdfDocument]:
    """A PDF file, open.

    Raises:
        ImageError: there is no such file, it is damaged, protected by a password, or has no pages.
        ImportError: pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ImportError:
        raise ImportError(_INSTALL) from None
    try:
        document = pypdfium2.PdfDocument(file)
    except FileNotFoundError:
        raise ImageError(f"{file}: no such file. Check the path; the link to it may be broken.") from None
    except pypdfium2.PdfiumError as error:
        if "assword" in str(error):
            raise ImageError(f"{file}: is protected by a password. Save a copy without one.") from None
        raise ImageError(f"{file}: is not a PDF, damaged or cut short ({error}). Fetch or export it again.") from None
    except OSError as error:
        raise ImageError(f"{file}: cannot be read ({error}). Check the file and its permissions.") from None
    try:
        if not len(document):
            raise ImageError(f"{file}: has no pages. Fetch or export it again.")
        yield document
    finally:
        document.close()


def count_pages(file: Path) -> int:
    """How many pages a PDF file has, at least 1."""
    with open_pdf(file) as document:
        return len(document)


@contextmanager
def open_page(file: Path, index: int) -> Iterator[pypdfium2.PdfPage]:
    """Page `index` (from 0) of a PDF file; an ImageError where it is damaged or has no area."""
    import pypdfium2

    with open_pdf(file) as document:
        try:
            page = document[index]
        except (pypdfium2.PdfiumError, IndexError) as error:
            raise ImageError(f"{file}, page {index + 1}: is damaged ({error}). Export the file again.") from None
        width, height = page.get_size()
        if not (math.isfinite(width * height) and min(width, height) > 0):
            large = f"{width:g} x {height:g} points large"
            raise ImageError(f"{file}, page {index + 1}: is {large}. Export the file again.")
        yield page


def render(page: pypdfium2.PdfPage, dpi: int) -> tuple[Image.Image, pypdfium2.PdfPosConv]:
    """A page as an upright RGB image, and what turns places on the page into pixels of it.

    A page that would have more than 25 million pixels gets as many as that.
    """
    width, height = page.get_size()
    scale = min(dpi / POINTS, math.sqrt(MAX_PIXELS / (width * height)), LONGEST_SIDE / max(width, height))
    bitmap = page.render(scale=scale, draw_annots=False)
    return bitmap.to_pil().convert("RGB"), bitmap.get_posconv(page)
