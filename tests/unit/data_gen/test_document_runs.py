"""Runs over pages as people start them: outputs, faults, resuming, processes, formats, and what reads them."""

import json
import re

import pytest
import yaml
from PIL import Image, ImageDraw, ImageFont

from data_gen.__main__ import main
from data_gen.config import plan_run
from data_gen.mix.config import read_config
from data_gen.mix.run import mix
from data_gen.pipeline import generate
from llava_som.config_file import read_options
from llava_som.data.page_record import PageRecord
from llava_som.data.schema import Sample
from llava_som.data.sources import load_records
from llava_som.data.text_boxes import decode_boxes
from llava_som.viewer.readers import open_dataset
from tests.unit.data_gen.inputs import lines, tree
from tests.unit.data_gen.pdf_files import PdfPage, rows, write_note, write_pdf, write_report


def report(tmp_path, **options):
    folder = write_report(tmp_path / "pdfs")
    return {"source": "pdf", "recipe": "document", "images": folder, "dpi": 72, "out": tmp_path / "out", **options}


def data(out):
    return json.loads((out / "data.json").read_text())


def test_a_pdf_becomes_records_that_its_sidecars_prove(tmp_path):
    summary = generate(report(tmp_path, formats="docowl"))
    out, samples = tmp_path / "out", data(tmp_path / "out")
    assert summary["records"] == len(samples) and summary["images"] == 3 and summary["rejected"] == 0
    by_task = {sample["task"]: sample for sample in samples}
    parsed = [sample for sample in samples if sample["task"] == "parse"]
    assert [sample["image"] for sample in parsed] == [f"images/report.pdf/{k:04d}.png" for k in (1, 2, 3)]
    first = "Annual report 2024\nThe society had 312 members in May.\nSeven walks were led along the coast.\nPage 1"
    assert parsed[0]["conversations"][1]["value"] == f"<doc> {first} </doc>"
    assert {"continue", "parse_pages", "look_up_pages"} < set(by_task)
    assert by_task["parse_pages"]["image"] == [sample["image"] for sample in parsed]
    for sample in samples:
        assert all((out / image).is_file() for image in Sample.from_record(sample).images)
        if sample["task"].endswith("bbox"):
            record = PageRecord.load(out / sample["image"].replace(".png", ".page.json"))
            asked, answered = (turn["value"] for turn in sample["conversations"][:2])
            (box,) = decode_boxes(answered, record.size)
            (text,) = re.findall(r"<ocr> (.*) </ocr>", asked, re.DOTALL)
            inside = [word.text for word in record.words if box[0] - 1 < word.box[0] and word.box[2] < box[2] + 1
                      and box[1] - 1 < word.box[1] and word.box[3] < box[3] + 1]  # fmt: skip
            assert inside == text.split()
    assert Image.open(out / parsed[0]["image"]).size == (612, 792)
    assert not (out / "eval.jsonl").exists()


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(tmp_path):
    for name, options in {"a": {}, "b": {"workers": 2}, "c": {"seed": 1}}.items():
        generate(report(tmp_path, window=2, out=tmp_path / name / "out", **options))
    a, b, c = (tree(tmp_path / name) for name in "abc")
    assert a == b and a["out/data.json"] != c["out/data.json"]
    assert a["out/images/report.pdf/0001.png"] == c["out/images/report.pdf/0001.png"]


def test_a_run_is_resumed_extended_and_made_again_where_a_file_changed(tmp_path):
    write_pdf(tmp_path / "pdfs" / "z.pdf", [rows("Zebra crossing", "is closed today")])
    options = report(tmp_path, window=2)
    generate({**options, "limit": 1})
    at = (tmp_path / "out/images/report.pdf/0001.png").stat().st_mtime_ns
    assert generate(options)["images"] == 4
    assert (tmp_path / "out/images/report.pdf/0001.png").stat().st_mtime_ns == at
    write_pdf(tmp_path / "pdfs" / "z.pdf", [rows("Yak", "is open today")])
    generate(options)
    assert "Yak" in json.dumps(data(tmp_path / "out")) and "Zebra" not in json.dumps(data(tmp_path / "out"))
    assert (tmp_path / "out/images/report.pdf/0001.png").stat().st_mtime_ns == at
    (tmp_path / "out/images/report.pdf/0003.page.json").unlink()
    generate(options)
    assert (tmp_path / "out/images/report.pdf/0003.page.json").exists()
    with pytest.raises(ValueError, match=r"another source.dpi: 72 there, 100 here"):
        generate({**options, "dpi": 100})
    with pytest.raises(ValueError, match=r"another recipe.document.bundle: 5 there, 2 here"):
        generate({**options, "bundle": 2})


def test_every_page_that_cannot_be_used_is_one_reject_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "pdfs"
    good = rows("A good page", "of two lines")
    reserved = rows("We write <image> for", "a picture")
    write_pdf(folder / "mixed.pdf", [good, PdfPage(), reserved, rows("Another good page", "of two lines")])
    write_pdf(folder / "locked.pdf", [good], password=True)
    (folder / "cut.pdf").write_bytes((folder / "mixed.pdf").read_bytes()[:300])
    summary = generate(report(tmp_path))
    told = [(line["file"], line["kind"]) for line in lines(tmp_path / "out" / "rejects.jsonl")]
    assert sorted(told) == [
        ("cut.pdf", "unusable page"),
        ("locked.pdf", "unusable page"),
        ("mixed.pdf", "no text layer"),
        ("mixed.pdf", "reserved words"),
    ]
    reasons = [line["reason"] for line in lines(tmp_path / "out" / "rejects.jsonl")]
    assert any(reason.startswith("mixed.pdf/0002: no text layer") and "source=ocr" in reason for reason in reasons)
    assert summary["images"] == 5 and summary["rejected"] == 4
    (multi,) = [s for s in data(tmp_path / "out") if s["task"] == "look_up_pages" and "mixed" in s["id"]]
    assert multi["image"] == ["images/mixed.pdf/0001.png", "images/mixed.pdf/0004.png"]


def test_a_page_that_no_task_suits_is_told(tmp_path):
    summary = generate(
        {"source": "charts", "recipe": "document", "count": 2, "tasks": "continue", "out": tmp_path / "out"}
    )
    assert summary["records"] == 0 and summary["rejected_by_reason"] == {"nothing to ask": 2}
    assert "no task suits a chart" in lines(tmp_path / "out" / "rejects.jsonl")[0]["reason"]


def test_html_tables_are_drawn_and_broken_ones_told(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    (folder / "a.html").write_text("<table><tr><th>City<th>Cost<tr><td>Cork<td>12</table><table><tr><td>x</table>")
    (folder / "b.html").write_text("<p>nothing</p>")
    (folder / "c.html").write_text("<table><tr><td>a<td rowspan=2>b<tr><td colspan=2>over</table>")
    (folder / "d.html").write_text("<table><tr><th>עיר<th>מחיר<tr><td>חיפה<td>12</table>")
    (folder / "e.html").write_bytes(b"<table><tr><td>\xff\xfe</table>")
    summary = generate({"source": "tables", "recipe": "document", "html": folder, "out": tmp_path / "out"})
    parsed = [s["conversations"][1]["value"] for s in data(tmp_path / "out") if s["task"] == "parse"]
    assert parsed[0] == "<md> | City | Cost |\n| --- | --- |\n| Cork | 12 | </md>" and len(parsed) == 2
    reasons = {line["file"]: line["reason"] for line in lines(tmp_path / "out" / "rejects.jsonl")}
    assert summary["rejected"] == 4 == len(reasons)
    assert "has no <table>" in reasons["b.html"] and "reaches into another" in reasons["c.html"]
    assert re.search("right-to-left|cannot draw", reasons["d.html"]) and "UTF-8" in reasons["e.html"]


def test_pages_are_not_written_among_the_html_they_are_made_from(tmp_path):
    file = tmp_path / "html" / "a.html"
    file.parent.mkdir()
    file.write_text("<table><tr><th>City<th>Cost<tr><td>Cork<td>12</table>")
    options = {"source": "tables", "recipe": "document", "out": tmp_path / "html" / "out"}
    with pytest.raises(ValueError, match=r"html/out lies inside .*html, which is input"):
        generate({**options, "html": file.parent})
    assert generate({**options, "html": file})["images"] == 1


@pytest.mark.parametrize("source", ["tables", "charts"])
def test_drawn_pages_are_the_same_whatever_comes_after_them(tmp_path, source):
    for name, count in (("few", 2), ("more", 3)):
        generate({"source": source, "recipe": "document", "count": count, "out": tmp_path / name})
    few, more = data(tmp_path / "few"), data(tmp_path / "more")
    assert few == more[: len(few)] and more[0]["conversations"][1]["value"].startswith("<md> | ")


def test_ocr_reads_scans_and_photos_and_refuses_what_lies_on_its_side(tmp_path):
    options = {"source": "ocr", "recipe": "document", "tasks": "parse", "images": write_note(tmp_path / "scans")}
    font = ImageFont.load_default(28)
    page = Image.new("RGB", (300, 240), "white")
    ImageDraw.Draw(page).text((20, 20), "Nobody may enter\nbefore sunrise", "black", font)
    page.quantize(4).save(tmp_path / "scans" / "palette.png")
    page.rotate(90, expand=True).save(tmp_path / "scans" / "turned.png")
    generate({**options, "out": tmp_path / "out"})
    parsed = {sample["id"]: sample["conversations"][1]["value"] for sample in data(tmp_path / "out")}
    assert parsed["palette:parse"] == "<doc> Nobody may enter\nbefore sunrise </doc>"
    assert parsed["note.pdf/0001:parse"] == "<doc> Please return\nthe blue kayak </doc>"
    assert [line["kind"] for line in lines(tmp_path / "out" / "rejects.jsonl")] == ["turned page"]
    (tmp_path / "captions.json").write_text('{"palette.png": "A sign  at a gate."}')
    photos = {"kind": "photo", "captions": tmp_path / "captions.json", "images": tmp_path / "scans" / "palette.png"}
    generate({**options, **photos, "out": tmp_path / "photos"})
    (sample,) = data(tmp_path / "photos")
    assert sample["conversations"][1]["value"] == "A sign at a gate. <ocr> Nobody may enter\nbefore sunrise </ocr>"
    (tmp_path / "captions.json").write_text('{"scans/palette.png": "A sign."}')
    with pytest.raises(ValueError, match=r"'scans/palette.png' is no file in .*scans. Name images by"):
        generate({**options, **photos, "out": tmp_path / "none"})


def test_docowl_lines_say_the_same_and_can_be_mixed(tmp_path):
    generate(report(tmp_path, formats=["docowl"]))
    out, samples = tmp_path / "out", data(tmp_path / "out")
    records = list(load_records(out / "docowl.jsonl"))
    assert len(records) == len(samples)
    for record, sample in zip(records, samples, strict=True):
        assert set(record) == {"id", "image", "messages", "task_name", "dataset_name"}
        assert str(record["messages"]).count("<|image|>") == len(record["image"]) and record["dataset_name"] == "pdf"
        assert record["task_name"] == f"{sample['task']}_sft"
        assert Sample.from_record(record) == Sample.from_record(sample)
    config = {"files": [str(out / "docowl.jsonl"), str(out / "data.json")], "out": str(tmp_path / "mix.json")}
    summary = mix(read_config({**config, "shuffle": False}))
    mixed = list(load_records(tmp_path / "mix.json"))
    assert summary["records"] == 2 * len(samples) == len(mixed)
    for first, second in zip(mixed, mixed[len(samples) :], strict=False):
        assert Sample.from_record(first).messages == Sample.from_record(second).messages
        assert all((out / image).is_file() for image in Sample.from_record(first).images)


def test_marked_images_can_be_written_in_docowls_form_too(tmp_path):
    generate({"source": "scenes", "count": 2, "marks": {"short_side": 96}, "formats": "docowl", "out": tmp_path})
    record = next(load_records(tmp_path / "docowl.jsonl"))
    assert record["task_name"] == "listing_sft" and record["messages"][0]["content"].startswith("<|image|>")


def test_the_card_tells_of_pages_and_its_recipe_makes_the_same_bytes(tmp_path):
    generate({"source": "tables", "recipe": "document", "count": 3, "merged": 0.9, "out": str(tmp_path / "first")})
    body = (tmp_path / "first" / "README.md").read_text()
    assert "Pages and" in body and "marks" not in body and "0 to 999" in body
    assert yaml.safe_load(body.split("---")[1])["tags"][0] == "document-understanding"
    (tmp_path / "recipe.yaml").write_text(body.rsplit("```yaml\n", 1)[1].split("```")[0])
    generate(read_options([str(tmp_path / "recipe.yaml"), f"out={tmp_path / 'again'}"]))
    assert (tmp_path / "again/data.json").read_bytes() == (tmp_path / "first/data.json").read_bytes()


def test_the_viewer_shows_pages_with_their_words(tmp_path):
    generate(report(tmp_path))
    for path in (tmp_path / "out", tmp_path / "out" / "docowl.jsonl"):
        if path.suffix:
            generate(report(tmp_path, formats="docowl"))
            (tmp_path / "out" / "records.jsonl").rename(tmp_path / "records.kept")
        dataset = open_dataset(path)
        view = dataset.view(0, lambda number, position, file: file.name)
        assert view["images"][0]["size"] == (612, 792) and view["images"][0]["words"][0][4] == "Annual"
        assert not view["problems"] and "parse" in view["recipes"][0] + view["samples"][0]["recipe"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "report.pdf/0001.png" in page and "Annual" in page


def test_a_dry_run_reads_some_pages_and_writes_nothing(tmp_path, capsys):
    write_pdf(tmp_path / "pdfs" / "blank.pdf", [PdfPage()])
    words = [f"{key}={value}" for key, value in report(tmp_path).items()]
    assert main([*words, "dry_run=true"]) == 0 and not (tmp_path / "out").exists()
    foreseen = capsys.readouterr().out
    assert re.match(r"4 pages, about (\d+) records, about \d+ s .*\nEstimated from 4 pages \(1 of them", foreseen)
    assert main(words) == 0
    (records,) = re.findall(r"about (\d+) records", foreseen)
    assert f"{records} records with 54 words on 3 pages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "listing"},
            "recipe=listing needs marked regions, and source=tables gives pages. .*recipe=document",
        ),
        ({"source": "scenes"}, "recipe=document needs pages, and source=scenes gives marked .*source=charts, ocr, pdf"),
        ({"recipe": ["document", "qa"]}, "recipe=qa needs marked regions"),
        ({"preset": "ui"}, "preset=ui: source=tables gives pages"),
        ({"marks": {"font_px": 9}}, "marks=.*source=tables gives pages"),
        ({"twins": True}, "twins=True: source=tables gives pages"),
        ({"near_duplicates": 3}, "near_duplicates=3: source=tables gives pages"),
        ({"annotator": "openai_compatible", "model": "m"}, "annotator=openai_compatible: .*hold the answers"),
        ({"formats": ["parquet"]}, r"formats=\[parquet\]: .*formats=\[docowl\]"),
        ({"tasks": []}, r"tasks=\[\]: name at least one"),
        ({"grains": ["word", "word"]}, "each once"),
        ({"tasks": "prase"}, "tasks=.*Input should be 'parse'"),
        ({"bundle": 0}, "bundle=0"),
        ({"min_word_area": 2}, "min_word_area=2"),
        ({"html": "/nowhere"}, "html=/nowhere: no such file"),
        ({"html": ".", "count": 3}, "count=3: every table of html=."),
        ({"merged": 3}, "merged=3"),
        ({"count": 0}, "count=0"),
        ({"source": "charts", "charts": []}, r"charts=\[\]: name at least one of bar"),
        ({"source": "charts", "count": 0}, "count=0"),
        ({"source": "ocr", "images": ".", "min_score": 5}, "min_score=5"),
        ({"source": "ocr", "images": ".", "captions": "x.json"}, "captions=x.json: belong to kind=photo"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        plan_run({"source": "tables", "recipe": "document", "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()
