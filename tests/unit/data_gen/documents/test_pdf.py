"""PDF pages read where they were written to the point, and every fault told."""

import pytest

from data_gen.config import build
from data_gen.documents.pdf import MAX_PIXELS
from data_gen.documents.text import page_text
from data_gen.requests import Rejected
from data_gen.sources import SOURCES
from data_gen.sources.pdf import PdfSource
from llava_som.data.page_record import PageRecord
from llava_som.images import ImageError
from tests.unit.data_gen.pdf_files import ASCENT, DESCENT, POINTS, PdfPage, columns, rows, write_pdf

DPI = 144  # two pixels a point


def source(folder, **options):
    return build(PdfSource, {"images": folder, "dpi": DPI, **options})


def read(file, index=0, **options):
    """Page `index` of a file as its source gives it."""
    pdf = source(file, window=1, **options)
    return pdf.page(pdf.refs()[index], 0)


def text_of(page, reading="rows"):
    return page_text(PageRecord(size=page.image.size, kind=page.kind, blocks=page.blocks), reading)


def words_of(page):
    return [word for block in page.blocks for line in block.lines for word in line.words]


def test_words_lie_where_the_file_draws_them(tmp_path):
    file = write_pdf(tmp_path / "a.pdf", [PdfPage([(100, 700, "Hello"), (300, 100, "low"), (40, 400, "mid dle")])])
    page = read(file)
    assert page.image.size == (2 * 612, 2 * 792)
    found = {word.text: word.box for word in words_of(page)}
    assert set(found) == {"Hello", "low", "mid", "dle"}
    for text, x, y in (("Hello", 100, 700), ("low", 300, 100), ("mid", 40, 400)):
        left, top, right, bottom = found[text]
        assert left == pytest.approx(2 * x, abs=4) and left < right < 2 * (x + POINTS * len(text))
        assert top == pytest.approx(2 * (792 - y - ASCENT * POINTS), abs=6)
        assert bottom == pytest.approx(2 * (792 - y + DESCENT * POINTS), abs=6)
    ink = page.image.convert("L").crop(found["Hello"])
    assert ink.getextrema()[0] < 100  # the word itself is there


def test_a_blank_is_a_blank_however_narrow_the_letters_beside_it(tmp_path):
    text = "i : l [ i ] . l  ;"
    assert text_of(read(write_pdf(tmp_path / "a.pdf", [rows(text)]))) == text


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_page_that_is_turned_is_read_as_it_is_shown(tmp_path, turned):
    """The text is drawn upright, so a turned page shows it sideways or upside down."""
    file = write_pdf(tmp_path / "a.pdf", [PdfPage([(100, 700, "sideways")], turned=turned)])
    with pytest.raises(Rejected, match="no upright text"):
        read(file)
    matrix = {90: "0 1 -1 0 300 200", 180: "-1 0 0 -1 300 200", 270: "0 -1 1 0 300 200"}[turned]
    drawing = f"BT /F 12 Tf {matrix} Tm (straight) Tj ET\n"
    page = read(write_pdf(tmp_path / "b.pdf", [PdfPage(turned=turned, drawing=drawing)]))
    (word,) = words_of(page)
    assert word.text == "straight" and word.box[2] - word.box[0] > word.box[3] - word.box[1]
    assert page.image.convert("L").crop(word.box).getextrema()[0] < 100


def test_a_word_broken_at_the_end_of_a_line_is_two_words_with_two_boxes(tmp_path):
    page = read(write_pdf(tmp_path / "a.pdf", [rows("The hyphen-", "ated word", "A well-known case")]))
    assert text_of(page) == "The hyphen-\nated word\nA well-known case"
    assert max(word.box[3] - word.box[1] for word in words_of(page)) < 3 * POINTS


def test_columns_and_annotations_and_ligatures(tmp_path):
    left, right = ["left one", "left two", "left three"], ["right one", "right two", "right three"]
    page = read(write_pdf(tmp_path / "a.pdf", [columns(left, right)]))
    assert text_of(page, "columns").split("\n") == [*left, *right]
    assert text_of(page).split("\n")[0].split() == ["left", "one", "right", "one"]


def test_pages_come_in_windows_that_follow_each_other(tmp_path):
    write_pdf(tmp_path / "long.pdf", [rows(f"page {k + 1}") for k in range(200)])
    write_pdf(tmp_path / "sub" / "short.pdf", [rows("only page")])
    pdf = source(tmp_path, window=7)
    refs = pdf.refs()
    ids = [page_id for ref in refs for page_id in pdf.page_ids(ref)]
    assert len(refs) == 29 + 1 and len(ids) == len(set(ids)) == 201
    assert [ref.id for ref in refs[:2]] == ["long.pdf/0001-0007", "long.pdf/0008-0014"]
    assert refs[28].id == "long.pdf/0197-0200" and refs[29].id == "sub/short.pdf/0001"
    assert text_of(pdf.page(refs[28], 3)) == "page 200"


def test_a_page_is_never_drawn_larger_than_can_be_held(tmp_path):
    page = read(write_pdf(tmp_path / "a.pdf", [PdfPage([(50, 50, "poster")], size=(9000, 9000))]))
    width, height = page.image.size
    assert width == height and 0.99 * MAX_PIXELS < width * height <= 1.01 * MAX_PIXELS
    (word,) = words_of(page)
    assert word.box[0] == pytest.approx(50 / 9000 * width, abs=4)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (PdfPage(), "no text layer.*source=ocr"),
        (PdfPage(drawing="0 0 100 100 re f\n"), "no text layer.*source=ocr"),
        (PdfPage([(5000, 5000, "outside")]), "no upright text.*outside the page"),
        (PdfPage([(100, 700, "\x01\x02\x03\x04 ab")]), "unreadable text layer: 4 of 6"),
    ],
)
def test_a_page_without_usable_text_says_why(tmp_path, page, message):
    with pytest.raises(Rejected, match=message):
        read(write_pdf(tmp_path / "a.pdf", [page]))


def test_a_file_that_cannot_be_used_is_one_ref_that_says_why(tmp_path):
    whole = write_pdf(tmp_path / "whole.pdf", [rows("good")] * 3).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[:200])
    (tmp_path / "empty.pdf").write_bytes(b"")
    (tmp_path / "text.pdf").write_text("no PDF at all")
    (tmp_path / "gone.pdf").symlink_to("nowhere.pdf")
    write_pdf(tmp_path / "locked.pdf", [rows("secret")], password=True)
    write_pdf(tmp_path / "nothing.pdf", [])
    pdf = source(tmp_path)
    told = {}
    for ref in pdf.refs():
        assert len(pdf.page_ids(ref)) == (3 if ref.path.name == "whole.pdf" else 1)
        if ref.path.name != "whole.pdf":
            assert pdf.page_ids(ref) == (ref.id,)
            with pytest.raises(ImageError) as caught:
                pdf.page(ref, 0)
            told[ref.path.stem] = str(caught.value)
    assert "damaged or cut short" in told["cut"] and "damaged or cut short" in told["text"]
    assert "password" in told["locked"] and "no such file" in told["gone"] and set(told) >= {"empty", "nothing"}


def test_a_page_without_area_is_refused(tmp_path):
    file = write_pdf(tmp_path / "a.pdf", [PdfPage([(1, 1, "x")], size=(0, 0)), rows("fine")])
    try:
        page = read(file)  # PDFium gives such a page the size of a letter
    except ValueError as error:
        assert "points large" in str(error) or "outside" in str(error)
    else:
        assert min(page.image.size) > 0
    assert text_of(read(file, 1)) == "fine"


@pytest.mark.parametrize(("option", "value"), [("dpi", 5), ("dpi", 9000), ("window", 0)])
def test_options_that_make_no_sense_are_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option}={value}"):
        source(tmp_path, **{option: value})


def test_a_folder_without_pdfs_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no PDF file"):
        source(tmp_path).refs()
    assert SOURCES.get("pdf") is PdfSource
