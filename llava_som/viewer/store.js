// Where records come from: the server, a list page at a time, or the page itself. Both answer the same two questions.

"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const NO_REJECT = "(none)", ANY_REJECT = "(any)"; // as in records.py

class ServedStore {
  facets = DATA.facets;

  // {matched, offset, records, position}: see server.py
  index(filters, place) {
    return this.get("api/index", { ...filters, ...place });
  }

  record(number) {
    return this.get("api/record", { number });
  }

  async get(address, parameters) {
    const response = await fetch(`${address}?${new URLSearchParams(parameters)}`);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

class InlineStore {
  constructor(records) {
    this.records = records;
    this.words = records.map(searchableText);
    this.facets = {
      sources: counted(records.flatMap((record) => record.sources)),
      recipes: counted(records.flatMap((record) => record.recipes)),
      kinds: counted(records.flatMap((record) => record.kinds)),
      rejected: records.filter((record) => record.kinds.length).length,
      most_tags: Math.max(0, ...records.map((record) => record.tags)),
    };
  }

  async index(filters, { record }) {
    const records = this.records.filter((each, k) => admits(filters, each, this.words[k]));
    const position = records.findIndex((each) => each.number === record);
    return { matched: records.length, offset: 0, records, position: position < 0 ? null : position };
  }

  async record(number) {
    return this.records.find((record) => record.number === number);
  }
}

// The same rules as Query in records.py.
function admits({ source, recipe, kind, min, max, q }, record, words) {
  return (!source || record.sources.includes(source))
    && (!recipe || record.recipes.includes(recipe))
    && (!kind || (kind === NO_REJECT ? !record.kinds.length : kind === ANY_REJECT ? record.kinds.length > 0
      : record.kinds.includes(kind)))
    && record.tags >= Number(min ?? 0)
    && record.tags <= Number(max ?? Infinity)
    && (!q || words.includes(q.toLowerCase()));
}

function searchableText(record) {
  const turns = record.samples.flatMap((sample) => sample.turns.map((turn) => turn.value));
  const rejects = record.rejects.flatMap((reject) => [reject.kind, reject.reason, reject.answer]);
  const names = record.marks.map((mark) => mark.category ?? "");
  return [record.id, record.file, ...names, ...turns, ...rejects].join("\n").toLowerCase();
}

function counted(values) {
  const counts = Object.create(null);
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

const STORE = DATA.records ? new InlineStore(DATA.records) : new ServedStore();
