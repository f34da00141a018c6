from random import Random

import pytest
from PIL import Image

from data_gen.annotators.ground_truth import GroundTruthAnnotator
from data_gen.checks import Rejected, listing_problems
from data_gen.recipes.instructions import EVERY_OBJECT, SOME_REGIONS
from data_gen.recipes.listing import ListingRecipe
from llava_som.marks import Region, mark_image


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("1. cat\n2. dog\n3. a red cup, chipped", []),
        ("1. cat\n3. cup", ["missing: 2"]),
        ("1. cat\n2. dog\n3. cup\n4. hat", ["invented: 4"]),
        ("1. cat\n2. dog\n2. dog\n3. cup", ["repeated: 2"]),
        ("2. dog\n1. cat\n3. cup", ["out of order: 2, 1, 3"]),
        ("1. cat\n2.\n3. cup", ["empty: 2"]),
        ("I cannot see any tag.", ["missing: 1, 2, 3"]),
    ],
)
def test_every_fault_of_a_listing_is_named(text, problems):
    assert listing_problems(text, [1, 2, 3]) == problems


def test_there_are_enough_different_instructions_in_both_families():
    sentences = EVERY_OBJECT + SOME_REGIONS
    assert len(set(sentences)) == len(sentences) >= 44 and len(EVERY_OBJECT) >= 11 and len(SOME_REGIONS) >= 29
    assert all(sentence == sentence.strip() and sentence[-1] in ".?" for sentence in sentences)
    assert sum(sentence.endswith("?") for sentence in sentences) >= 10


def test_an_answer_that_fails_its_checks_is_rejected_with_the_reason():
    class Forgetful(GroundTruthAnnotator):
        def answer(self, question, marked):
            return super().answer(question, marked).replace("2.", "5.")

    image = Image.new("RGB", (640, 640))
    regions = [Region.from_box((x, 20, 90, 90), image.size, name="cup") for x in (10, 200)]
    with pytest.raises(Rejected, match="missing: 2; invented: 5") as caught:
        ListingRecipe().conversation(mark_image(image, regions), Forgetful(), Random(0))
    assert caught.value.kind == "the list does not fit the marks"
    good = ListingRecipe().conversation(mark_image(image, regions), GroundTruthAnnotator(), Random(0))
    assert good[1].text == "1. cup\n2. cup"
