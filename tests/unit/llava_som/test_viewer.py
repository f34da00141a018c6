import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from PIL import Image

from data_gen.writers.files import save_image
from llava_som import show
from llava_som.marks import PRESETS, mark_image
from llava_som.marks.record import MarkRecord, RecordedRegion, SkippedRegion
from llava_som.viewer import readers
from llava_som.viewer.readers import open_dataset
from llava_som.viewer.records import ANY_REJECT, NO_REJECT, Query
from llava_som.viewer.server import LIST_LENGTH, Viewer
from llava_som.viewer.static import chosen, spread, write_dataset_page, write_page

from .viewer_data import HOSTILE, SURROGATE, blocks, reject, sample, write_dataset, write_journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("viewer") / "run")


def view(dataset, record_id):
    return dataset.view(
        ids(dataset).index(record_id), lambda number, position, file: f"{number}/{position}/{file.name}"
    )


def ids(dataset):
    return [facts.id for facts in dataset.facts]


def test_a_run_is_shown_in_its_own_order_with_all_it_knows(folder):
    dataset = open_dataset(folder)
    assert ids(dataset) == ["voc", "blocks", "refused", "broken", HOSTILE, SURROGATE]
    photo = view(dataset, "voc")
    record = MarkRecord.load(folder / "images" / "voc.marks.json")
    assert [mark["rle"] for mark in photo["marks"]] == [mark.rle for mark in record.marks]
    assert [region["reason"] for region in photo["skipped"]] == [region.reason for region in record.skipped]
    assert (photo["size"], photo["preset"], photo["tags"]) == (record.size, record.preset.name, len(record.marks))
    assert [(image["label"], image["url"]) for image in photo["images"]] == [
        ("tagged", "0/0/voc.jpg"),
        ("clean", "0/1/voc.jpg"),
    ]
    assert [(made["shows"], made["recipe"]) for made in photo["samples"]] == [
        ("tagged", "listing"),
        ("clean", "listing"),
    ]
    assert photo["samples"][0]["turns"][0] == {"from": "human", "value": "<image>\nWhat does each number mark?"}
    assert view(dataset, "blocks")["marks"][0]["trace"][0] == (400.0, 320.0)  # ten times the pixels of the drawing
    broken = view(dataset, "broken")
    assert (broken["images"], broken["marks"], broken["accepted"], broken["thumbnail"]) == ([], [], False, None)
    assert broken["rejects"] == [reject("unusable image", "broken.jpg is cut short", recipe=None)]
    assert (broken["sources"], broken["problems"]) == (("coco",), [])  # the run's, where the entry does not say


def test_a_run_under_way_can_be_looked_at(folder, tmp_path):
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    again = json.dumps({"id": "voc", "samples": [], "rejects": [reject("few words", "now")]}) + "\n"
    (tmp_path / "records.jsonl").write_text("".join([*lines[:4], again]) + lines[4][:30])
    dataset = open_dataset(tmp_path)
    assert ids(dataset) == ["voc", "blocks", "refused"]
    assert dataset.facts[0].kinds == ("few words",)  # the later entry counts; the line without its end is not there yet
    (tmp_path / "records.jsonl").write_text("".join([*lines[:2], lines[2][:30] + "\n", *lines[3:]]))
    with pytest.raises(ValueError, match=r"records.jsonl: line 3 is damaged"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), ["voc", "blocks", "refused", "broken", HOSTILE, SURROGATE]),
        (Query(source="scenes"), ["blocks", "refused"]),
        (Query(source="coco", recipe="listing"), ["voc", SURROGATE]),
        (Query(recipe="qa"), ["blocks", "refused", HOSTILE]),
        (Query(kind=NO_REJECT), ["voc", SURROGATE]),
        (Query(kind=ANY_REJECT), ["blocks", "refused", "broken", HOSTILE]),
        (Query(kind="few words"), ["blocks"]),
        (Query(min_tags=1, max_tags=2), ["blocks", "refused", HOSTILE, SURROGATE]),
        (Query(max_tags=0), ["broken"]),
        (Query(text="CUT short"), ["broken"]),  # a reason
        (Query(text="a ghost"), ["refused"]),  # a refused answer
        (Query(text="1999"), ["blocks"]),  # a turn
        (Query(text="voc"), ["voc"]),  # an id
        (Query(text=SURROGATE[:4]), [SURROGATE]),
        (Query(text="conversations"), []),  # the name of a field is no text of a record
    ],
)
def test_filters(folder, query, found):
    dataset = open_dataset(folder)
    assert [dataset.facts[number].id for number in dataset.select(query)] == found


def test_facets_count_records(folder):
    facets = open_dataset(folder).facets
    assert facets["sources"] == {"coco": 3, "scenes": 2, "boxes": 1, HOSTILE: 1}
    assert facets["recipes"] == {"listing": 3, "qa": 3, HOSTILE: 1}
    assert facets["kinds"] == {"few words": 1, "unknown tag": 1, "unusable image": 1, HOSTILE: 1}
    assert (facets["rejected"], facets["most_tags"]) == (4, open_dataset(folder).facts[0].tags)


def test_a_folder_of_tagged_images(folder, tmp_path):
    shutil.copytree(folder / "images", tmp_path / "tagged" / "deep")
    (tmp_path / "tagged" / "deep" / "blocks.marks.json").write_text("{}")
    (tmp_path / "tagged" / "rejects.jsonl").write_text(
        json.dumps({"id": "bad", "file": "bad.png", **reject("unusable image", "not an image", recipe=None)}) + "\n"
    )
    dataset = open_dataset(tmp_path / "tagged")
    assert ids(dataset) == ["bad", "deep/blocks", f"deep/{SURROGATE}", "deep/hostile", "deep/refused", "deep/voc"]
    assert {facts.id: facts.kinds for facts in dataset.facts if facts.kinds} == {
        "bad": ("unusable image",),
        "deep/blocks": ("unreadable sidecar",),
    }
    photo = view(dataset, "deep/voc")
    assert (photo["sources"], photo["samples"], photo["thumbnail"]) == (("coco",), [], "5/0/voc.jpg")
    assert photo["tags"] == len(photo["marks"]) > 15
    assert [dataset.facts[number].id for number in dataset.select(Query(text="bottle"))] == [
        "deep/voc"
    ]  # in the sidecar


def test_data_files_of_any_kind(folder, tmp_path):
    assert ids(open_dataset(folder / "data.json")) == ids(open_dataset(folder))  # of a run: the run, rejects and all
    blocks()[0].save(tmp_path / "plain.tif")
    shutil.copy(folder / "images" / "blocks.jpg", tmp_path / "marked.jpg")
    shutil.copy(folder / "images" / "blocks.marks.json", tmp_path / "marked.marks.json")
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}, "odd"]
    rows = [
        {"id": 7, "image": "marked.jpg", "conversations": [{"from": "human", "value": "Name 1."}]},
        {"images": ["plain.tif", "absent.jpg", "../../etc/passwd", "\ud800.jpg"], "messages": chat, "recipe": "chat"},
        {"conversations": "no list"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = open_dataset(tmp_path / "rows.jsonl")
    assert ids(dataset) == ["7", "rows.jsonl:2", "rows.jsonl:3"]
    assert [facts.tags for facts in dataset.facts] == [2, 0, 0]
    assert [mark["label"] for mark in view(dataset, "7")["marks"]] == ["1", "2"]
    several = view(dataset, "rows.jsonl:2")
    assert [image["label"] for image in several["images"]] == ["image 1", "image 2", "image 3", "image 4"]
    problems = ["", "no such file", "outside the image root", "surrogates not allowed"]
    assert all(map(str.__contains__, [image.get("problem", "") for image in several["images"]], problems))
    said = [{"from": "human", "value": "<image>What?"}, {"from": "unknown", "value": "odd"}]
    assert several["samples"][0]["turns"] == said
    assert view(dataset, "rows.jsonl:3")["samples"][0]["turns"] == [{"from": "unknown", "value": "no list"}]
    page = write_dataset_page(dataset, tmp_path / "page.html", 5).read_text()
    assert "data:image/jpeg;base64," in page  # browsers show no TIFF
    (tmp_path / "elsewhere").mkdir()
    elsewhere = shutil.move(tmp_path / "rows.jsonl", tmp_path / "elsewhere")
    assert view(open_dataset(elsewhere, tmp_path), "7")["thumbnail"] == "0/0/marked.jpg"


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset: there is no records.jsonl"):
        open_dataset(tmp_path)
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no record"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="no such data file"):
        open_dataset(tmp_path / "absent.json")


def test_twenty_thousand_records_open_by_reading_one_file(tmp_path, monkeypatch):
    def entry(number):
        made = {"id": f"{number:06}", "image": f"images/{number:06}.jpg", "sidecar": "absent", "marks": number % 30}
        return {**made, "samples": [sample(made, f"1. thing {number}")], "rejects": []}

    write_journal(tmp_path, map(entry, range(20_000)))
    touched = []
    monkeypatch.setattr(MarkRecord, "load", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(Path, "is_file", lambda path, is_file=Path.is_file: touched.append(path) or is_file(path))
    dataset = open_dataset(tmp_path)
    with served(dataset) as get:
        last = get("/api/index?min=29&offset=650")[1]
        found = get("/api/index?q=thing+1999&record=19990")[1]
    assert (last["matched"], len(last["records"]), last["records"][-1]["id"]) == (666, 16, "019979")
    assert (found["matched"], found["position"], found["offset"]) == (11, 1, 0)
    assert len(touched) <= 10 + 2 * LIST_LENGTH


@contextmanager
def served(dataset, host="127.0.0.1"):
    """A function that gets an address of a running server: (status, JSON or bytes)."""
    with Viewer(dataset, host) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def get(address, **headers):
            connection = HTTPConnection("127.0.0.1", viewer.server_address[1])
            connection.request("GET", address, headers=headers)
            response = connection.getresponse()
            content = response.read()
            assert response.getheader("X-Content-Type-Options") == "nosniff"
            return response.status, json.loads(content) if "json" in response.getheader("Content-Type") else content

        try:
            yield get
        finally:
            viewer.shutdown()
            thread.join()


def test_the_server_pages_through_a_list(folder, monkeypatch):
    monkeypatch.setattr("llava_som.viewer.server.LIST_LENGTH", 2)
    with served(open_dataset(folder)) as get:
        thumbnails = [get("/api/index")[1]["records"][0]["thumbnail"]]
        with served(open_dataset(folder)) as get_other:
            thumbnails.append(get_other("/api/index")[1]["records"][0]["thumbnail"])
        assert thumbnails[0] != thumbnails[1]  # browsers keep images by their address
        assert b"<!doctype html>" in get("/")[1]
        second = get("/api/index?offset=2")[1]
        assert [record["id"] for record in second["records"]] == ["refused", "broken"]
        holding = get("/api/index?kind=(any)&record=3")[1]
        assert (holding["offset"], holding["position"], holding["matched"]) == (2, 2, 4)
        assert get("/api/index?kind=(any)&record=0")[1]["position"] is None  # it has no reject
        assert get("/api/index?offset=100")[1]["records"] == []
        record = get("/api/record?number=5")[1]
        assert record["id"] == SURROGATE
        status, image = get("/" + record["images"][0]["url"])
        assert (status, image) == (200, (folder / "images" / f"{SURROGATE}.jpg").read_bytes())


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/image/0/0/../../records.jsonl", 404),
        ("/image/..%2f..%2frecords.jsonl/0", 400),
        ("/image/-1/0", 400),
        ("/image/0/7", 404),
        ("/image/99/0", 404),
        ("/image/²/0", 400),
        ("/records.jsonl", 404),
        ("//etc/passwd", 404),
        ("/../../../../etc/passwd", 404),
        ("/api/record", 400),
        ("/api/record?number=99", 404),
        ("/api/index?min=few", 400),
        ("/api/index?offset=" + 99 * "9", 400),
    ],
)
def test_other_addresses_are_refused(folder, address, status):
    with served(open_dataset(folder)) as get:
        assert get(address.replace("²", "%C2%B2"))[0] == status


def test_only_files_of_the_dataset_are_served_and_only_to_this_machine(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("secret")
    (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    rows = [{"image": [str(tmp_path / "secret.jpg"), "../secret.jpg", "link.jpg", "notes.txt"], "conversations": []}]
    (tmp_path / "data" / "data.json").write_text(json.dumps(rows))
    with served(open_dataset(tmp_path / "data")) as get:
        answers = [get(f"/image/0/{position}") for position in range(4)]
        assert [status for status, _ in answers] == [400] * 4
        assert "not an image" in answers[3][1]["error"]
        assert get("/", Host="evil.example:80")[0] == 400  # a name of somebody else's that points here
        assert get("/", Host="localhost:1")[0] == 200
    with served(open_dataset(tmp_path / "data"), host="0.0.0.0") as get:
        assert get("/", Host="workstation.example")[0] == 200  # asked for by naming the host


def test_a_page_holds_hostile_text_and_file_names_as_data(folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    journal = [json.loads(line) for line in (moved / "records.jsonl").read_text().splitlines()][1:]
    page = write_page(moved, journal, 24)
    assert page == moved / "index.html"
    text = page.read_text()
    assert text.count("</script") == 2  # the data's and the program's
    assert "onerror=" not in text.replace('onerror=\\"', "")  # only as a JSON string
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [record["id"] for record in data["records"]] == ids(open_dataset(folder))
    hostile = data["records"][4]
    assert (hostile["rejects"][0]["answer"], hostile["marks"][0]["category"]) == (HOSTILE, HOSTILE)
    assert data["records"][5]["sources"] == ["boxes", "scenes"]  # its entry does not say; its sidecar does
    links = [image["url"] for record in data["records"] for image in record["images"]]
    assert len(links) == 6
    assert [link for link in links if not (moved / os.fsdecode(unquote_to_bytes(link))).is_file()] == []
    assert page.read_bytes() == write_page(moved, journal, 24).read_bytes()
    assert list(moved.glob(".*")) == []


def test_a_page_of_few_records_shows_rejected_ones_too(tmp_path):
    entries = [
        {"id": str(k), "samples": [], "rejects": [reject("few words", "x")] if k == 90 else []} for k in range(100)
    ]
    dataset = readers.run_dataset(tmp_path, entries)
    assert chosen(dataset, 8) == [0, 14, 28, 42, 56, 70, 84, 90]
    assert chosen(dataset, 1000) == list(range(100))
    assert spread([5, 6, 7], 2) == [5, 6]
    mostly_rejected = [{**entry, "rejects": [reject("few words", "x")] * (k > 1)} for k, entry in enumerate(entries)]
    assert chosen(readers.run_dataset(tmp_path, mostly_rejected[:12]), 8) == [0, 1, 2, 3, 5, 7, 8, 10]
    with pytest.raises(ValueError, match="count=0"):
        write_dataset_page(dataset, tmp_path / "page.html", 0)
    assert '"records":[]' in write_page(tmp_path, [], 24).read_text()


def test_show_writes_a_page_and_reports_a_port_that_is_taken(folder, tmp_path, capsys):
    show.show_dataset(folder, out=tmp_path / "new" / "page.html", count=2)
    page = tmp_path / "new" / "page.html"
    assert f"written: {page}" in capsys.readouterr().out
    link = re.search(r'"thumbnail":"([^"]+)"', page.read_text())[1]
    assert Image.open(page.parent / link).size[1] == 640
    with Viewer(open_dataset(folder)) as first, pytest.raises(ValueError, match="--port"):
        show.show_dataset(folder, port=first.server_address[1])
    with pytest.raises(ValueError, match="port=99999"):
        Viewer(open_dataset(folder), port=99999)


def test_images_stored_in_parquet_are_shown(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    blocks()[0].save(tmp_path / "a.png")
    stored = pyarrow.array(
        [{"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}],
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    turns = [[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Blocks."}]]
    parquet.write_table(pyarrow.table({"id": ["a"], "image": stored, "conversations": turns}), tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path / "x.parquet")
    content, kind = dataset.image(0, 0)
    assert (content[:2], kind) == (b"\xff\xd8", "image/jpeg")
    assert dataset.view(0, lambda *_: "here")["samples"][0]["turns"][1]["value"] == "Blocks."
    folder = open_dataset(tmp_path)  # of shards
    assert (folder.name, ids(folder), folder.image(0, 0)) == (tmp_path.name, ["a"], (content, kind))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"id": "a", "image": "a.png", "sidecar": "a.marks.json"},
            "lists images and their sidecars, for `llava-som ev",
        ),
        ({"id": "a", "kind": "few words", "reason": "few words: 1"}, "lists what was rejected"),
        ({"id": "a", "image": "a.png"}, "holds records without conversations"),
    ],
)
def test_a_list_without_conversations_is_refused_with_the_folder_to_show(tmp_path, record, said):
    (tmp_path / "eval.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=f"eval.jsonl: {said}.*show {tmp_path}$"):
        open_dataset(tmp_path / "eval.jsonl")


def test_a_part_of_a_run_that_cannot_be_shown_points_at_the_run(folder, tmp_path):
    shutil.copy(folder / "records.jsonl", tmp_path)
    (tmp_path / "shards").mkdir()
    with pytest.raises(ValueError, match=f"no dataset.*show {tmp_path}$"):
        open_dataset(tmp_path / "shards")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png"])
def test_marks_are_drawn_again_with_the_bytes_of_the_first_time(tmp_path, suffix):
    picture, regions = blocks()
    picture.save(tmp_path / "clean.png")
    marked = mark_image(picture, regions, PRESETS["clear"])
    first = save_image(marked.image, tmp_path, f"first{suffix.replace('e', '')}")
    sidecar = marked.record.save(tmp_path / "first.marks.json")
    show.show_marks(sidecar, tmp_path / "clean.png", tmp_path / f"again{suffix}")
    assert (tmp_path / f"again{suffix}").read_bytes() == first.read_bytes()
    with pytest.raises(ValueError, match=r"\.jpg or \.png"):
        show.show_marks(sidecar, tmp_path / "clean.png", tmp_path / "again.gif")


def test_regions_left_out_for_the_same_reason_are_one_line(folder):
    record = MarkRecord.load(folder / "images" / "voc.marks.json")
    seen = record.marks[0].model_dump(include={*RecordedRegion.model_fields} - {"category"})
    skipped = [SkippedRegion(**seen, category=name, reason="too many") for name in ("cup", "cat", "cup", None)]
    skipped.append(SkippedRegion(**seen, category="dog", reason="too small"))
    assert show.skipped_lines(record.model_copy(update={"skipped": skipped})) == [
        "skipped: 4 regions (2 cup, 1 cat, 1 without a name): too many",
        "skipped: dog: too small",
    ]
