"""A page to look at before training on anything: marked images beside their conversation and what the sidecar knows.

Static HTML without scripts or outside files; images are linked by paths relative to the page, so the folder can move.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from data_gen.journal import Entry
from data_gen.writers import save_text
from llava_som.marks.record import MarkRecord, RecordedMark

STYLE = """
:root { color-scheme: light dark; --page: #f5f6f7; --card: #fff; --line: #e1e3e7;
  --ink: #1b1d21; --soft: #6a7078; --accent: #2457c5; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1d2024; --line: #33373d;
  --ink: #e7e8ea; --soft: #9aa1aa; --accent: #8fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 24px 80px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0; font-size: 24px; letter-spacing: -.01em; }
header p { margin: 4px 0 28px; color: var(--soft); }
article { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr); gap: 24px;
  margin: 0 0 20px; padding: 20px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
@media (max-width: 760px) { article { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line); }
img.small { image-rendering: pixelated; }
figcaption, .skipped { margin-top: 8px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.human { margin: 0 0 12px; padding-left: 12px; border-left: 3px solid var(--accent); }
.gpt { margin: 0 0 16px; white-space: pre-line; }
table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px 4px 0; border-top: 1px solid var(--line); text-align: left; font-weight: normal; }
th { color: var(--soft); border-top: 0; }
td.number, th.number { text-align: right; }
"""
SMALL_SIDE = 256  # images below this are enlarged with their pixels kept square


def write_contact_sheet(out: Path, entries: Sequence[Entry], count: int) -> Path:
    """Write out/index.html with `count` finished records, evenly spread over the run; returns its path."""
    records = [entry for entry in entries if entry["status"] == "ok"]
    shown = [records[k * len(records) // min(count, len(records))] for k in range(min(count, len(records)))]
    cards = "\n".join(card(entry, MarkRecord.load(out / entry["sidecar"])) for entry in shown)
    rejected = len(entries) - len(records)
    facts = f"{len(shown)} of {len(records)} records" + (f", {rejected} images set aside" if rejected else "")
    title = escape(out.resolve().name)
    page = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}: contact sheet</title>\n<style>{STYLE}</style>\n"
        f"<header><h1>{title}</h1><p>{facts}</p></header>\n{cards}\n</html>\n"
    )
    save_text(page, out / "index.html")
    return out / "index.html"


def card(entry: Entry, record: MarkRecord) -> str:
    """One record: the marked image, its conversation, a table of its marks."""
    width, height = record.size
    small = ' class="small"' if min(record.size) < SMALL_SIDE else ""
    name = escape(entry["id"])
    turns = "".join(
        f'<p class="{turn["from"]}">{escape(turn["value"].replace("<image>", "").strip())}</p>'
        for turn in entry["sample"]["conversations"]
    )
    rows = "".join(mark_row(mark, width * height) for mark in record.marks)
    skipped = "".join(
        f'<p class="skipped">no mark: {escape(region.category or region.source)}, {escape(region.reason)}</p>'
        for region in record.skipped
    )
    return (
        f'<article>\n<figure><img{small} src="{quote(entry["image"])}" width="{width}" height="{height}" loading="lazy"'
        f' alt="{name} with {len(record.marks)} numbered marks">'
        f"<figcaption>{name}, {width}×{height}, preset {escape(record.preset.name)}</figcaption></figure>\n"
        f"<div>{turns}\n<table><tr><th>mark<th>name<th>source"
        f'<th class="number">visible<th class="number">number at</tr>\n{rows}</table>{skipped}</div>\n</article>'
    )


def mark_row(mark: RecordedMark, image_area: int) -> str:
    """One mark as a table row: number, name, source with its score, visible share of the image, where the number is."""
    score = "" if mark.score is None else f" {mark.score:.2f}"
    x, y = mark.point_xy
    return (
        f"<tr><td>{escape(mark.label)}<td>{escape(mark.category or '(no name)')}<td>{escape(mark.source)}{score}"
        f'<td class="number">{mark.area_visible / image_area:.1%}<td class="number">{x}, {y}</tr>\n'
    )
