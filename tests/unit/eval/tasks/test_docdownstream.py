import json
import logging
import os

import pytest
from datasets import Dataset

from eval.metrics.corpus import corpus_value
from eval.tasks.docdownstream.chartqa.task import score as score_chart
from eval.tasks.docdownstream.deepform import example as forms
from eval.tasks.docdownstream.deepform import task as deepform
from eval.tasks.docdownstream.docvqa import example as letters
from eval.tasks.docdownstream.docvqa import task as docvqa
from eval.tasks.docdownstream.dude import example as kinds
from eval.tasks.docdownstream.dude import task as dude
from eval.tasks.docdownstream.key_values import score as score_pairs
from eval.tasks.docdownstream.mp_docvqa import example as multi_page
from eval.tasks.docdownstream.mp_docvqa import task as mp_docvqa
from eval.tasks.docdownstream.tabfact.task import score as score_verdict
from eval.tasks.docdownstream.visualmrc import example as sentences
from eval.tasks.docdownstream.visualmrc.task import score as score_sentence


def rows_of(example, folder, file):
    example.write(folder)
    return Dataset.from_list([json.loads(line) | {"root": str(folder)} for line in (folder / file).open()])


def rewrite(file, change):
    """Apply `change` to the list of lines of a JSONL."""
    lines = [json.loads(line) for line in file.open()]
    change(lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def form_rows(tmp_path):
    return rows_of(forms, tmp_path, "test/DeepForm_test.jsonl")


@pytest.fixture
def meta(tmp_path):
    return tmp_path / "meta/DeepForm/test"


def reference_row(answer):
    return {"image": ["a.png"], "messages": [{"role": "assistant", "content": answer}]}


def f1(rows, answers):
    return corpus_value([score_pairs(row, [answer])["f1"] for row, answer in zip(rows, answers, strict=True)])


def test_forms_are_scored_over_all_documents(form_rows):
    """Nine values are true in two forms of five keys. "None" for all is 0; two of three right: P 2/3, R 2/9."""
    rows = deepform.documents(form_rows)
    assert [len(row["references"]) for row in rows] == [1] * 9 + [0]
    assert f1(rows, ["None"] * 10) == 0
    assert f1(rows, ["FIRST-ADVE", "first flig", "wrong"] + ["None"] * 7) == pytest.approx(2 * 2 / (3 + 9))


def test_values_of_keys_nobody_asks_for_count_as_missed(form_rows, meta):
    extra = {"key": "phone", "values": [{"value": "1"}, {"value": "2"}]}
    rewrite(meta / "document.jsonl", lambda lines: lines[0]["annotations"].append(extra))
    rows = deepform.documents(form_rows)
    assert [row["unasked"] for row in rows] == [2] + [0] * 9
    perfect = [row["references"][0][0] if row["references"] else "None" for row in rows]
    assert f1(rows, perfect) == pytest.approx(2 * 9 / (9 + 11))


def test_documents_without_questions_are_told(form_rows, meta, caplog):
    rewrite(meta / "document.jsonl", lambda lines: lines.append({"name": "third", "annotations": []}))
    with caplog.at_level(logging.WARNING):
        deepform.documents(form_rows)
    assert "nothing is asked about 1 of 3 documents" in caplog.text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("metadata.jsonl", lambda lines: lines.pop(), "metadata.jsonl has 9 lines for 10 questions"),
        ("metadata.jsonl", lambda lines: lines[1].update(lines[0]), "asks 2 times for 'advertiser' of 'first'"),
        ("document.jsonl", lambda lines: lines.pop(), "document.jsonl has no 'second'"),
        ("metadata.jsonl", lambda lines: lines[0].update(ground_truth='{"gt_parses": [{"question": "Who?"}]}'),
         r"the question 'Who\?' names none of the keys advertiser, flight_from"),
        ("metadata.jsonl", lambda lines: lines[2].pop("ground_truth"), r"DeepForm/test/metadata\.jsonl:3: must have"),
        ("document.jsonl", lambda lines: lines[1].pop("annotations"), r"DeepForm/test/document\.jsonl:2: must have"),
    ],
)  # fmt: skip
def test_meta_files_of_other_data_are_refused(form_rows, meta, file, change, message):
    rewrite(meta / file, change)
    with pytest.raises(ValueError, match=message):
        deepform.documents(form_rows)


def test_a_missing_or_broken_meta_file_is_named(form_rows, meta):
    (meta / "document.jsonl").write_text("{}\n{")
    with pytest.raises(ValueError, match=r"document\.jsonl:2: is not JSON"):
        deepform.documents(form_rows)
    (meta / "document.jsonl").unlink()
    with pytest.raises(ValueError, match=r"document\.jsonl: no such file"):
        deepform.documents(form_rows)


def test_any_variant_of_an_answer_is_accepted(tmp_path):
    rows = docvqa.documents(rows_of(letters, tmp_path, "test/DocVQA_test.jsonl"))
    assert docvqa.score(rows[0], ["july 4, 1996"]) == docvqa.score(rows[0], ["4 July 1996"]) == {"anls": 1.0}
    rewrite(tmp_path / "meta/DocVQA/test/document.jsonl", lambda lines: lines[0]["annotations"][0].update(values=[]))
    with pytest.raises(ValueError, match=r"has no answer to 'What is the date\?' about 'letter'"):
        docvqa.documents(rows.remove_columns("references"))


@pytest.mark.parametrize(
    ("answer", "accuracy"), [("True", 1), ("true.", 1), ("False", 0), ("entailed", 0), ("It is true", 0), ("", 0)]
)
def test_a_verdict_is_right_or_wrong_and_anything_else_is_wrong(answer, accuracy):
    assert score_verdict(reference_row("True"), [answer]) == {"accuracy": accuracy}


def test_chart_answers_may_end_with_a_stop():
    assert score_chart(reference_row("1,200"), ["1150."]) == {"relaxed_accuracy": 1}
    assert score_chart(reference_row("Red."), ["red"]) == {"relaxed_accuracy": 1}


def test_multi_page_documents_are_grouped_by_pages_given_and_by_page_of_the_answer(tmp_path):
    rows = mp_docvqa.documents(rows_of(multi_page, tmp_path, "val/MP-DocVQA_val.jsonl"))
    assert [set(mp_docvqa.score(row, ["x"])) - {"anls"} for row in rows] == [
        {"anls_of_1_page", "anls_on_page_1"},
        {"anls_of_2_to_10_pages", "anls_on_page_2_to_10"},
        {"anls_of_over_10_pages", "anls_on_page_over_10"},
    ]
    half = rows[0] | {"references": ["15"]}
    assert mp_docvqa.score(half, ["12"])["anls"] == 0.5


def test_references_in_another_order_are_refused(tmp_path):
    rows = rows_of(multi_page, tmp_path, "val/MP-DocVQA_val.jsonl")
    with pytest.raises(ValueError, match=r"reference 1 is about 'Which code is on page 1\?', question 1 is"):
        mp_docvqa.documents(rows.select([1, 0, 2]))
    with pytest.raises(ValueError, match="3 references for 2 questions"):
        mp_docvqa.documents(rows.select([0, 1]))
    (tmp_path / "meta/MP-DocVQA/val.json").write_text('{"data": [{"question": "Who?", "answers": []}]}')
    with pytest.raises(ValueError, match=r"val\.json: record 1 has no answer_page_idx"):
        mp_docvqa.documents(rows)
    (tmp_path / "meta/MP-DocVQA/val.json").write_text("[]")
    with pytest.raises(ValueError, match=r'val\.json: has no list "data"'):
        mp_docvqa.documents(rows)


def test_dude_scores_by_kind_of_answer(tmp_path):
    rows = dude.documents(rows_of(kinds, tmp_path, "val/DUDE_val.jsonl"))
    abstractive, extractive, listed, unanswerable = rows
    assert dude.score(abstractive, ["yes"]) == {"anls": 1, "anls_abstractive": 1}
    assert dude.score(extractive, ["1999"]) == {"anls": 0.75, "anls_extractive": 0.75}
    assert dude.score(listed, ["Lyon, Rome"]) == {"anls": 1, "anls_list": 1}
    assert dude.score(listed, ["Lyon"]) == {"anls": 0.5, "anls_list": 0.5}
    assert dude.score(unanswerable, ["It is not answerable."]) == {"anls": 1, "anls_not_answerable": 1}
    assert dude.score(unanswerable, ["Ann"])["anls"] == dude.score(unanswerable, [" "])["anls"] == 0
    assert dude.score(extractive, ["Not answerable"])["anls"] == 0


def test_dude_reads_the_file_of_all_splits_or_the_one_that_the_released_evaluation_makes_of_it(tmp_path):
    rows = rows_of(kinds, tmp_path, "val/DUDE_val.jsonl")
    meta = tmp_path / "meta/DUDE"
    (meta / "annotation.json").rename(meta / "val_eval_gt.json")
    assert dude.documents(rows)["references"][2] == ["Rome", "Lyon"]
    (meta / "val_eval_gt.json").unlink()
    with pytest.raises(ValueError, match=r"meta/DUDE: has no val_eval_gt\.json or annotation\.json"):
        dude.documents(rows)


def test_cider_weighs_words_by_the_whole_file_and_sees_its_changes(tmp_path):
    file = tmp_path / "test/VisualMRC_test.jsonl"
    row = rows_of(sentences, tmp_path, "test/VisualMRC_test.jsonl")[0]
    before = score_sentence(row, ["The museum opens at nine today."])["cider"]
    rewrite(file, lambda lines: lines.append(lines[0]))
    os.utime(file, ns=(1, 1))
    assert 0 < score_sentence(row, ["The museum opens at nine today."])["cider"] != before
