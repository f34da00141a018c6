import os
import pickle
import shutil
from io import BytesIO

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
)

from data_gen.annotators.local_model import LocalModelAnnotator, SeededDraw
from data_gen.requests import Answer, EncodedImage, Example, Message, Rejected, Request
from tests.tiny import drawn_image, tiny_model, tiny_tokenizer

ENDS = list(range(11, 300, 6))  # so many tokens end an answer that random weights soon meet one
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}"
)
TEMPLATE += "{% endfor %} {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def encoded(seed):
    file = BytesIO()
    drawn_image(seed).save(file, "PNG")
    return EncodedImage(file.getvalue(), "image/png")


def requests(count=6):
    """Of different lengths, with and without worked examples, each with a limit of its own."""
    return [
        Request(
            image=encoded(k),
            messages=(Message("user", "List the tagged items. " * (k + 1)),),
            examples=(Example(encoded(9), "1. red circle"),) * (k % 2),
            max_tokens=4 + 3 * k,
            seed=k,
        )
        for k in range(count)
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model, processor = tiny_model()
    model.generation_config.eos_token_id = ENDS
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def foreign_checkpoint(tmp_path_factory):
    """A model that llava_som does not know: LLaVA-NeXT, with its tiles."""
    folder = tmp_path_factory.mktemp("next")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokenizer = tiny_tokenizer()
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=8),
        text_config=LlamaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=2048),
        image_token_id=image_token,
        image_grid_pinpoints=[[32, 64], [64, 32]],
    )
    torch.manual_seed(0)
    model = LlavaNextForConditionalGeneration(config)
    model.generation_config.eos_token_id = ENDS
    model.save_pretrained(folder)
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 64], [64, 32]]
    )
    LlavaNextProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def same(results):
    return [str(r) + r.answer if isinstance(r, Rejected) else r for r in results]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5}, {"temperature": 1.5, "top_p": 0.8}])
def test_a_batch_says_what_each_request_alone_would(checkpoint, sampling):
    annotator = LocalModelAnnotator(model=checkpoint, device="cpu", **sampling)
    together = annotator.answer(requests())
    alone = [annotator.answer([request])[0] for request in requests()]
    assert same(together) == same(alone)
    assert {type(result) for result in together} == {Answer, Rejected}  # some end by themselves, some are cut
    assert {result.kind for result in together if isinstance(result, Rejected)} == {"answer cut short"}
    assert all(1 <= r.completion_tokens < 20 and r.prompt_tokens > 16 for r in together if isinstance(r, Answer))


def test_sampling_depends_on_the_seed_of_the_request_alone(checkpoint):
    annotator = LocalModelAnnotator(model=checkpoint, device="cpu", temperature=1.5, max_tokens=12)
    asked = [Request(image=encoded(0), messages=(Message("user", "List."),), seed=seed) for seed in (1, 2, 1)]
    first, second, third = same(annotator.answer(asked))
    assert first == third != second


def test_draws_follow_the_softmax():
    scores = torch.tensor([0.0, 1.0, 2.0]).repeat(20_000, 1)
    drawn = SeededDraw(range(20_000), temperature=2.0, top_p=None)(None, scores).argmax(1)
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.softmax(scores[0] / 2, 0), atol=0.015, rtol=0)


def test_top_p_leaves_unlikely_tokens_out():
    scores = torch.tensor([[0.0, 1.0, 5.0]]).repeat(500, 1)
    assert (SeededDraw(range(500), temperature=1.0, top_p=0.5)(None, scores).argmax(1) == 2).all()


def test_a_killed_run_keeps_what_was_computed(checkpoint, tmp_path, monkeypatch):
    options = {"model": checkpoint, "device": "cpu", "cache": tmp_path, "batch_size": 2}
    before = LocalModelAnnotator(**options).answer(requests(4))
    after = LocalModelAnnotator(**options)
    monkeypatch.setattr(LocalModelAnnotator, "_generate", lambda self, asked: pytest.fail("computed again"))
    assert same(after.answer(requests(4))) == same(before)


def test_a_checkpoint_trained_again_is_asked_again(checkpoint, tmp_path):
    (question,) = {str(LocalModelAnnotator(model=checkpoint).question(requests(1)[0])) for _ in range(2)}
    shutil.copytree(checkpoint, tmp_path / "copy")
    copy = LocalModelAnnotator(model=str(tmp_path / "copy"))
    os.utime(tmp_path / "copy" / "model.safetensors")
    assert str(copy.question(requests(1)[0])) != question.replace(checkpoint, copy.model)


def test_a_batch_that_does_not_fit_into_memory_is_halved(checkpoint, tmp_path, monkeypatch):
    annotator = LocalModelAnnotator(model=checkpoint, device="cpu", cache=tmp_path)
    expected = annotator._generate(requests(5))
    generate, sizes = LocalModelAnnotator._generate, []

    def small_gpu(self, asked):
        sizes.append(len(asked))
        if len(asked) > 2 or any(request.seed == 3 for request in asked):
            raise torch.OutOfMemoryError
        return generate(self, asked)

    monkeypatch.setattr(LocalModelAnnotator, "_generate", small_gpu)
    results = annotator.answer(requests(5))
    assert sizes == [5, 2, 3, 1, 2, 1, 1]
    assert results[3].kind == "out of memory"
    assert same(results[:3] + results[4:]) == same([reply.result() for reply in expected[:3] + expected[4:]])
    assert len(list(tmp_path.rglob("*.json"))) == 4  # what did not fit is tried again by the next run


def test_any_image_text_model_of_transformers_answers(foreign_checkpoint):
    annotator = LocalModelAnnotator(model=foreign_checkpoint, device="cpu")
    together = annotator.answer(requests(4))
    assert same(together) == same([annotator.answer([request])[0] for request in requests(4)])
    assert any(isinstance(result, Answer) for result in together)


def test_a_model_that_takes_one_picture_says_so(checkpoint, monkeypatch):
    annotator = LocalModelAnnotator(model=checkpoint, device="cpu")

    def one_picture(conversations):
        raise ValueError("only one image per prompt")

    monkeypatch.setattr(annotator.assistant, "inputs", one_picture)
    with pytest.raises(ValueError, match=r"with 2 pictures.*only one image per prompt.*without worked examples"):
        annotator.answer(requests(2))


def test_the_model_does_not_travel(checkpoint):
    annotator = LocalModelAnnotator(model=checkpoint, device="cpu", batch_size=3)
    annotator.answer(requests(1))
    assert len(pickle.dumps(annotator)) < 1000
    assert annotator.requests_per_call == 3 and annotator.requests_in_flight == 1 and annotator.is_shared
    assert annotator.describe() == {"model": checkpoint, "temperature": 0.0, "dtype": "auto"}


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        LocalModelAnnotator(model=str(tmp_path / "nowhere"), device="cpu").answer(requests(1))
    with pytest.raises(ValueError, match="batch_size=0"):
        LocalModelAnnotator(model="x", batch_size=0)
