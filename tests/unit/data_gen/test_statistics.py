import json
import random

import pytest

from data_gen.statistics import by_count, distribution, summarize
from data_gen.writers.lists import write_lists
from tests.unit.data_gen.finished_runs import finished_run

NAMES = ["cat", "horse", "van", "tree", None]


def listing(*items):
    return [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": "\n".join(items)}]


def entry(number, marks, *answers, rejects=()):
    samples = [
        {"id": f"{number}:{k}", "image": f"{number}.jpg", "recipe": recipe, "conversations": listing(*items)}
        for k, (recipe, items) in enumerate(answers)
    ]
    found = [{"recipe": "qa", "kind": kind, "reason": kind, "answer": ""} for kind in rejects]
    return {"id": str(number), "image": f"{number}.jpg", "sidecar": f"{marks}.json", "marks": marks, "skipped": 0} | {
        "samples": samples,
        "rejects": found,
        "usage": {"prompt_tokens": number, "completion_tokens": 1},
    }


ENTRIES = [
    entry(1, 2, ("listing", ["1. A cat", "2. a dog that sleeps in the sun"]), ("qa", ["There are 2. Both"])),
    entry(2, 1, ("listing", ["1. a cat"]), rejects=["few words", "refusal"]),
    entry(3, 3, ("listing", ["1. a cat", "2. red van"]), rejects=["few words"]),
    entry(4, 5, rejects=["few words"]),
]


@pytest.fixture
def out(tmp_path):
    """A folder with a sidecar for each number of marks: what statistics read of one."""
    for count in range(1, 6):
        marks = [{"label": str(k), "category": name} for k, name in zip(range(1, count + 1), NAMES, strict=False)]
        (tmp_path / f"{count}.json").write_text(json.dumps({"marks": marks, "skipped": []}))
    return tmp_path


def test_counts_of_marks_names_words_and_rejects(out):
    summary = summarize(out, ENTRIES)
    assert (summary["images"], summary["records"], summary["marks"]) == (4, 4, 6)
    assert summary["records_by_recipe"] == {"listing": 3, "qa": 1}
    assert summary["marks_per_image"] == {"min": 1, "mean": 2.0, "max": 3, "histogram": {"1": 1, "2": 1, "3": 1}}
    assert summary["items_per_listing"]["histogram"] == {"1": 1, "2": 1}  # not the one that leaves mark 3 out
    assert summary["words_per_item"]["histogram"] == {"2": 2, "7": 1}
    assert summary["vocabulary"] == {"size": 1, "top": {"a cat": 2}}  # a description is no name
    assert summary["agreement_with_annotation"] == round(2 / 3, 4)  # the second mark is annotated as a horse
    assert (summary["rejected"], summary["rejected_by_reason"]) == (4, {"few words": 3, "refusal": 1})
    assert summary["usage"] == {"prompt_tokens": 10, "completion_tokens": 4}


def test_an_untagged_twin_is_one_more_record_and_nothing_else(out):
    twins = [{**sample, "image": "clean.jpg"} for sample in ENTRIES[0]["samples"]]
    with_twins = {**ENTRIES[0], "samples": [*ENTRIES[0]["samples"], *twins]}
    once, twice = summarize(out, ENTRIES[:1]), summarize(out, [with_twins])
    differs = {key: (once[key], twice[key]) for key in once if once[key] != twice[key]}
    recipes = {"listing": 1, "qa": 1}, {"listing": 2, "qa": 2}
    assert differs == {"records": (2, 4), "untagged_twins": (0, 2), "records_by_recipe": recipes}


def test_the_order_of_the_entries_changes_nothing(out):
    shuffled = ENTRIES * 3
    random.Random(1).shuffle(shuffled)
    assert repr(summarize(out, shuffled)) == repr(summarize(out, ENTRIES * 3))


def test_reasons_without_a_mark_come_from_the_sidecars(tmp_path):
    without = finished_run(tmp_path / "strict", count=4, min_area=380)
    summary = write_lists(*without)
    assert summary["regions_without_mark"] == sum(entry.get("skipped", 0) for entry in without[1]) > 0
    ((reason, count),) = summary["regions_without_mark_by_reason"].items()
    assert "N of N pixels" in reason and count == summary["regions_without_mark"]
    assert write_lists(*finished_run(tmp_path / "lax"))["regions_without_mark_by_reason"] == {}


def test_nothing_counted_is_no_division_by_zero(tmp_path):
    summary = summarize(tmp_path, [])
    assert summary["images"] == summary["records"] == summary["marks"] == 0 and summary["marks_per_image"] == {}
    assert distribution({}) == {} and by_count({}) == {}
