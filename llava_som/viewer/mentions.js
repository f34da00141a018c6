// Where a text speaks of a mark: "3. a chair" on a line of its own, "tag 3", "tags 2, 3 and 4", "[3]", "(3)", "3": ...
// Only labels that the picture carries count, so that a year or an amount is left alone.

"use strict";

const TAG_WORD = "(?:tags?|marks?|numbers?|labels?|objects?|items?|regions?|ids?|no\\.|#)";
const JOINED = "(?:\\s*,\\s*(?:and\\s+|or\\s+)?|\\s+(?:and|or|to)\\s+|\\s*[-–]\\s*)";

// The text as pieces in order, [{text, label}]; label is null where no mark is meant. The pieces joined are the text.
function mentionPieces(text, labels) {
  if (!labels.length) return [{ text, label: null }];
  const spans = mentionSpans(text, labels).sort((a, b) => a.start - b.start || b.end - a.end);
  const pieces = [];
  let at = 0;
  spans.forEach(({ start, end, label }, k) => {
    if (start < at) return; // the same place in another shape
    const inner = spans.slice(k + 1).find((next) => next.start > start && next.label !== label);
    const stop = Math.min(end, inner?.start ?? end);
    if (start > at) pieces.push({ text: text.slice(at, start), label: null });
    pieces.push({ text: text.slice(start, stop), label });
    at = stop;
  });
  if (at < text.length) pieces.push({ text: text.slice(at), label: null });
  return pieces;
}

function mentionSpans(text, labels) {
  const escaped = labels.map((label) => label.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&"));
  const one = `(?<![\\p{L}\\p{N}])(?:${escaped.sort((a, b) => b.length - a.length).join("|")})(?![\\p{L}\\p{N}])`;
  const several = `${one}(?:${JOINED}${one})*`;
  const item = new RegExp(`^[ \\t]*(?:[-*•>][ \\t]+)?(?:\\*\\*)?${TAG_WORD}?[ \\t-]*[[(]?(${one})[\\])]?`
    + `(?:[.):]|[ \\t]+(?:is|are|marks|labels|shows)\\b|[ \\t]*[-–—][ \\t])[^\\n]*`, "dgimu");
  const inline = new RegExp(`[,;:.]\\s+(?:and\\s+)?(${one})[.):](?=\\s)`, "dgiu");
  const quoted = new RegExp(`["'](${one})["']\\s*:[^\\n]*`, "dgiu");
  const spoken = new RegExp(`(?<![\\p{L}])${TAG_WORD}\\s*[-#:]?\\s*(${several})`, "dgiu");
  const bracketed = new RegExp(`[[(](${several})[\\])]`, "dgu");
  const spans = [];
  for (const shape of [item, quoted]) {
    for (const found of text.matchAll(shape)) spans.push(span(found.indices[0], text.slice(...found.indices[1])));
  }
  for (const found of text.matchAll(inline)) {
    spans.push(span([found.indices[1][0], found.indices[0][1]], found[1]));
  }
  for (const shape of [spoken, bracketed]) {
    for (const found of text.matchAll(shape)) spans.push(...namedIn(text, found, one));
  }
  return spans;
}

// A single label takes the words around it along ("tag 3", "[3]"); of several, each stands for itself.
function namedIn(text, found, one) {
  const [begin, end] = found.indices[1];
  const named = [...text.slice(begin, end).matchAll(new RegExp(one, "giu"))];
  if (named.length === 1) return [span(found.indices[0], named[0][0])];
  return named.map((each) => span([begin + each.index, begin + each.index + each[0].length], each[0]));
}

function span([start, end], label) {
  return { start, end, label };
}
