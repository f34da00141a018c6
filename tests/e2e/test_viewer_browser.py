"""The viewer in a real browser, from a file and from its server: what lights up, what is listed, what keys do."""

import json
import os
import threading
from contextlib import closing

import numpy as np
import pytest

from llava_som.marks.rle import decode_rle, encode_rle
from llava_som.viewer.readers import open_dataset, run_dataset
from llava_som.viewer.server import LIST_LENGTH, Viewer
from llava_som.viewer.static import write_dataset_page
from tests.unit.llava_som.viewer_data import HOSTILE, SURROGATE, write_dataset

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = playwright.expect
pytestmark = pytest.mark.e2e

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    with (
        playwright.sync_playwright() as driver,
        closing(driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)) as started,  # with a new, empty profile
    ):
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("viewer") / "run")


def serve(dataset):
    viewer = Viewer(dataset)
    threading.Thread(target=viewer.serve_forever, daemon=True).start()
    return viewer


@pytest.fixture(scope="module")
def addresses(folder):
    dataset = open_dataset(folder)
    viewer = serve(dataset)
    yield {"file": write_dataset_page(dataset, folder / "index.html", 24).as_uri(), "server": viewer.url}
    viewer.shutdown()
    viewer.server_close()


@pytest.fixture
def tab(browser):
    """A function that opens an address; what the page reports as an error fails the test."""
    tabs, errors = [], []

    def open_tab(address):
        made = browser.new_page(viewport={"width": 1400, "height": 900})
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        made.set_default_timeout(10_000)
        made.goto(address)
        made.wait_for_selector("h2, .nothing")
        tabs.append(made)
        return made

    yield open_tab
    for made in tabs:
        made.close()
    assert errors == []


@pytest.fixture(params=["file", "server"])
def viewer(request, tab, addresses):
    """The page showing the record of a given position."""
    return lambda number: tab(f"{addresses[request.param]}#record={number}")


def painted(page):
    """Where the canvas is not transparent, bool [H, W]."""
    alpha, width = page.evaluate(
        """() => { const canvas = document.querySelector("canvas"), {width, height} = canvas;
        const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        const shown = Uint8Array.from({length: width * height}, (_, k) => data[4 * k + 3] ? 49 : 48);
        return [new TextDecoder().decode(shown), width]; }"""
    )
    return (np.frombuffer(alpha.encode(), np.uint8) == ord("1")).reshape(-1, width)


def masks(folder, name):
    record = json.loads((folder / "images" / f"{name}.marks.json").read_text())
    return {mark["label"]: decode_rle(mark["rle"]) for mark in record["marks"]}


def lit(page):
    return page.locator(".mention.lit").all_inner_texts(), page.locator("tr.lit td:first-child").all_inner_texts()


def point_at(page, x, y):
    """Move the pointer to a pixel of the marked image."""
    box, canvas = page.locator(".stage").bounding_box(), page.locator("canvas")
    width, height = int(canvas.get_attribute("width")), int(canvas.get_attribute("height"))
    page.mouse.move(box["x"] + (x + 0.5) / width * box["width"], box["y"] + (y + 0.5) / height * box["height"])


def names(page):
    return page.locator("#list .name").all_inner_texts()


def test_pointing_at_a_row_or_its_text_lights_the_mask_and_nothing_else(viewer, folder):
    page, expected = viewer(0), masks(folder, "voc")
    assert len(expected) > 15
    assert not painted(page).any()
    for label in ("9", str(len(expected))):
        page.hover(f"tr[data-key='{label}'] td:nth-child(2)")
        assert (painted(page) == expected[label]).all()
        texts, rows = lit(page)
        assert ([text.split(".")[0] for text in texts], rows) == ([label], [label])
        page.hover("h1")
        assert not painted(page).any()
        page.hover(f".mention[data-key='{label}']")
        assert (painted(page) == expected[label]).all()
    page.hover("h1")
    page.keyboard.press("m")
    assert (painted(page) == np.any(list(expected.values()), axis=0)).all()


def test_pointing_into_the_picture_lights_every_mention(viewer, folder):
    page, expected = viewer(1), masks(folder, "blocks")
    both = np.argwhere(expected["1"] & expected["2"])[0]
    point_at(page, both[1], both[0])
    assert lit(page) == (["tag 1", "1", "1. block"], ["1"])  # the smaller of the two
    assert (painted(page) == expected["1"]).all()
    assert "blue block" in page.inner_text("#caption")
    only_red = np.argwhere(expected["2"] & ~expected["1"])[0]
    point_at(page, only_red[1], only_red[0])
    assert lit(page) == (["[2]", "Mark 2", "2"], ["2"])  # and not 1999
    assert (painted(page) == expected["2"]).all()
    box, canvas = page.locator("svg g.lit rect").bounding_box(), page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert lit(page)[1] == ["2"]  # its tag
    assert canvas["x"] < box["x"] < canvas["x"] + canvas["width"]
    assert page.locator("svg g[data-key='1'] polyline").count() == 2  # the trace and its outline
    point_at(page, 900, 10)
    assert (lit(page), painted(page).any()) == (([], []), False)


def test_a_mark_is_held_by_a_click_or_from_the_keyboard(viewer, folder):
    page, expected = viewer(1), masks(folder, "blocks")
    page.click("tr[data-key='2'] td:nth-child(2)")
    page.hover("h1")
    assert (painted(page) == expected["2"]).all()
    page.keyboard.press("Escape")
    assert not painted(page).any()
    page.focus("button.tag[data-key='1']")
    assert (painted(page) == expected["1"]).all()
    page.keyboard.press("Enter")
    page.evaluate("document.activeElement.blur()")
    assert (painted(page) == expected["1"]).all()
    assert page.get_attribute("button.tag[data-key='1']", "aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert not painted(page).any()


def test_filters_change_the_list_and_the_address_which_brings_the_view_back(viewer):
    page = viewer(0)
    everything = names(page)
    assert len(everything) == 6
    page.select_option("[name=recipe]", "qa")
    expect(page.locator("#list li")).to_have_count(3)
    assert names(page)[:2] == ["blocks", "refused"]
    page.select_option("[name=kind]", "unknown tag")
    expect(page.locator("#list li")).to_have_count(1)
    expect(page.locator("h2")).to_have_text("refused")
    assert "1 of 6 records" in page.inner_text("#status")
    again = page.url
    page.click("button[type=reset]")
    expect(page.locator("#list li")).to_have_count(6)
    page.fill("[name=min]", "3")
    expect(page.locator("#list li")).to_have_count(1)
    assert names(page) == ["voc"]
    page.fill("[name=q]", "nothing like it")
    page.wait_for_selector(".nothing")
    page.goto("about:blank")
    page.goto(again)
    page.wait_for_selector("h2")
    assert (names(page), page.input_value("[name=recipe]")) == (["refused"], "qa")


def test_keys(viewer):
    page = viewer(0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # no need to wait for the first
    expect(page.locator("h2")).to_have_text("refused")
    assert page.locator("#list a[aria-current] .name").inner_text() == "refused"
    for _ in range(3):  # before the first there is none
        page.keyboard.press("ArrowLeft")
    expect(page.locator("h2")).to_have_text("voc")
    tagged = page.get_attribute(".stage img", "src")
    page.keyboard.press("c")
    assert page.get_attribute(".stage img", "src") != tagged
    assert page.locator(".choice [aria-pressed=true]").inner_text() == "clean"
    page.keyboard.press("/")
    page.keyboard.type("cm")  # in the field, keys are letters
    assert page.input_value("[name=q]") == "cm"
    assert page.get_attribute("#all-masks", "aria-pressed") == "false"
    page.keyboard.press("Tab")
    page.go_back()
    assert page.evaluate("document.querySelector('h2, .nothing') !== null")


def test_rejected_records_say_why_and_what_was_answered(viewer):
    page = viewer(2)
    card = page.inner_text(".reject")
    assert all(part in card for part in ("rejected", "qa", "unknown tag", "the answer names tag 9", "9. A ghost"))
    page.hover(".reject .mention")
    assert lit(page) == (["Tag 1 is red."], ["1"])
    page = viewer(3)
    assert "broken.jpg is cut short" in page.inner_text(".reject")
    assert page.locator("img").count() == len(names(page)) - 1


def test_hostile_text_is_shown_and_odd_file_names_are_found(viewer):
    page = viewer(4)
    assert page.inner_text("h2") == HOSTILE
    assert page.locator(".text", has_text="onerror").count() == 3  # two turns and an answer
    assert page.evaluate("window.hacked") is None
    page = viewer(5)
    expect(page.locator(".stage img")).to_have_js_property("naturalHeight", 640)
    assert page.inner_text("h2") == SURROGATE


def test_masks_are_decoded_as_in_python(tab, addresses):
    page, rng = tab(addresses["file"]), np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        mask = rng.random((37, 53)) < density
        mask[:, 20:30] = density > 0.4  # long runs need several groups of bits
        rle = encode_rle(mask)
        flat = mask.T.reshape(-1)
        edges = np.flatnonzero(np.diff(flat)) + 1
        plain = {**rle, "counts": ([0] if flat[0] else []) + np.diff([0, *edges, flat.size]).tolist()}
        for form in (rle, plain):
            found = page.evaluate(
                """rle => { const mask = new Mask(rle), hits = [];
                for (let y = 0; y < mask.height; y++) for (let x = 0; x < mask.width; x++) hits.push(mask.has(x, y));
                return [Array.from(mask.bitmap()), hits, mask.area, mask.has(-1, 0), mask.has(53, 0)]; }""",
                form,
            )
            assert found == [
                mask.astype(int).reshape(-1).tolist(),
                mask.reshape(-1).tolist(),
                int(mask.sum()),
                False,
                False,
            ]


MENTIONS = [
    ("1. a cat\n2. a dog, next to tag 1 here", ["1:1. a cat", "2:2. a dog, next to ", "1:tag 1"]),
    ("- Tag 2 is on a dog", ["2:- Tag 2 is on a dog"]),
    ("It lists 1. cat, 2. dog; 12. cow", ["2:2.", "12:12."]),
    ("Tags 1, 2 and 12 are near mark #2 and object-1.", ["1:1", "2:2", "12:12", "2:mark #2", "1:object-1"]),
    ("left of [12], behind (2), not 7", ["12:[12]", "2:(2)"]),
    ('{"1": "a cat",\n "2": "a dog"}', ['1:"1": "a cat",', '2:"2": "a dog"}']),
    ("In 2012 there were 1 or 2 cats and 12.5 dogs", []),
    ("tag 3 and tag 21 do not exist", []),
]


def test_mentions(tab, addresses):
    page = tab(addresses["file"])
    for text, mentions in MENTIONS:
        pieces = page.evaluate("text => mentionPieces(text, ['1', '2', '12'])", text)
        assert "".join(piece["text"] for piece in pieces) == text
        assert [f"{piece['label']}:{piece['text']}" for piece in pieces if piece["label"] is not None] == mentions


def test_a_long_list_is_turned_page_by_page(tab, tmp_path):
    entries = [{"id": f"r{number}", "samples": [], "rejects": []} for number in range(2 * LIST_LENGTH + 7)]
    server = serve(run_dataset(tmp_path, entries))
    page = tab(f"{server.url}#record={LIST_LENGTH - 1}")
    assert names(page)[0] == "r0"
    page.keyboard.press("ArrowRight")
    expect(page.locator("h2")).to_have_text(f"r{LIST_LENGTH}")
    assert names(page)[0] == f"r{LIST_LENGTH}"
    page.click("[data-pages='1']")
    expect(page.locator("h2")).to_have_text(f"r{2 * LIST_LENGTH}")
    assert len(names(page)) == 7
    assert page.is_disabled("[data-pages='1']")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("h2")).to_have_text(f"r{2 * LIST_LENGTH - 1}")
    page.go_back()
    expect(page.locator("h2")).to_have_text(f"r{2 * LIST_LENGTH}")
    page.route("**/api/index*", lambda route: route.fulfill(body="no longer the viewer"))
    page.click("[data-pages='-1']")
    expect(page.locator(".problem")).to_contain_text("JSON")
    page.unroute("**/api/index*")
    page.click("[data-pages='-1']")
    expect(page.locator("h2")).to_have_text(f"r{LIST_LENGTH}")
    server.shutdown()
    server.server_close()
