"""PDF files written by hand, so that a test knows to the point where each text stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POINTS = 12  # of every text
ASCENT, DESCENT = 0.718, 0.207  # of Helvetica, in its size: from the letter l, and p
LETTER = (612, 792)


@dataclass(frozen=True)
class PdfPage:
    """Texts (x, y, text) in Helvetica 12, y from the bottom in points; `turned` clockwise, as a viewer shows it."""

    texts: Sequence[tuple[float, float, str]] = ()
    size: tuple[float, float] = LETTER
    turned: int = 0
    drawing: str = ""


def rows(*texts: str, left: float = 72, top: float = 720, step: float = 16) -> PdfPage:
    """A page of texts below one another."""
    return PdfPage([(left, top - k * step, text) for k, text in enumerate(texts)])


def columns(left: Sequence[str], right: Sequence[str]) -> PdfPage:
    """A page of two columns."""
    return PdfPage([*rows(*left).texts, *rows(*right, left=330).texts])


def write_pdf(file: Path, pages: Sequence[PdfPage], password: bool = False) -> Path:
    """Write a PDF of these pages; one with a password that nobody knows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kids = " ".join(f"{4 + 2 * k} 0 R" for k in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for k, page in enumerate(pages):
        drawn = "".join(f"BT /F {POINTS} Tf {x} {y} Td ({escaped(text)}) Tj ET\n" for x, y, text in page.texts)
        content = page.drawing + drawn
        box = f"0 0 {page.size[0]} {page.size[1]}"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Rotate {page.turned} "
            f"/Resources << /Font << /F 3 0 R >> >> /Contents {5 + 2 * k} 0 R >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    ending = "/ID [<00> <00>]"
    if password:
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> /U <{'22' * 32}> >>")
        ending += f" /Encrypt {len(objects)} 0 R"
    text, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(text))
        text += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    text += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    start = text.rindex("xref\n0")
    text += f"trailer\n<< /Root 1 0 R /Size {len(objects) + 1} {ending} >>\nstartxref\n{start}\n%%EOF\n"
    file.write_bytes(text.encode("latin-1"))
    return file


def escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


REPORT = (
    rows(
        "Annual report 2024", "The society had 312 members in May.", "Seven walks were led along the coast.", "Page 1"
    ),
    rows("Income and costs", "Fees brought in 4,680 pounds last year.", "Postage was the largest cost.", "Page 2"),
    rows("Plans for next year", "A new hut will be built near the ferry.", "Volunteers are welcome.", "Page 3"),
)


def write_note(folder: Path) -> Path:
    """A PDF of one small page in a folder, quick to read by its picture; returns the folder."""
    write_pdf(folder / "note.pdf", [PdfPage([(20, 140, "Please return"), (20, 120, "the blue kayak")], (160, 160))])
    return folder


def write_report(folder: Path) -> Path:
    """A PDF of three short pages in a folder; returns the folder."""
    write_pdf(folder / "report.pdf", REPORT)
    return folder
