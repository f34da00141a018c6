import json

import numpy as np
import pytest
from PIL import Image

from data_gen.sources.boxes import BoxSource
from llava_som.config_file import parse_options
from llava_som.marks.rle import encode_rle
from tests.unit.data_gen.inputs import voc, write_boxes, write_photos

PAGE = {  # what Chromium reports of a small page at two device pixels for one CSS pixel
    "viewport": {"width": 640, "height": 480},
    "elements": [
        {"tag": "header", "text": "Home\nAbout us", "rect": {"x": 8, "y": 8, "width": 624, "height": 17}},
        {"tag": "a", "text": "Home", "rect": {"x": 8, "y": 8, "width": 42.6, "height": 17}},
        {"tag": "a", "text": "About us", "rect": {"x": 95, "y": 8, "width": 63.5, "height": 17}},
        {"tag": "span", "text": "About us", "rect": {"x": 95, "y": 8, "width": 63.5, "height": 17}},
        {"tag": "p", "text": "Read how we do it today.", "rect": {"x": 8, "y": 106, "width": 624, "height": 18}},
        {"tag": "a", "text": "how we do it", "rect": {"x": 196, "y": 106, "width": 89, "height": 17}},
        {"tag": "form", "text": "Order now", "rect": {"x": 8, "y": 180, "width": 624, "height": 25}},
        {"tag": "button", "text": "", "rect": {"x": 8, "y": 180, "width": 98, "height": 25}},
        {"tag": "svg", "rect": {"x": 16, "y": 184, "width": 16, "height": 16}},
        {"tag": "span", "text": "Order now", "rect": {"x": 36, "y": 184, "width": 60, "height": 16}},
        {"tag": "button", "aria-label": "Search", "rect": {"x": 110, "y": 180, "width": 32, "height": 22}},
        {"tag": "div", "rect": {"x": 8, "y": 220, "width": 624, "height": 90}},
        {"tag": "img", "attributes": {"alt": "A cup"}, "rect": {"x": 8, "y": 220, "width": 120, "height": 90}},
        {"tag": "button", "text": "Hidden", "rect": {"x": 0, "y": 0, "width": 0, "height": 0}},
        {"tag": "a", "text": "Faded", "visible": False, "rect": {"x": 300, "y": 8, "width": 50, "height": 17}},
    ],
}  # fmt: skip

XML = """<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>
<hierarchy rotation="0">
  <node class="android.widget.FrameLayout" text="" content-desc="" clickable="false" bounds="[0,0][320,240]">
    <node class="android.widget.LinearLayout" text="" clickable="true" bounds="[0,40][320,80]">
      <node class="android.widget.TextView" text="Wi-Fi" clickable="false" bounds="[10,42][100,58]" />
      <node class="android.widget.TextView" text="Connected" clickable="false" bounds="[10,60][100,78]" />
    </node>
    <node class="android.widget.ImageButton" content-desc="More &amp; more" clickable="true" bounds="[280,4][310,34]" />
    <node class="android.widget.TextView" text="gone" visible-to-user="false" bounds="[0,90][50,99]" />
  </node>
</hierarchy>"""

RICO = {
    "activity": {
        "root": {
            "class": "com.android.internal.policy.PhoneWindow$DecorView",
            "bounds": [0, 0, 1440, 2560],
            "children": [
                None,
                {"class": "android.widget.Button", "text": "OK", "clickable": True, "bounds": [144, 256, 720, 512]},
                {"class": "a.ImageView", "content-desc": [None], "bounds": [0, 2304, 1440, 2560]},
                {"visibility": "gone", "bounds": [0, 0, 9, 9], "children": [{"text": "no", "bounds": [0, 0, 9, 9]}]},
                {"class": "a.TextView", "text": "no", "visible-to-user": False, "bounds": [0, 900, 700, 990]},
            ],
        }
    }
}


def source_of(folder, screen, size=(320, 240), name="shot.png", **options):
    """A source for one screenshot and the dump beside it."""
    Image.new("RGB", size).save(folder / name)
    dump = folder / ("shot.xml" if isinstance(screen, str) else "shot.json")
    dump.write_text(screen if isinstance(screen, str) else json.dumps(screen))
    return parse_options(BoxSource, {"images": folder / name, "annotations": dump, **options})


def found(source):
    (ref,) = source.refs()
    return source.regions(ref, source.load(ref))


def names_of(source):
    return [region.name for region in found(source)]


@pytest.mark.parametrize("as_list", [False, True])
def test_boxes_in_both_forms(tmp_path, as_list):
    paths = write_boxes(tmp_path)
    if as_list:
        boxes = json.loads(paths["annotations"].read_text())
        paths["annotations"].write_text(json.dumps([{"image": k, "boxes": v} for k, v in boxes.items()]))
    face, rest = found(parse_options(BoxSource, paths))
    assert (face.name, face.score, face.bbox_xywh, face.id) == ("face", 0.9, (40, 10, 51, 60), "0")
    assert (rest.name, rest.bbox_xywh, rest.attributes) == (None, (0, 60, 160, 60), ())


def test_rows_of_one_image_are_joined(tmp_path):
    rows = [{"image": "astronaut.jpg", "boxes": [{"bbox": [k, 0, 9, 9]}]} for k in (0, 20)]
    paths = write_boxes(tmp_path)
    paths["annotations"].write_text(json.dumps(rows), encoding="utf-8-sig")  # as exported on Windows
    assert [(region.x, region.id) for region in found(parse_options(BoxSource, paths))] == [(0, "0"), (20, "1")]


def test_user_masks_are_the_region(tmp_path):
    _, masks, names = voc()
    polygon = [[10, 10, 60, 10, 60, 30, 30, 30, 30, 70, 10, 70]]
    entries = [{"segmentation": encode_rle(masks[3]), "name": names[3], "attributes": ["red"]}]
    entries += [{"segmentation": polygon, "bbox": [0, 0, 9, 9]}, {"segmentation": [], "bbox": [0, 0, 9, 9]}]
    mask, shape, box = found(source_of(tmp_path, entries, size=(500, 375)))
    assert np.array_equal(mask.full_mask(), masks[3]) and (mask.name, mask.attributes) == (names[3], ("red",))
    assert (shape.bbox_xywh, shape.area, box.area) == ((10, 10, 50, 60), 1800, 81)
    assert names_of(source_of(tmp_path, entries, size=(500, 375), only_named=True)) == [names[3]]
    wrong = source_of(tmp_path, [{"segmentation": encode_rle(masks[3]), "name": "tv"}])
    with pytest.raises(ValueError, match=r"entry 0 \(tv\): a mask has size \[375, 500\], its image \[240, 320\]"):
        found(wrong)


def test_omniparser_elements_are_shares_of_the_image(tmp_path):
    elements = [
        {"type": "text", "bbox": [0.1, 0.1, 0.3, 0.2], "interactivity": False, "content": "Save  as"},
        {"type": "icon", "bbox": [0.05, 0.05, 0.35, 0.25], "interactivity": True, "content": None},
        {"type": "icon", "bbox": [0.0, 0.0, 0.9, 0.9], "interactivity": True, "content": "too large: it holds an icon"},
        {"type": "text", "bbox": [0.5, 0.5, 0.9, 0.6], "interactivity": False, "content": "a line of text"},
        {"type": "icon", "bbox": [0.52, 0.51, 0.56, 0.59], "interactivity": True, "content": "a letter of it"},
        {"type": "icon", "bbox": [0.5, 0.5, 0.5, 0.6], "interactivity": True, "content": "nothing to see"},
    ]
    icon, text = found(source_of(tmp_path, elements))
    assert (icon.name, icon.attributes, icon.bbox_xywh) == ("Save as", ("icon", "interactive"), (16, 12, 96, 48))
    assert (text.name, text.attributes, text.id) == ("a line of text", ("text",), "3")
    for several in (
        {"shot.png": elements},
        [{"image": "shot.png", "boxes": elements}],
        {"parsed_content_list": elements},
    ):
        assert len(found(source_of(tmp_path, several))) == 2
    assert names_of(source_of(tmp_path, elements, only_interactive=True, canvas=(9, 9))) == ["Save as"]
    elements[0]["bbox"] = [32, 24, 96, 48]
    with pytest.raises(ValueError, match=r"entry 0: bbox \[32.0, 24.0, 96.0, 48.0\] is in pixels.*shares"):
        source_of(tmp_path, elements).refs()


def test_a_web_page_in_css_pixels(tmp_path):
    regions = found(source_of(tmp_path, PAGE, size=(1280, 960)))
    assert {region.name: region.attributes for region in regions} == {
        "Home": ("a", "interactive"),
        "About us": ("a", "interactive"),
        "Read how we do it today.": ("p",),
        "how we do it": ("a", "interactive"),
        "Order now": ("button", "interactive"),
        "Search": ("button", "interactive"),
        "A cup": ("img",),
    }
    assert regions[0].bbox_xywh == (16, 16, 85, 34)
    ratio = {"device_pixel_ratio": 2, "elements": PAGE["elements"]}
    assert found(source_of(tmp_path, ratio, size=(1280, 960)))[0].bbox_xywh == (16, 16, 85, 34)
    bare = source_of(tmp_path, PAGE["elements"], size=(1280, 960), canvas=(640, 480))
    assert found(bare)[0].bbox_xywh == (16, 16, 85, 34)
    assert len(names_of(source_of(tmp_path, PAGE, size=(1280, 960), max_overlap=1.0, keep_wrappers=True))) == 10


def test_android_screens(tmp_path):
    row, more = found(source_of(tmp_path, XML))
    assert (row.name, row.attributes) == ("Wi-Fi Connected", ("LinearLayout", "interactive"))
    assert (more.name, more.bbox_xywh, more.id) == ("More & more", (280, 4, 30, 30), "4")
    button, picture = found(source_of(tmp_path, RICO, size=(540, 960), name="shot.jpg"))  # Rico's pictures are smaller
    assert (button.name, button.bbox_xywh, button.attributes) == ("OK", (54, 96, 216, 96), ("Button", "interactive"))
    assert (picture.name, picture.bbox_xywh) == (None, (0, 864, 540, 96))


def test_a_dialog_whose_place_is_unknown_is_refused(tmp_path):
    dialog = {"activity": {"root": {"bounds": [0, 0, 1272, 900], "children": []}}}
    with pytest.raises(ValueError, match=r"covers 1272x900, the image 540x960.*canvas=\[WIDTH,HEIGHT\]"):
        found(source_of(tmp_path, dialog, size=(540, 960)))
    assert found(source_of(tmp_path, dialog, size=(540, 960), canvas=(1440, 2560)))[0].bbox_xywh == (0, 0, 477, 338)


def test_a_folder_of_dumps(tmp_path):
    photos = write_photos(tmp_path / "photos")
    (tmp_path / "dumps").mkdir()
    options = {"images": photos, "annotations": tmp_path / "dumps", "drop_outside": True}
    with pytest.raises(ValueError, match=r"has no <image>.json or .xml for any"):
        parse_options(BoxSource, options).refs()
    (tmp_path / "dumps" / "coffee.xml").write_text(XML)
    (tmp_path / "dumps" / "astronaut.json").write_text('[{"bbox": [1, 2, 30, 40], "name": "face"}]')
    source = parse_options(BoxSource, options)
    astronaut, chelsea, coffee = source.refs()
    assert [region.name for region in source.regions(astronaut, source.load(astronaut))] == ["face"]
    assert [region.name for region in source.regions(coffee, source.load(coffee))] == ["Wi-Fi Connected"]
    with pytest.raises(ValueError, match=r"chelsea.json: no such annotation file"):
        source.regions(chelsea, source.load(chelsea))
    with pytest.raises(ValueError, match=r"lies inside .*photos, which is input"):
        source.refuse_output(photos / "out")


def test_a_dump_belongs_to_the_image_it_is_called_like(tmp_path):
    Image.new("RGB", (320, 240)).save(tmp_path / "other.png")
    source = source_of(tmp_path, XML)
    folder = parse_options(BoxSource, {"images": tmp_path, "annotations": source.annotations})
    assert [ref.id for ref in folder.refs()] == ["shot"] and len(found(folder)) == 2
    (tmp_path / "shot.png").rename(tmp_path / "else.png")
    with pytest.raises(ValueError, match=r"shot.xml: is about one image and does not name it. Give that image"):
        folder.refs()


def test_boxes_outside_and_small_ones(tmp_path):
    entries = [{"bbox": [-10, 5, 30, 30], "name": "cut"}, {"bbox": [400, 5, 9, 9], "name": "off"}]
    entries += [{"bbox": [5, 5, 30, 3], "name": "flat"}, {"bbox": [-8, 5, 10, 30], "name": "a sliver"}]
    with pytest.raises(ValueError, match=r"entry 1 \(off\).*outside its image of 320x240.*drop_outside=true"):
        found(source_of(tmp_path, entries))
    kept = found(source_of(tmp_path, entries, drop_outside=True, min_size=4))
    assert [(region.name, region.bbox_xywh) for region in kept] == [("cut", (0, 5, 20, 30))]


def test_plain_boxes_are_kept_whole_unless_asked(tmp_path):
    entries = [{"bbox": [0, 0, 100, 100], "name": "table"}, {"bbox": [10, 10, 20, 20], "name": "cup"}]
    entries += [{"bbox": [10, 10, 20, 20], "name": "mug"}, {"bbox": [90, 90, 100, 100], "name": "chair"}]
    assert names_of(source_of(tmp_path, entries)) == ["table", "cup", "mug", "chair"]
    assert names_of(source_of(tmp_path, entries, max_overlap=0.5)) == ["cup", "chair"]


def test_close_texts_are_joined_in_reading_order(tmp_path):
    words = {
        "you": (90, 10, 30),
        "How": (10, 10, 40),
        "are": (54, 11, 30),
        "today?": (12, 40, 50),
        "far": (250, 10, 40),
    }
    elements = [
        {"tag": "b", "text": word, "rect": {"x": x, "y": y, "width": width, "height": 20}}
        for word, (x, y, width) in words.items()
    ]
    assert names_of(source_of(tmp_path, elements)) == ["you", "How", "are", "today?", "far"]
    regions = found(source_of(tmp_path, elements, merge_text=10))
    assert [(region.name, region.bbox_xywh) for region in regions] == [
        ("How are you today?", (10, 10, 110, 50)),
        ("far", (250, 10, 40, 20)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a.jpg": [{"name": "cup"}]}', r"a.jpg: entry 0: .*in no known format. Known are.*OmniParser.*uiautomator"),
        ("7", r"7 is in no known format"),
        ('["a.jpg"]', r"is in no known format"),
        ('[{"image": "a.jpg"}]', r"a.jpg: .*no known format"),
        ('{"a.jpg": [{"bbox": "no"}]}', "entry 0: 'no' is no box of four numbers"),
        ('{"a.jpg": [{"bbox": [0, 0, 5]}]}', r"entry 0: \[0, 0, 5\] is no box"),
        ('{"a.jpg": [{"bbox": [0, 0, 1e300, NaN]}]}', "is no box of four numbers"),
        ('{"a.jpg": [{"bbox": [0, 0, 5, 5], "name": 7}]}', "name 7 is not a text"),
        ('{"a.jpg": [{"bbox": [0, 0, 5, 5], "name": "\\ud800"}]}', "surrogates not allowed"),
        ('{"a.jpg": [{"bbox": [0, 0, 5, 5], "score": "high"}]}', "could not convert"),
        ('{"a.jpg": [{"bbox": [0, 0, 5, 5], "score": NaN}]}', "score nan is no number"),
        ('{"a.jpg": [{"bbox": [0, 0, 5, 5], "attributes": "red"}]}', "attributes 'red' are no list of words"),
        ('{"a.jpg": {"activity": null}}', "has no root"),
        ('{"a.jpg": {"elements": [{"tag": "a"}]}}', r"entry 0: KeyError\('bounds'\)"),
        ('{"activity": {"root": {"bounds": [0, 0, 9, 9], "children": [{"text": "x"}]}}}', "entry 1: KeyError"),
        ('{"a.jpg": {"viewport": {"width": 0}, "elements": []}}', "a screen of 0.0"),
        ('{"a.jpg": {"device_pixel_ratio": 0, "elements": []}}', "a device pixel ratio of 0.0 cannot be"),
        ('{"activity": {"root": {"bounds": [0, 0, 9, 0]}}}', "a screen of 9.0 x 0.0 cannot be"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><node bounds="[0,0][1,1]"/>', "declares a document type"),
        ('<node bounds="[0,0][1,1]">', "broken XML"),
        ('<node bounds="0 0 1 1"/>', r"has to be \[x1,y1\]\[x2,y2\]"),
        ("<html></html>", "nothing has bounds"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_boxes_says_what_is_wrong(tmp_path, content, message):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "boxes.json").write_text(content)
    source = parse_options(BoxSource, {"images": tmp_path / "a.jpg", "annotations": tmp_path / "boxes.json"})
    with pytest.raises(ValueError, match=rf"(?s)boxes.json: is not a file of boxes: .*{message}"):
        source.refs()


@pytest.mark.parametrize("options", [{"max_overlap": 2.0}, {"min_size": -1}, {"merge_text": -1}, {"canvas": (0, 5)}])
def test_options_that_make_no_sense(tmp_path, options):
    (key,) = options
    with pytest.raises(ValueError, match=f"^{key}="):
        parse_options(BoxSource, {"images": tmp_path, "annotations": tmp_path / "x.json", **options})
