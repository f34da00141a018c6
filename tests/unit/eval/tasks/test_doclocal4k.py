import pytest

from eval.tasks.doclocal4k.task import score_grounding, score_recognition


def row(task_name, answer):
    return {"image": ["a.png"], "task_name": task_name, "messages": [{"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("answer", "hit"),
    [
        ("<bbox>0,0,999,999</bbox>", 1),
        ("<bbox>0,0,999,500</bbox>", 1),  # 500 of 999 is just over one half
        ("<bbox>0,0,999,499</bbox>", 0),
        ("the box is <bbox>0,0,999,999</bbox>", 0),
        ("", 0),
    ],
)
def test_a_box_is_right_from_an_overlap_of_one_half(answer, hit):
    scores = score_grounding(row("word_t2bbox_sft", "<bbox>0,0,999,999</bbox>"), [answer])
    assert scores == {"iou50": hit, "iou50_word": hit}


@pytest.mark.parametrize(
    ("task_name", "text", "metric"),
    [
        ("word_bbox2t_sft", "Invoice", "bleu1_word"),
        ("phrase_bbox2t_sft", "amount due", "bleu2_phrase"),
        ("line_bbox2t_sft", "the amount is due", "bleu3_line"),
        ("paragraph_bbox2t_sft", "Dear reader,\nthis is it.", "bleu4_block"),
    ],
)
def test_texts_are_scored_by_ngrams_of_their_granularity(task_name, text, metric):
    scores = score_recognition(row(task_name, f"<ocr> {text} </ocr>"), [text])
    assert scores.keys() == {"bleu", metric}
    assert scores[metric] == pytest.approx(1)
    assert score_recognition(row(task_name, text), ["something else entirely here"])[metric] < 1e-3


def test_a_row_of_no_granularity_or_box_is_named():
    with pytest.raises(ValueError, match="'page_bbox2t_sft' must begin with word, phrase, line or paragraph"):
        score_recognition(row("page_bbox2t_sft", "x"), ["x"])
    with pytest.raises(ValueError, match="its reference 'x' is not one box"):
        score_grounding(row("word_t2bbox_sft", "x"), ["x"])
