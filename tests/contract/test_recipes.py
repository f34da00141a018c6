"""Every recipe, answered by every annotator: LLaVA's schema, ids closed under the sidecar, seeded, round trip."""

from itertools import product
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_gen.annotators import ANNOTATORS
from data_gen.checks import Rejected
from data_gen.pipeline import llava_sample
from data_gen.recipes import RECIPES
from llava_som.marks import MarkRecord, Region, mark_image, parse_listing

NAMES = ["red cup", "table", "person, standing", "dog"]


def marked_image(names):
    image = Image.new("RGB", (640, 640), "gray")
    boxes = [(20, 20, 100, 100), (200, 40, 160, 120), (60, 300, 220, 200), (350, 350, 240, 240)]
    regions = [Region.from_box(box, image.size, name=name) for box, name in zip(boxes, names, strict=True)]
    return mark_image(image, regions)


@pytest.fixture(params=list(product(RECIPES.names(), ANNOTATORS.names())), ids="-".join)
def pair(request):
    recipe, annotator = request.param
    return RECIPES.get(recipe)(), ANNOTATORS.get(annotator)()


def test_a_conversation_is_a_llava_record(pair):
    recipe, annotator = pair
    turns = recipe.conversation(marked_image(NAMES), annotator, Random(0))
    sample = llava_sample("x", "images/x.jpg", turns)
    assert [turn["from"] for turn in sample["conversations"]] == ["human", "gpt"] * (len(turns) // 2)
    assert sum(turn["value"].count("<image>") for turn in sample["conversations"]) == 1
    assert "<image>" in sample["conversations"][0]["value"] and all(turn.text.strip() for turn in turns)


def test_listed_ids_are_those_of_the_sidecar_also_after_saving_it(pair, tmp_path):
    recipe, annotator = pair
    marked = marked_image(NAMES)
    marked.save(tmp_path / "x.png")
    record = MarkRecord.load(tmp_path / "x.marks.json")
    answer = recipe.conversation(marked, annotator, Random(0))[-1].text
    assert parse_listing(answer).keys() <= {mark.id for mark in record.marks}


def test_only_the_given_rng_decides(pair):
    recipe, annotator = pair
    marked = marked_image(NAMES)
    np.random.seed(1)
    first = recipe.conversation(marked, annotator, Random(5))
    np.random.seed(2)
    assert recipe.conversation(marked, annotator, Random(5)) == first
    assert len({recipe.conversation(marked, annotator, Random(seed))[0].text for seed in range(60)}) > 20


def test_a_region_without_a_name_is_rejected_by_ground_truth():
    with pytest.raises(Rejected, match=r"region without a name.*mark 2"):
        RECIPES.get("listing")().conversation(
            marked_image(["a", None, "b", "c"]), ANNOTATORS.get("ground_truth")(), Random(0)
        )
