"""The lists of a run, rebuilt from its journal in the order of the source: for training, evaluation and people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data_gen.card import dataset_card, shareable
from data_gen.documents.statistics import summarize_pages
from data_gen.journal import Entry
from data_gen.statistics import summarize
from data_gen.writers import WRITERS
from data_gen.writers.base import stored_samples
from data_gen.writers.files import save_json_lines, save_json_list, save_text

if TYPE_CHECKING:
    from data_gen.config import Run

logger = logging.getLogger(__name__)


def write_lists(run: Run, entries: Sequence[Entry]) -> dict[str, Any]:
    """Write data.json, eval.jsonl (of marked images), rejects.jsonl, the formats asked for, summary.json and README.md.

    Args:
        run: its identity goes into the summary and the card.
        entries: the journal's, in the order of the source; gone through several times.

    Returns:
        The summary.

    Raises:
        OSError: the disk is full or a file may not be written. No file is half written.
    """
    out, identity = run.config.out, run.identity()
    save_json_list((sample for entry in entries for sample in entry["samples"]), out / "data.json")
    if not run.is_of_pages:
        save_json_lines(evaluation_rows(entries), out / "eval.jsonl")
    save_json_lines(reject_rows(entries), out / "rejects.jsonl")
    for writer in run.writers:
        writer.write(out, stored_samples(out, entries, identity["source"]["name"]))
    for name in WRITERS.names():
        if name not in run.config.formats and (old := out / WRITERS.get(name).path).exists():
            logger.warning("%s is of an earlier run; formats=[%s] would renew it.", old, name)
    summary = summarize_pages(entries) if run.is_of_pages else summarize(out, entries)
    summary["usage"]["cost"] = round(run.annotator.cost(**summary["usage"]), 4)  # USD, by the prices given
    stored = {**summary, "run": shareable(identity)}
    save_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", out / "summary.json")
    save_text(dataset_card(run, summary, run.writers), out / "README.md")
    return summary


def evaluation_rows(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """One row for each image with a sample: where it, its sidecar and its untagged twin are."""
    for entry in entries:
        if entry["samples"]:
            yield {key: entry[key] for key in ("id", "image", "clean_image", "sidecar") if key in entry}


def reject_rows(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """One row for each reject: what was asked, why it is not in the data, what the annotator said, where to look."""
    for entry in entries:
        place = {key: entry[key] for key in ("image", "sidecar") if key in entry}
        for reject in entry["rejects"]:
            yield {"id": entry["id"], "file": entry["file"], **reject, **place}
