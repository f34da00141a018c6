"""Every recipe, answered from the annotation or the pages: LLaVA's schema, nothing said that is not known, seeded."""

import pickle
import re
from random import Random

import numpy as np
import pytest

from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.checks.labels import Labels
from data_gen.config import build
from data_gen.recipes import RECIPES
from data_gen.recipes.base import PageRecipe, Recipe
from data_gen.requests import Rejected, Request, Tagged
from llava_som.data.schema import Sample
from llava_som.data.text_boxes import decode_boxes
from llava_som.marks import MarkRecord, Region
from tests.unit.data_gen.conversations import SIDE, Script, converse, tagged
from tests.unit.data_gen.documents.pages import AGENDA, LETTER, MINUTES, text_page

TRUTH = GroundTruthAnnotator()
NAMES = ["red cup", "table", "person", "dog", "person"]


def picture(names=NAMES):
    """Marks that know all a source can: names, attributes, and where they will be."""
    at = [(10, 10, 40, 40), (100, 20, 80, 60), (20, 140, 70, 90), (200, 150, 90, 100), (220, 20, 60, 110)]
    return tagged(
        [
            Region.from_box(box, (SIDE, SIDE), name=name, attributes=("red",), trace=trace_of(box))
            for box, name in zip(at, names, strict=True)
        ]
    )


def trace_of(box):
    return tuple((box[0] + 10.0 + 8 * frame, box[1] + 10.0) for frame in range(5))


OF_MARKS = [name for name in RECIPES.names() if issubclass(RECIPES.get(name), Recipe)]
OF_PAGES = [name for name in RECIPES.names() if issubclass(RECIPES.get(name), PageRecipe)]


@pytest.fixture(params=OF_MARKS)
def recipe(request):
    return build(RECIPES.get(request.param), {})


@pytest.fixture(params=OF_PAGES)
def page_recipe(request):
    return build(RECIPES.get(request.param), {})


PAGES = {f"x.pdf/{k}": text_page(text) for k, text in enumerate((MINUTES, AGENDA, LETTER))}
PAGES["table"] = text_page("City Cost\nCork 12", kind="table", markdown="| City | Cost |\n| --- | --- |\n| Cork | 12 |")


def asked(recipe, pages=PAGES, seed=0):
    return list(recipe.samples(pages, lambda name: Random(f"{seed}:{name}")))


def test_a_conversation_is_a_llava_record(recipe):
    for seed in range(10):
        turns = converse(recipe, picture(), TRUTH, seed)
        assert [turn.speaker for turn in turns] == ["human", "gpt"] * (len(turns) // 2) and turns
        assert sum(turn.text.count("<image>") for turn in turns) == 1 and "<image>" in turns[0].text
        assert all(turn.text == turn.text.strip() != "" for turn in turns)


def test_tags_are_those_of_the_sidecar_also_after_saving_it(recipe, tmp_path):
    before = picture()
    record = MarkRecord.load(before.record.save(tmp_path / "x.marks.json"))
    labels = Labels.of([mark.label for mark in record.marks])
    for seed in range(10):
        turns = converse(recipe, before, TRUTH, seed)
        assert converse(recipe, Tagged("x", before.image, record), TRUTH, seed) == turns
        said = "\n".join(turn.text for turn in turns)
        listed = [item.label for turn in turns[1::2] for item in labels.items(turn.text)]
        assert set(labels.cited(said)) | set(listed) <= set(labels.names) and labels.cited(said) + listed


def test_only_the_given_rng_decides(recipe):
    np.random.seed(1)
    first = converse(recipe, picture(), TRUTH, 5)
    np.random.seed(2)
    assert converse(pickle.loads(pickle.dumps(recipe)), picture(), TRUTH, 5) == first
    assert len({converse(recipe, picture(), TRUTH, seed)[0].text for seed in range(60)}) > 20


def test_a_request_can_be_sent_and_answered_by_any_annotator(recipe):
    request = next(recipe.conversation(picture(), Random(0)))
    assert isinstance(request, Request) and request.messages[-1].role == "user" and 0 < request.max_tokens <= 16384
    assert request.image.open().size == (SIDE, SIDE) and request.truth
    assert pickle.loads(pickle.dumps(request)) == request


def test_what_cannot_be_used_is_rejected_with_what_was_said(recipe):
    with pytest.raises(Rejected) as caught:
        converse(recipe, picture(), Script("no idea", "still none"))
    assert "no idea" in caught.value.answer and caught.value.kind
    with pytest.raises(Rejected, match="no connection"):
        converse(recipe, picture(), Script(Rejected("no connection", "the server is gone")))


def test_conversations_about_pages_are_llava_records(page_recipe):
    for seed in range(10):
        samples = asked(page_recipe, seed=seed)
        assert len({sample.id for sample in samples}) == len(samples) and {s.pages for s in samples} >= {("table",)}
        for made in samples:
            assert set(made.pages) <= set(PAGES) and made.task
            turns = [{"from": turn.speaker, "value": turn.text} for turn in made.turns]
            record = {"id": made.id, "image": list(made.pages), "conversations": turns}
            assert Sample.from_record(record).messages[0].num_images == len(made.pages)
            assert all(turn.text == turn.text.strip() != "" for turn in made.turns)


def test_boxes_about_pages_hold_words_of_the_page(page_recipe):
    for seed in range(20):
        for made in asked(page_recipe, seed=seed):
            page = PAGES[made.pages[0]]
            for box in decode_boxes(" ".join(turn.text for turn in made.turns), page.size):
                inside = [
                    word.text
                    for word in page.words
                    if box[0] - 1 < word.box[0] and word.box[2] < box[2] + 1
                    if box[1] - 1 < word.box[1] and word.box[3] < box[3] + 1
                ]
                assert inside


def test_only_the_given_chance_decides_about_pages_and_each_page_by_itself(page_recipe):
    first = asked(page_recipe)
    np.random.seed(2)
    assert asked(pickle.loads(pickle.dumps(page_recipe))) == first
    alone = {"x.pdf/1": PAGES["x.pdf/1"]}
    assert asked(page_recipe, alone) == [sample for sample in first if sample.pages == ("x.pdf/1",)]
    assert len({asked(page_recipe, seed=seed)[0].turns[0].text for seed in range(60)}) > 5


@pytest.mark.parametrize("name", RECIPES.names())
def test_the_wording_is_described_by_a_hash_or_not_at_all(name):
    described = build(RECIPES.get(name), {}).describe()
    assert not described or ([*described] == ["wording_sha256"] and re.fullmatch("[0-9a-f]{64}", *described.values()))
