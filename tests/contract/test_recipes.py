"""Every recipe, answered from the annotation: LLaVA's schema, ids closed under the sidecar, seeded, picklable."""

import pickle
import re
from random import Random

import numpy as np
import pytest

from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.checks.labels import Labels
from data_gen.config import build
from data_gen.recipes import RECIPES
from data_gen.requests import Rejected, Request, Tagged
from llava_som.marks import MarkRecord, Region
from tests.unit.data_gen.conversations import SIDE, Script, converse, tagged

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


@pytest.fixture(params=RECIPES.names())
def recipe(request):
    return build(RECIPES.get(request.param), {})


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


def test_the_wording_is_described_by_a_hash_or_not_at_all(recipe):
    described = recipe.describe()
    assert not described or ([*described] == ["wording_sha256"] and re.fullmatch("[0-9a-f]{64}", *described.values()))
