// The page: filters, the list, one record. What is pointed at in picture, text or table lights up in all three.
// Its address (the part behind #) holds the filters and the record, so that a view can be sent on and "back" works.
// Text from the dataset only ever becomes text nodes.

"use strict";

const FILTERS = ["source", "recipe", "kind", "min", "max", "q"];
const $ = (selector, within = document) => within.querySelector(selector);
const filterForm = $("#filters"), list = $("#list"), pager = $("#pager"), main = $("#record");

let filters = {}; // what the list is filtered by
let page = null; // the list page on display, an answer of STORE.index
let position = 0; // of the record on display, in the whole list
let shown = null; // the record on display, its figure and regions, and what lights and holds them
let latestVisit = 0; // an answer that comes after a later question is dropped
const preferences = { image: "", allMasks: false }; // kept from record to record

// ---- Address

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const read = Object.fromEntries(FILTERS.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
  return { filters: read, record: /^\d+$/.test(given.get("record")) ? Number(given.get("record")) : null };
}

function addressOf(chosen, record) {
  return `#${new URLSearchParams({ ...chosen, ...(record === null ? {} : { record }) })}`;
}

// Bring the page to what its address says.
async function visit() {
  const wanted = readAddress(), turn = ++latestVisit;
  try {
    const sameList = page && addressOf(filters, null) === addressOf(wanted.filters, null);
    if (!sameList || !page.records.some(({ number }) => number === wanted.record)) {
      const found = await STORE.index(wanted.filters, wanted.record === null ? {} : { record: wanted.record });
      if (turn !== latestVisit) return;
      filters = wanted.filters;
      showList(found);
    }
    const summary = page.records.find(({ number }) => number === wanted.record) ?? page.records[0];
    const record = summary && await STORE.record(summary.number);
    if (turn !== latestVisit) return;
    position = page.offset + page.records.indexOf(summary);
    history.replaceState(null, "", addressOf(filters, summary ? summary.number : null));
    showStatus(summary);
    showRecord(record);
  } catch (error) {
    showFailure(error, turn);
  }
}

function showFailure(error, turn) {
  if (turn === latestVisit) main.replaceChildren(problem(error.message));
}

function filterBy(chosen) {
  history.replaceState(null, "", addressOf(chosen, shown ? shown.record.number : null));
  visit();
}

// Go to the record at a position of the whole list, turning the list's page if need be.
async function goTo(target) {
  if (!page || target < 0 || target >= page.matched) return;
  if (!page.records[target - page.offset]) {
    const turn = ++latestVisit;
    const found = await STORE.index(filters, { offset: target - target % DATA.list_length })
      .catch((error) => showFailure(error, turn));
    if (!found || turn !== latestVisit) return;
    showList(found);
  }
  position = target; // at once, for the next key
  location.hash = addressOf(filters, page.records[target - page.offset].number);
}

// ---- Filters

function fillFilters() {
  const { sources, recipes, kinds, rejected, most_tags } = STORE.facets;
  fillSelect("source", sources, 2);
  fillSelect("recipe", recipes, 2);
  const any = `any (${rejected.toLocaleString("en")})`;
  fillSelect("kind", kinds, 1, [[NO_REJECT, "without rejects"], [ANY_REJECT, any]]);
  $("#tags").hidden = !most_tags;
  for (const [name, shows] of [["min", "0"], ["max", most_tags]]) filterForm.elements[name].placeholder = shows;
}

function fillSelect(name, counts, worthwhile, special = []) {
  const select = filterForm.elements[name];
  const options = Object.entries(counts).map(([value, count]) => [value, `${value} (${count.toLocaleString("en")})`]);
  select.append(...[["", "all"], ...special, ...options].map(([value, text]) => element("option", { value }, text)));
  select.closest("label").hidden = options.length < worthwhile;
}

function showFilters() {
  for (const name of FILTERS) {
    const field = filterForm.elements[name], value = filters[name] ?? "";
    if (field === document.activeElement) continue; // being typed into
    if (field.options && ![...field.options].some((option) => option.value === value)) {
      field.append(element("option", { value }, value));
    }
    field.value = value;
  }
  $("button[type=reset]").disabled = !Object.keys(filters).length;
}

function chosenFilters() {
  const given = FILTERS.map((name) => [name, filterForm.elements[name].value.trim()]);
  const isUsable = ([name, value]) => (["min", "max"].includes(name) ? /^\d{1,15}$/.test(value) : value);
  return Object.fromEntries(given.filter(isUsable));
}

// ---- List

function showList(found) {
  page = found;
  showFilters();
  list.replaceChildren(...found.records.map((summary) => element("li", {}, listLink(summary))));
  pager.hidden = found.matched <= found.records.length;
  const end = found.offset + found.records.length;
  $("span", pager).textContent = `${found.offset + 1}–${end} of ${found.matched.toLocaleString("en")}`;
  $("[data-pages='-1']", pager).disabled = !found.offset;
  $("[data-pages='1']", pager).disabled = end >= found.matched;
}

function listLink({ number, id, tags, kinds, recipes, accepted, thumbnail }) {
  const facts = [...(tags ? [plural(tags, "tag")] : []), ...recipes].join(" · ");
  const verdict = accepted ? plural(kinds.length, "reject") : "rejected";
  const bad = kinds.length ? element("span", { class: "bad" }, verdict) : null;
  return element("a", { href: addressOf(filters, number), "data-number": number, title: id },
    thumbnail ? element("img", { src: thumbnail, alt: "", loading: "lazy" }) : element("span", { class: "no-image" }),
    element("span", { class: "name" }, id),
    element("span", { class: "facts" }, bad, facts));
}

function showStatus(current) {
  const { matched } = page, onPage = DATA.records ? DATA.records.length : DATA.total;
  const sentences = [matched === onPage ? "" : `${matched.toLocaleString("en")} of `, plural(onPage, "record")];
  if (onPage < DATA.total) sentences.push(` shown here, of ${DATA.total.toLocaleString("en")}`);
  if (DATA.rejected) sentences.push(`, ${DATA.rejected.toLocaleString("en")} with rejects`);
  $("#status").textContent = sentences.join("");
  for (const link of list.querySelectorAll("a")) {
    if (current && link.dataset.number === String(current.number)) {
      link.setAttribute("aria-current", "true");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// ---- Record

function problem(text) {
  return element("p", { class: "problem", role: "alert" }, text);
}

function showRecord(record) {
  main.scrollTop = 0;
  shown = null;
  if (!record) {
    const words = DATA.total ? "No record matches these filters." : "There is no record here.";
    main.replaceChildren(element("p", { class: "nothing" }, words));
    return;
  }
  const regions = regionsOf(record);
  const labels = record.marks.map((mark) => mark.label);
  let held = null;
  const light = (key) => lightUp(key ?? held);
  const pick = (key) => {
    held = key === held ? null : key;
    light(null);
  };
  const figure = record.images.length ? new Figure(record, regions, { onPoint: light, onPick: pick }) : null;
  shown = { record, figure, regions, light, pick, held: () => held };
  main.replaceChildren(recordHead(record), ...record.problems.map(problem),
    element("div", { class: "record" },
      element("div", { class: "picture" }, figure ? figureParts(record, figure) : noFigure(record)),
      element("div", { class: "words" },
        record.samples.map((sample) => sampleCard(sample, labels)),
        record.rejects.map((reject) => rejectCard(reject, labels)),
        marksTable(record, regions), skippedList(record, regions))));
  if (figure) showImage(Math.max(0, record.images.findIndex(({ label }) => label === preferences.image)));
  for (const part of main.querySelectorAll("[data-key]:not(g)")) listenTo(part);
  for (const region of regions) {
    for (const part of keyed(region.key)) part.style.setProperty("--mark", `rgb(${region.colour})`);
  }
  lightUp(null);
}

function recordHead(record) {
  const move = (by, sign, words) => element("button", {
    type: "button", "aria-label": words, title: words, onclick: () => goTo(position + by),
    disabled: position + by < 0 || position + by >= page.matched,
  }, sign);
  const chips = [...record.sources, record.preset && `preset ${record.preset}`, record.size?.join(" × ")];
  return element("div", { class: "record-head" },
    element("h2", {}, record.id),
    element("span", { class: "chips" }, chips.filter(Boolean).map((text) => element("span", { class: "chip" }, text))),
    element("span", { class: "moves" }, move(-1, "←", "previous record"),
      element("span", { class: "place" }, [position + 1, page.matched].map((n) => n.toLocaleString("en")).join(" / ")),
      move(1, "→", "next record")));
}

function figureParts(record, figure) {
  const choices = record.images.map(({ label }, which) =>
    element("button", { type: "button", "data-image": which, onclick: () => showImage(which) }, label));
  const hasWords = record.images.some(({ words }) => words);
  const all = element("button", { type: "button", id: "all-masks", onclick: toggleMasks },
    hasWords ? "all words" : "all masks");
  figure.element.prepend(element("div", { class: "tools" },
    choices.length > 1 ? element("span", { class: "choice", role: "group", "aria-label": "image" }, choices) : null,
    record.marks.length || hasWords ? all : null));
  figure.element.append(element("figcaption", { id: "caption" }));
  return figure.element;
}

function noFigure(record) {
  return element("div", { class: "stage absent", "data-problem": `No image${record.file ? `: ${record.file}` : ""}` });
}

function showImage(which) {
  preferences.image = shown.record.images[which].label;
  shown.figure.show(which);
  for (const choice of main.querySelectorAll("[data-image]")) {
    choice.setAttribute("aria-pressed", choice.dataset.image === String(which));
  }
}

function toggleMasks() {
  preferences.allMasks = !preferences.allMasks;
  shown?.light(null);
}

function sampleCard({ id, recipe, shows, turns }, labels) {
  const title = [recipe ?? "conversation", shows === "clean" && "asked without tags", id !== shown.record.id && id];
  const which = shown.record.images.findIndex((image) => image.words && image.label === shows);
  return element("section", { class: "card", onpointerenter: () => which >= 0 && showImage(which) },
    element("h3", {}, title.filter(Boolean).join(" · ")),
    turns.map((turn) => element("div", { class: `turn ${turn.from === "human" ? "human" : "other"}` },
      element("span", { class: "speaker" }, turn.from), spokenText(turn.value, labels))));
}

function rejectCard({ recipe, kind, reason, answer }, labels) {
  const detail = reason.startsWith(`${kind}: `) ? reason.slice(kind.length + 2) : reason;
  return element("section", { class: "card reject" },
    element("h3", {}, ["rejected", recipe].filter(Boolean).join(" · ")),
    element("p", { class: "kind" }, kind),
    detail && detail !== kind ? spokenText(detail, labels) : null,
    answer ? element("div", { class: "turn other" },
      element("span", { class: "speaker" }, "answer as given"), spokenText(answer, labels)) : null);
}

function spokenText(text, labels) {
  const pieces = mentionPieces(text.trim(), labels).map(({ text: words, label }) =>
    (label === null ? withImageChips(words) : element("span", { class: "mention", "data-key": label }, words)));
  return element("p", { class: "text" }, pieces.flat());
}

function withImageChips(words) {
  const chip = () => element("span", { class: "chip" }, "image");
  const special = (piece) => (piece === "<image>" ? chip() : /^<bbox>/.test(piece) ? placeMention(piece) : piece);
  return words.split(/(<image>|<bbox>\d+,\d+,\d+,\d+<\/bbox>)\n?/).map(special);
}

// A box in the text: pointing at it outlines its place on the page.
function placeMention(text) {
  const outline = () => shown.figure?.outline(text.match(/\d+/g).map(Number));
  const clear = () => shown.figure?.outline(null);
  return element("span", { class: "mention", tabindex: 0, onpointerenter: outline, onpointerleave: clear, onfocus: outline,
    onblur: clear }, text);
}

function marksTable(record, regions) {
  if (!record.marks.length) return null;
  const heads = ["mark", "name", "source", "visible"].map((head) => element("th", { scope: "col" }, head));
  const unsaid = ({ category, attributes }) => attributes.filter((word) => !category?.includes(word)).join(", ");
  const rows = regions.filter((region) => region.tag_box_xyxy).map((mark) => element("tr", { "data-key": mark.key },
    element("td", {}, element("button", { type: "button", class: "tag", "data-key": mark.key }, mark.label)),
    element("td", {}, mark.category ?? element("i", {}, "no name"),
      element("span", { class: "soft" }, ` ${unsaid(mark)}`)),
    element("td", { class: "soft" }, sourceOf(mark)),
    element("td", { class: "number" }, shareOf(mark, record))));
  return element("section", { class: "card" }, element("h3", {}, plural(record.marks.length, "mark")),
    element("table", {}, element("thead", {}, element("tr", {}, heads)),
      element("tbody", {}, rows)));
}

function skippedList(record, regions) {
  if (!record.skipped.length) return null;
  const skipped = regions.filter((region) => !region.tag_box_xyxy);
  return element("details", { class: "card" },
    element("summary", {}, `${plural(skipped.length, "region")} without a mark`),
    element("ul", {}, skipped.map((region) => element("li", { "data-key": region.key, tabindex: 0 },
      region.category ?? region.source, element("span", { class: "soft" }, ` ${region.reason}`)))));
}

function sourceOf({ source, score }) {
  return score == null ? source : `${source} ${score.toFixed(2)}`;
}

function shareOf({ area_visible: area }, { size: [width, height] }) {
  return `${(100 * area / width / height).toFixed(1)} %`;
}

// ---- Pointing

function keyed(key) {
  return [...main.querySelectorAll("[data-key]")].filter((part) => part.dataset.key === key);
}

function listenTo(part) {
  const { light, pick } = shown, { key } = part.dataset;
  part.addEventListener("pointerenter", () => light(key));
  part.addEventListener("pointerleave", () => light(null));
  part.addEventListener("focus", () => light(key));
  part.addEventListener("blur", () => light(null));
  part.addEventListener("click", (event) => {
    event.stopPropagation(); // a button lies in its row
    pick(key);
  });
}

function lightUp(key) {
  const { record, figure, regions, held } = shown;
  figure?.light(key, preferences.allMasks);
  for (const part of main.querySelectorAll("[data-key]:not(g)")) {
    part.classList.toggle("lit", part.dataset.key === key);
    if (part.matches("button")) part.setAttribute("aria-pressed", part.dataset.key === held());
  }
  $("#all-masks")?.setAttribute("aria-pressed", preferences.allMasks);
  $("#caption")?.replaceChildren(...caption(record, regions.find((region) => region.key === key)));
}

function caption(record, region) {
  if (!region) return [record.file || (record.images[0]?.path ?? "")];
  const name = [region.label, region.category ?? "no name"].filter(Boolean).join(". ");
  const facts = [sourceOf(region), `${shareOf(region, record)} of the image`, region.reason].filter(Boolean);
  const swatch = element("span", { class: "swatch" });
  swatch.style.background = `rgb(${region.colour})`;
  return [swatch, element("b", {}, name), ` ${facts.join(" · ")}`];
}

// ---- Keys and events

const KEYS = {
  ArrowLeft: () => goTo(position - 1),
  ArrowRight: () => goTo(position + 1),
  c: () => shown?.figure && showImage((Number(shown.figure.stage.dataset.shows) + 1) % shown.record.images.length),
  m: toggleMasks,
  "/": () => filterForm.elements.q.focus(),
  Escape: () => shown?.held() !== null && shown?.pick(shown.held()),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  const typing = event.target.closest?.("input, select");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape") || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

let pause = null;
filterForm.addEventListener("input", (event) => {
  clearTimeout(pause);
  pause = setTimeout(() => filterBy(chosenFilters()), event.target.matches("select") ? 0 : 200);
});
filterForm.addEventListener("submit", (event) => event.preventDefault());
filterForm.addEventListener("reset", () => filterBy({}));
pager.addEventListener("click", ({ target }) => {
  if (target.dataset.pages) goTo(page.offset + Number(target.dataset.pages) * DATA.list_length);
});
addEventListener("hashchange", visit);

document.title = `${DATA.title}: viewer`;
$("#title").textContent = DATA.title;
fillFilters();
visit();
