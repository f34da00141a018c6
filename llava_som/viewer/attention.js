// Heat of the chosen token over the image, for each layer range, without and with the intervention.

"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = 2 + DATA.tokens.length; // mean of the question, mean of the answer, then its tokens
const [NO_HEAT, FULL_HEAT] = DATA.opacity;
const SINK = `rgb(${DATA.sink})`, TOP = "#fff";

const numbers = (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const rangeOf = (index) => Math.floor(index / DATA.sides.length);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)} %`;

let held = 0, shown = 0;

// Attention of a row to each image token; 16 bits of what the row has most of.
function row(panel, number) {
  const most = panel.most[number] / 65535, count = DATA.count;
  return Float64Array.from(panel.values.subarray(number * count, (number + 1) * count), (value) => value * most);
}

// For each pixel the token of each view, or -1.
function pixelTokens(width, height) {
  return DATA.views.map(({ box: [left, top, right, bottom], tokens }) => {
    const rows = tokens.length, cols = tokens[0].length, found = new Int32Array(width * height).fill(-1);
    for (let y = 0; y < height; y++) {
      const line = Math.floor((((y + 0.5) / height - top) / (bottom - top)) * rows);
      if (line < 0 || line >= rows) continue;
      for (let x = 0; x < width; x++) {
        const col = Math.floor((((x + 0.5) / width - left) / (right - left)) * cols);
        if (col >= 0 && col < cols) found[y * width + x] = tokens[line][col];
      }
    }
    return found;
  });
}

function coloured(share) {
  const steps = DATA.colours, at = Math.min(share, 1) * (steps.length - 1), low = Math.min(Math.floor(at), steps.length - 2);
  return steps[low].map((value, channel) => value + (at - low) * (steps[low + 1][channel] - value));
}

function outline(context, token, colour) {
  const { width, height } = context.canvas;
  for (const { box: [left, top, right, bottom], tokens } of DATA.views) {
    const down = (bottom - top) / tokens.length, across = (right - left) / tokens[0].length;
    tokens.forEach((line, y) => line.forEach((number, x) => {
      if (number !== token) return;
      const place = [(left + x * across) * width, (top + y * down) * height, across * width, down * height];
      for (const [style, wide] of [["#000", 4], [colour, 2]]) {
        context.strokeStyle = style;
        context.lineWidth = wide;
        context.strokeRect(place[0] + 1.5, place[1] + 1.5, Math.max(1, place[2] - 3), Math.max(1, place[3] - 3));
      }
    }));
  }
}

function draw(panel, index, values, most) {
  const context = panel.canvas.getContext("2d"), { width, height } = panel.canvas;
  const picture = context.createImageData(width, height), isSink = new Set(DATA.sinks[rangeOf(index)]);
  for (let pixel = 0; pixel < width * height; pixel++) {
    let heat = 0, covered = false;
    for (const tokens of DATA.pixels) {
      const token = tokens[pixel];
      if (token >= 0) { heat += values[token] / DATA.areas[token]; covered = true; }
    }
    const share = most > 0 ? Math.min(heat / most, 1) : 0;
    const opacity = covered ? NO_HEAT + (FULL_HEAT - NO_HEAT) * share : 0.55;
    const colour = covered ? coloured(share) : DATA.veil, grey = DATA.grey[pixel];
    for (let channel = 0; channel < 3; channel++) {
      picture.data[4 * pixel + channel] = (1 - opacity) * grey + opacity * colour[channel];
    }
    picture.data[4 * pixel + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
  if (document.getElementById("sinks").checked) for (const token of isSink) outline(context, token, SINK);
  if (document.getElementById("top").checked) {
    const order = [...values.keys()].filter((token) => DATA.areas[token] && values[token]).sort((a, b) => values[b] - values[a]);
    order.slice(0, DATA.top).forEach((token) => outline(context, token, TOP));
  }
  const total = values.reduce((sum, value) => sum + value, 0);
  const onSinks = [...isSink].reduce((sum, token) => sum + values[token], 0);
  const words = [`image ${percent(total)}`, ...(isSink.size ? [`sinks ${percent(onSinks)}`] : []), `lightest: ${percent(most)}`];
  panel.caption.textContent = words.join(" · ");
}

function show(number) {
  shown = number;
  const rows = DATA.panels.map((panel) => row(panel, number));
  DATA.panels.forEach((panel, index) => {
    const own = rangeOf(index), sinks = new Set(DATA.sinks[own]);
    let most = 0; // of what is no sink, without and with the intervention
    rows.forEach((values, other) => {
      if (rangeOf(other) !== own) return;
      values.forEach((value, token) => {
        if (DATA.areas[token] && !sinks.has(token)) most = Math.max(most, value / DATA.areas[token]);
      });
    });
    draw(panel, index, rows[index], most);
  });
  for (const part of document.querySelectorAll("[data-row]")) part.classList.toggle("lit", Number(part.dataset.row) === number);
}

function choose(part) {
  const number = Number(part.dataset.row);
  part.addEventListener("pointerenter", () => show(number));
  part.addEventListener("pointerleave", () => show(held));
  part.addEventListener("click", () => { held = number; show(number); });
}

function build() {
  const element = (kind, text = "", name = "") => Object.assign(document.createElement(kind), { textContent: text, className: name });
  document.getElementById("question").textContent = DATA.question;
  const answer = document.getElementById("answer"), tagged = new Set(DATA.tags.flat());
  DATA.tokens.forEach((text, number) => {
    const part = element("span", text, tagged.has(number) ? "tag" : "");
    part.dataset.row = number + 2;
    answer.append(part);
  });
  if (DATA.other !== null) Object.assign(document.getElementById("other"), { textContent: DATA.other, hidden: false });
  document.querySelector('[data-row="1"]').hidden = !DATA.tokens.length;
  document.getElementById("count").textContent = DATA.top;
  document.getElementById("caption").append(...DATA.caption.map((line) => element("p", line)));
  const ranges = element("div", "", DATA.sides.length > 1 ? "pairs" : "ranges");
  DATA.ranges.forEach((name, range) => {
    const section = element("section"), sides = element("div", "", "sides");
    section.append(element("h2", name), sides);
    DATA.sides.forEach((side, place) => {
      const panel = DATA.panels[range * DATA.sides.length + place], figure = element("figure");
      panel.canvas = Object.assign(document.createElement("canvas"), { width: DATA.size[0], height: DATA.size[1] });
      panel.caption = element("figcaption");
      if (side) figure.append(element("p", side, "soft"));
      figure.append(panel.canvas, panel.caption);
      sides.append(figure);
    });
    ranges.append(section);
  });
  document.getElementById("panels").append(ranges);
  document.querySelectorAll("[data-row]").forEach(choose);
  for (const name of ["sinks", "top"]) document.getElementById(name).addEventListener("change", () => show(shown));
  const bar = document.querySelector("#scale canvas").getContext("2d");
  for (let x = 0; x < 120; x++) { bar.fillStyle = `rgb(${coloured(x / 119)})`; bar.fillRect(x, 0, 1, 14); }
}

const photo = new Image();
photo.addEventListener("load", () => {
  const [width, height] = DATA.size;
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.drawImage(photo, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  DATA.grey = Float32Array.from({ length: width * height }, (_, i) => DATA.dimmed * (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]));
  DATA.pixels = pixelTokens(width, height);
  for (const panel of DATA.panels) panel.values = numbers(panel.values, Uint16Array);
  build();
  show(0);
});
photo.src = DATA.image;
