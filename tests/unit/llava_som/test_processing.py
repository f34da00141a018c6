import pytest
import torch

from llava_som.chat_templates import END_OF_TURN, load_chat_template
from llava_som.processing import LlavaSomProcessor
from tests.tiny import assistant, drawn_image, tiny_model, tiny_tokenizer, user

TWO_TURNS = [
    user("What is 1?", drawn_image(1)),
    assistant("A red circle."),
    {"role": "user", "content": "And 2?"},
    {"role": "assistant", "content": "A blue square."},
]
TRAINED = {
    "vicuna": [" A red circle.</s>", " A blue square.</s>"],
    "docowl": [" A red circle.</s>", " A blue square.</s>"],
    "chatml": ["A red circle.<|im_end|>", "A blue square.<|im_end|>"],
    "llama3": ["A red circle.<|eot_id|>", "A blue square.<|eot_id|>"],
}
IMAGE = "<image>" * 16
RENDERED = {
    "vicuna": "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    f"detailed, and polite answers to the user's questions. USER: {IMAGE}\nWhat is 1? ASSISTANT: A red circle.</s>"
    "USER: And 2? ASSISTANT: A blue square.</s>",
    "docowl": f"<s>USER: {IMAGE}What is 1? ASSISTANT: A red circle.</s>USER: And 2? ASSISTANT: A blue square.</s>",
    "chatml": f"<s><|im_start|>user\n{IMAGE}\nWhat is 1?<|im_end|>\n<|im_start|>assistant\nA red circle.<|im_end|>\n"
    "<|im_start|>user\nAnd 2?<|im_end|>\n<|im_start|>assistant\nA blue square.<|im_end|>\n",
    "llama3": f"<s><|start_header_id|>user<|end_header_id|>\n\n{IMAGE}\nWhat is 1?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA red circle.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA blue square.<|eot_id|>",
}


def encode(processor, conversations, padding_side="right", **options):
    return processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": padding_side},
        **options,
    )


@pytest.mark.parametrize("template", END_OF_TURN)
def test_the_rendered_text_is_golden(template):
    _, processor = tiny_model(chat_template=template)
    ids = encode(processor, [TWO_TURNS])["input_ids"][0]
    assert processor.tokenizer.decode(ids) == RENDERED[template]


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("template", END_OF_TURN)
def test_the_assistant_mask_covers_exactly_the_answers(template, padding_side):
    _, processor = tiny_model(chat_template=template)
    inputs = encode(processor, [TWO_TURNS, TWO_TURNS[:2]], padding_side, return_assistant_tokens_mask=True)
    masks = torch.as_tensor(inputs["assistant_masks"]).bool()
    texts = [processor.tokenizer.decode(ids[mask]) for ids, mask in zip(inputs["input_ids"], masks, strict=True)]
    assert texts == ["".join(TRAINED[template]), TRAINED[template][0]]
    assert not (masks & (inputs["attention_mask"] == 0)).any()


@pytest.mark.parametrize("template", END_OF_TURN)
def test_the_prompt_is_the_beginning_of_the_training_text(template):
    _, processor = tiny_model(chat_template=template)
    prompt = encode(processor, [TWO_TURNS[:1]], add_generation_prompt=True)["input_ids"][0].tolist()
    whole = encode(processor, [TWO_TURNS])["input_ids"][0].tolist()
    assert whole[: len(prompt)] == prompt


@pytest.mark.parametrize(("template", "end"), [("vicuna", "</s>"), ("chatml", "<|im_end|>"), ("llama3", "<|eot_id|>")])
def test_generation_ends_where_the_template_ends_a_turn(template, end):
    model, processor = tiny_model(chat_template=template)
    assert processor.tokenizer.eos_token == end
    assert model.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids(end)


@pytest.mark.parametrize("template", END_OF_TURN)
def test_a_system_message_leads(template):
    _, processor = tiny_model(chat_template=template)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = processor.apply_chat_template(messages)
    assert text.index("Be brief.") < text.index("Hi")
    assert "curious user" not in text


def test_images_and_placeholders_must_agree():
    _, processor = tiny_model()
    with pytest.raises(ValueError, match="2 <image> tokens and 1 images"):
        processor(text="<image> and <image>", images=[drawn_image(0)])
    with pytest.raises(ValueError, match="0 <image> tokens and 1 images"):
        processor(text="nothing", images=[drawn_image(0)])
    with pytest.raises(ValueError, match="1 <image> tokens in the text but no images"):
        processor(text="<image>")


def test_an_image_is_padded_to_a_square_with_the_mean_colour():
    _, processor = tiny_model()
    pixels = processor(text="<image>", images=[drawn_image(0, (64, 32))], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels[0, :, 0].abs().max() < 0.02  # the mean colour, normalised, is zero
    assert pixels[0, :, 16].abs().max() > 0.1


def test_templates_by_file_and_their_errors(tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}")
    assert load_chat_template(str(own)).startswith("{% for")
    own.write_text("{{ messages }}")
    with pytest.raises(ValueError, match=r"has no .* generation .* block"):
        load_chat_template(str(own))
    with pytest.raises(ValueError, match="Did you mean 'vicuna'"):
        load_chat_template("vicunna")


def test_a_template_needs_its_end_of_turn_in_the_vocabulary():
    model, _ = tiny_model()
    tokenizer = tiny_tokenizer()
    assert LlavaSomProcessor.for_model(model.config, tokenizer, "chatml").chat_template
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "<image>": 1}, unk_token="a")))
    with pytest.raises(ValueError, match=r"ends a turn with '<\|im_end\|>'"):
        LlavaSomProcessor.for_model(model.config, bare, "chatml")
