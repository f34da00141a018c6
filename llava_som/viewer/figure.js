// One image of a record with its marks: masks on a canvas, tags and traces as vectors, both over the untouched image.

"use strict";

const WHITE = [255, 255, 255];
const SMALL_SIDE = 256; // images below this are enlarged with their pixels kept square
const SVG_TAGS = new Set(["svg", "rect", "text", "polyline", "circle", "g", "title"]);

// An element with attributes (true and false as presence; on… as listeners) and children; strings become text.
function element(tag, attributes = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

// Colours as far apart as they go, however many: the golden angle around the hue circle.
function colourOf(index) {
  const hue = (200 + index * 137.508) % 360, saturation = 0.9, lightness = 0.6;
  const channel = (offset) => {
    const k = (offset + hue / 30) % 12;
    return Math.round(255 * (lightness - saturation * Math.min(lightness, 1 - lightness)
      * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

// A mark, or a region that got none, with what drawing needs. `key` names it in picture, text and table.
function regionsOf(record) {
  const named = [
    ...record.marks.map((mark) => ({ ...mark, key: mark.label })),
    ...record.skipped.map((region, k) => ({ ...region, key: `skipped ${k}` })),
  ];
  return named.map((region, k) => ({ ...region, mask: new Mask(region.rle), colour: colourOf(k) }));
}

class Figure {
  // onPoint(key or null) when the pointer is on a mark, onPick(key) when one is clicked.
  constructor(record, regions, { onPoint, onPick }) {
    this.record = record;
    this.regions = regions;
    this.image = element("img", { alt: this.description(), onload: () => this.loaded(), onerror: () => this.failed() });
    this.stage = element("div", { class: "stage" }, this.image);
    this.element = element("figure", {}, this.stage);
    if (record.size) this.addOverlay(onPoint, onPick);
  }

  description() {
    return `${this.record.id}${this.record.size ? ` with ${this.record.marks.length} numbered marks` : ""}`;
  }

  addOverlay(onPoint, onPick) {
    const [width, height] = this.record.size;
    this.fit(width, height);
    this.canvas = element("canvas", { width, height });
    this.vectors = element("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      this.regions.map((region) => this.vectorsOf(region)));
    this.stage.append(this.canvas, this.vectors);
    this.stage.addEventListener("pointermove", (event) => onPoint(this.at(event)));
    this.stage.addEventListener("pointerleave", () => onPoint(null));
    this.stage.addEventListener("click", (event) => onPick(this.at(event)));
  }

  vectorsOf({ key, colour, trace, tag_box_xyxy: tag }) {
    const group = element("g", { "data-key": key, color: `rgb(${colour})` });
    if (trace.length > 1) {
      group.append(element("polyline", { class: "under", points: trace.join(" ") }),
        element("polyline", { points: trace.join(" ") }),
        element("circle", { cx: trace.at(-1)[0], cy: trace.at(-1)[1], r: Math.min(...this.record.size) / 90 }));
    }
    if (tag) {
      const [left, top, right, bottom] = tag;
      group.append(element("rect", { x: left, y: top, width: right - left, height: bottom - top }),
        element("text", { x: (left + right) / 2, y: (top + bottom) / 2, "font-size": 0.85 * (bottom - top) }, key));
    }
    return group;
  }

  fit(width, height) {
    this.stage.style.setProperty("--ratio", `${width} / ${height}`);
    this.stage.style.setProperty("--aspect", width / height);
    this.stage.classList.toggle("small", Math.min(width, height) < SMALL_SIDE);
  }

  show(which) {
    const { url, problem, words, size } = this.record.images[which];
    this.pageVectors?.remove();
    if (words) this.addWords(words, size);
    this.stage.dataset.shows = which;
    this.stage.classList.toggle("absent", !url);
    this.stage.dataset.problem = problem ?? "";
    if (url) this.image.src = url;
    else this.image.removeAttribute("src");
  }

  // The words of a page as boxes that say their text when pointed at, and the place that the text speaks of.
  addWords(words, [width, height]) {
    this.fit(width, height);
    const boxes = words.map(([left, top, right, bottom, text]) =>
      element("rect", { x: left, y: top, width: right - left, height: bottom - top }, element("title", {}, text)));
    this.words = element("g", { class: "words" }, boxes);
    this.place = element("rect", { class: "place", hidden: true });
    this.pageVectors = element("svg", { class: "page", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      this.words, this.place);
    this.stage.append(this.pageVectors);
  }

  // Outline a place given in thousandths of the page, [left, top, right, bottom] from 0 to 999; null: none.
  outline(box) {
    if (!this.pageVectors) return;
    this.place.toggleAttribute("hidden", !box);
    if (!box) return;
    const { width, height } = this.pageVectors.viewBox.baseVal;
    const [left, top, right, bottom] = box.map((at, k) => at / 999 * (k % 2 ? height : width));
    for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) {
      this.place.setAttribute(name, value);
    }
  }

  loaded() {
    const { images, size } = this.record;
    if (!size && !images[this.stage.dataset.shows].size) this.fit(this.image.naturalWidth, this.image.naturalHeight);
  }

  failed() {
    this.stage.classList.add("absent");
    this.stage.dataset.problem = `${this.record.images[this.stage.dataset.shows].path}: cannot be shown.`;
  }

  // The key of the mark under the pointer: the tag drawn last, else the smallest mask.
  at({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect(), [width, height] = this.record.size;
    const x = Math.floor((clientX - box.left) / box.width * width);
    const y = Math.floor((clientY - box.top) / box.height * height);
    const marks = this.regions.filter((region) => region.tag_box_xyxy);
    const onTag = marks.findLast(({ tag_box_xyxy: [left, top, right, bottom] }) =>
      left <= x && x < right && top <= y && y < bottom);
    const under = marks.filter(({ mask }) => mask.has(x, y)).sort((a, b) => a.mask.area - b.mask.area);
    return (onTag ?? under[0])?.key ?? null;
  }

  // Light up one region; without one, faintly all marks if `showAll`.
  light(key, showAll) {
    this.stage.classList.toggle("all-words", showAll);
    if (!this.canvas) return;
    const [width, height] = this.record.size;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const line = Math.max(1, Math.round(Math.min(width, height) / 320));
    const lit = this.regions.filter((region) => (key === null ? showAll && region.tag_box_xyxy : region.key === key));
    for (const { mask, colour } of lit.sort((a, b) => b.mask.area - a.mask.area)) {
      if (key === null) mask.paint(image, colour, 0.35, line, colour);
      else mask.paint(image, colour, 0.5, line, WHITE);
    }
    context.putImageData(image, 0, 0);
    for (const group of this.vectors.children) group.classList.toggle("lit", group.dataset.key === key);
  }
}
