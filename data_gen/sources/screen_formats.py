"""The files of boxes that are understood, told apart by what they hold: detector output, web pages, Android screens.

Each reader gives `Element`s in the order of the file. What cannot be seen (no width, hidden, gone) is left out here;
everything else is left to the clean-up, which knows the image.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

from data_gen.sources.base import UNREADABLE, read_json
from data_gen.sources.elements import SHARES, Box, Canvas, Element, Role, checked_box

KNOWN_FORMATS = """Known are, for several images, {"image.jpg": SCREEN} or [{"image": "image.jpg", "boxes": SCREEN}]; \
for one image, SCREEN itself:
  boxes in pixels   [{"bbox": [x, y, width, height], "name": "cup", "score": 0.9, "attributes": ["red"]}], and a \
COCO "segmentation" where there is a mask
  OmniParser        [{"type": "icon", "bbox": [x1, y1, x2, y2], "interactivity": true, "content": "Save"}], 0 to 1
  a web page        {"viewport": {"width": 1280}, "elements": [{"tag": "a", "text": "Home", "rect": {"x": 0, "y": 0, \
"width": 80, "height": 20}}]}
  an Android screen the XML of `uiautomator dump`, or Rico's {"activity": {"root": {"bounds": [], "children": []}}}"""

SCREEN_KEYS = frozenset({"activity", "elements", "parsed_content_list"})  # of a file about one image

INTERACTIVE_TAGS = frozenset({"a", "button", "input", "option", "select", "summary", "textarea"})
INTERACTIVE_ROLES = frozenset(
    {"button", "checkbox", "combobox", "link", "menuitem", "option", "radio", "searchbox", "slider", "switch", "tab"}
    | {"textbox", "treeitem"}
)
PICTURE_TAGS = frozenset(
    {"canvas", "img", "picture", "svg", "video"}
    | {"circle", "ellipse", "g", "line", "path", "polygon", "polyline", "rect", "use"}  # inside an svg
)
USES = ("clickable", "long-clickable", "checkable")  # what makes an Android view interactive
RICO_WIDTHS = (1440, 2560)  # of its phones, upright and turned; its screenshots are stored smaller


def is_one_screen(content: Any) -> bool:
    """Whether parsed JSON is about a single image, and does not say which."""
    if isinstance(content, Mapping):
        return not SCREEN_KEYS.isdisjoint(content)
    return isinstance(content, list) and bool(content) and isinstance(content[0], Mapping) and "image" not in content[0]


def looks_like_xml(file: Path) -> bool:
    """Whether a file begins as XML does; a missing or unreadable one does not."""
    try:
        with file.open("rb") as content:
            return content.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    except OSError:
        return False


def read_screen(file: Path) -> tuple[Element, ...]:
    """The elements in the dump of one screen; a ValueError names the file and what is wrong with it."""
    is_xml = looks_like_xml(file)
    content = file.read_bytes() if is_xml else read_json(file)
    try:
        return xml_elements(content) if is_xml else screen_elements(content)
    except UNREADABLE as error:
        raise ValueError(f"{file}: {problem(error)}") from None


def problem(error: Exception, image: Any = None) -> str:
    """What is wrong with a file of boxes, or with what it says of one image."""
    return f"is not a file of boxes: {f'{image}: ' if isinstance(image, str) else ''}{said(error)}"


def said(error: Exception) -> str:
    """An error in words; those of Python alone, such as KeyError('bounds'), need their name."""
    return str(error) if type(error) is ValueError else repr(error)


def entry_read(number: int, read: Callable[..., Element | None], *given: Any) -> Element | None:
    """`read(number, *given)`; what goes wrong names the entry."""
    try:
        return read(str(number), *given)
    except UNREADABLE as error:
        raise ValueError(f"entry {number}: {said(error)}") from None


def unknown(content: Any) -> ValueError:
    """The error for what is in none of the formats."""
    return ValueError(f"{reprlib.repr(content)} is in no known format. {KNOWN_FORMATS}")


def screen_elements(content: Any) -> tuple[Element, ...]:
    """The elements of one image from its part of a JSON file; one of UNREADABLE when it is none of the formats."""
    if isinstance(content, Mapping):
        if "activity" in content:
            return tuple(rico_elements(content["activity"]))
        if "elements" in content:
            return tuple(web_elements(content))
        content = content.get("parsed_content_list", content)
    if not isinstance(content, list):
        raise unknown(content)
    found = [entry_read(number, any_element, entry) for number, entry in enumerate(content)]
    return tuple(element for element in found if element)


def any_element(number: str, entry: Any) -> Element | None:
    """One entry of a list, in whichever of the formats it is; None when there is nothing to see of it."""
    if not isinstance(entry, Mapping):
        raise unknown(entry)
    if "interactivity" in entry or (entry.get("type") in ("text", "icon") and "content" in entry):
        return detected_element(number, entry)
    if not {"rect", "bounds"}.isdisjoint(entry):
        return web_element(number, entry, 1.0, None)
    if not {"bbox", "segmentation"}.isdisjoint(entry):
        return plain_element(number, entry)
    raise unknown(entry)


def plain_element(number: str, entry: Mapping[str, Any]) -> Element:
    """A box in pixels, or a COCO segmentation, that a person or detector named."""
    segmentation = entry.get("segmentation")
    box = checked_box(entry["bbox"]) if "bbox" in entry or not segmentation else None
    score, attributes = entry.get("score"), entry.get("attributes") or ()
    if not isinstance(attributes, list | tuple) or not all(isinstance(word, str) for word in attributes):
        raise TypeError(f"attributes {reprlib.repr(attributes)} are no list of words")
    if score is not None and not abs(float(score)) < float("inf"):
        raise ValueError(f"score {reprlib.repr(score)} is no number")
    return Element(
        id=number,
        box=box,
        name=clean(entry.get("name")),
        attributes=tuple(word for text in attributes if (word := clean(text))),
        score=None if score is None else float(score),
        segmentation=segmentation or None,
    )


def detected_element(number: str, entry: Mapping[str, Any]) -> Element | None:
    """An element that OmniParser found: corners as shares of the image's width and height."""
    x0, y0, x1, y1 = checked_box(entry["bbox"])
    if max(x0, y0, x1, y1) > 2:
        raise ValueError(
            f"bbox {[x0, y0, x1, y1]} is in pixels; with a type and content it has to be in shares, 0 to 1"
        )
    if x1 <= x0 or y1 <= y0:
        return None
    kind = str(entry["type"])
    interactive = bool(entry.get("interactivity"))
    return Element(
        id=number,
        box=(x0, y0, x1 - x0, y1 - y0),
        name=clean(entry.get("content")),
        attributes=kinds(kind, interactive),
        role="text" if kind == "text" else "icon",
        canvas=SHARES,
    )


def web_elements(page: Mapping[str, Any]) -> Iterator[Element]:
    """The visible elements of a page: boxes in CSS pixels, from the window's width or its device pixel ratio."""
    viewport = page.get("viewport")
    canvas = Canvas(float(viewport["width"])) if viewport else None
    ratio = float(next((page[key] for key in ("device_pixel_ratio", "devicePixelRatio") if key in page), 1))
    if not 0 < ratio < 100:
        raise ValueError(f"a device pixel ratio of {ratio} cannot be")
    for number, entry in enumerate(page["elements"]):
        if element := entry_read(number, web_element, entry, 1.0 if canvas else ratio, canvas):
            yield element


def web_element(number: str, entry: Mapping[str, Any], ratio: float, canvas: Canvas | None) -> Element | None:
    """One element of a page; None when it is hidden or has no size."""
    rect = entry["rect"] if "rect" in entry else entry["bounds"]
    box = checked_box([ratio * rect[key] for key in ("x", "y", "width", "height")])
    if min(box[2:]) <= 0 or entry.get("visible", True) is False:
        return None
    tag = str(entry.get("tag", "")).lower()
    more = {**own(entry.get("attributes")), **entry}
    stated = [bool(more[key]) for key in ("interactive", "clickable") if key in more]
    interactive = any(stated) if stated else tag in INTERACTIVE_TAGS or more.get("role") in INTERACTIVE_ROLES
    name = first_text(more.get(key) for key in ("text", "aria-label", "alt", "title", "placeholder"))
    return Element(
        id=number,
        box=box,
        name=name,
        attributes=kinds(tag, interactive),
        role=role_of(name, interactive, tag in PICTURE_TAGS),
        canvas=canvas,
    )


def rico_elements(activity: Any) -> Iterator[Element]:
    """The visible views of a Rico screen, parents before children; `bounds` are corners in the phone's pixels."""
    root = own(activity).get("root")
    if not isinstance(root, Mapping):
        raise ValueError("activity has no root: this screen was saved without its views")
    left, top, right, bottom = checked_box(root["bounds"])
    canvas = Canvas(right) if right in RICO_WIDTHS else Canvas(right - left, bottom - top, same_shape=True)
    views, number = [root], 0
    while views:
        view = views.pop()
        if view is None or own(view).get("visibility") in ("gone", "invisible"):  # and so is what it holds
            continue
        if element := entry_read(number, rico_view, view, canvas):
            yield element
        number += 1
        views += reversed(view.get("children") or [])


def rico_view(number: str, view: Mapping[str, Any], canvas: Canvas) -> Element | None:
    """One view of a Rico screen; None when it is hidden or has no size."""
    described = view.get("content-desc")
    texts = [view.get("text"), *(described if isinstance(described, list) else [described])]
    element = android_element(number, view, checked_box(view["bounds"]), first_text(texts), canvas)
    return element if view.get("visible-to-user", True) else None


def xml_elements(content: bytes) -> tuple[Element, ...]:
    """The visible nodes of a uiautomator (or Appium) XML dump; a ValueError when it is none.

    The parser builds no tree and takes no document type, so neither deep nesting nor entities cost anything.
    """
    found: list[Element] = []
    count = 0

    def start(tag: str, node: dict[str, str]) -> None:
        nonlocal count
        if "bounds" not in node:
            return
        corners = re.fullmatch(r"\[(-?\d{1,7}),(-?\d{1,7})\]\[(-?\d{1,7}),(-?\d{1,7})\]", node["bounds"])
        if not corners:
            raise ValueError(f'bounds="{node["bounds"][:60]}" has to be [x1,y1][x2,y2]')
        name = first_text(node.get(key) for key in ("text", "content-desc"))
        hidden = "false" in (node.get("visible-to-user"), node.get("displayed"))
        view = {key: value == "true" for key, value in node.items() if key in USES} | {"class": node.get("class", tag)}
        element = android_element(str(count), view, checked_box(corners.groups()), name, None)
        if element and not hidden:
            found.append(element)
        count += 1

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type, which a screen dump does not need")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"broken XML: {error}") from None
    if not count:
        raise ValueError("it is XML in which nothing has bounds")
    return tuple(found)


def android_element(
    number: str, view: Mapping[str, Any], corners: Box, name: str | None, canvas: Canvas | None
) -> Element | None:
    """One view of an Android screen; None when it has no size."""
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        return None
    kind = str(view.get("class", "")).rpartition(".")[2]
    interactive = any(view.get(use) for use in USES)
    return Element(
        id=number,
        box=(x0, y0, x1 - x0, y1 - y0),
        name=name,
        attributes=kinds(kind, interactive),
        role=role_of(name, interactive, kind.endswith("ImageView")),
        canvas=canvas,
    )


def role_of(name: str | None, interactive: bool, picture: bool) -> Role:
    """What the clean-up takes an element of a page or screen for."""
    return "control" if interactive else "image" if picture else "text" if name else "container"


def kinds(kind: str, interactive: bool) -> tuple[str, ...]:
    """The attributes of an element of a page or screen."""
    return (*([kind] if kind else []), *(["interactive"] if interactive else []))


def first_text(texts: Any) -> str | None:
    """The first of `texts` that says something."""
    return next((name for text in texts if isinstance(text, str) and (name := clean(text))), None)


def clean(name: Any) -> str | None:
    """A name on one line; None when there is none. TypeError, or UnicodeEncodeError for half a character."""
    if not isinstance(name, str | None):
        raise TypeError(f"name {reprlib.repr(name)} is not a text")
    words = " ".join((name or "").split())
    words.encode()
    return words or None


def own(mapping: Any) -> Mapping[str, Any]:
    """A mapping as it is; an empty one for anything else."""
    return mapping if isinstance(mapping, Mapping) else {}
