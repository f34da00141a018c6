import json

from eval.report import markdown, write_report
from eval.results import PairedDifference, Results, Sample, Score

RESULTS = Results(
    [
        Score("pope", "pope_accuracy", 0.8125, 0.79, 0.83, "bootstrap", 9000, True),
        Score("som_listing_tagged", "overrun", 0.5, None, None, "none", 3, False),
    ],
    [Sample("pope", 0, "yes", "<b>yes</b> | no\nmaybe", {"pope_accuracy": 1.0})],
    {"model": "ours", "command": "python -m eval tasks=pope", "versions": {"torch": "2.15.0"}},
)
CHANGE = PairedDifference("pope", "pope_accuracy", 0.7, 0.8125, 0.1125, 0.09, 0.13, 9000)


def test_the_markdown_states_value_interval_size_and_circumstances():
    text = markdown(RESULTS)
    assert "| pope | pope_accuracy ↑ | 0.8125 | 0.79 to 0.83 | bootstrap | 9000 |" in text
    assert "| som_listing_tagged | overrun ↓ | 0.5 | unknown | none | 3 |" in text
    assert "python -m eval tasks=pope" in text and "torch: 2.15.0" in text
    assert "Change" not in text


def test_the_change_is_shown_when_there_is_one():
    assert "| 0.7 | 0.8125 | +0.1125 | 0.09 to 0.13 | 9000 |" in markdown(RESULTS, [CHANGE])


def test_all_files_are_written_and_answers_are_escaped(tmp_path):
    page = write_report(RESULTS, tmp_path / "out", [CHANGE]).read_text(encoding="utf-8")
    assert "&lt;b&gt;yes&lt;/b&gt;" in page and "<b>yes" not in page
    assert json.loads((tmp_path / "out/report.json").read_text())["scores"][0]["value"] == 0.8125
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        "samples.jsonl",
    }
