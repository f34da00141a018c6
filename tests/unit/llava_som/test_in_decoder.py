import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache, StaticCache

from llava_som.assembly import assemble
from llava_som.pruning import build_pruner
from llava_som.pruning.decoder_attention import AttentionRow
from llava_som.pruning.in_decoder import instruction_end
from tests.tiny import DECODERS, VISION, assistant, drawn_image, tiny_tokenizer, user

TEXT = {key: value for key, value in DECODERS["llama"].items() if key != "model_type"}
MORE = {
    "phi3": {"model_type": "phi3", "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1, **TEXT},
    "gpt_oss": {"model_type": "gpt_oss", "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, **TEXT},
    "mistral_sliding": {"model_type": "mistral", "sliding_window": 40, **TEXT},
}
FASTV = {"type": "fastv", "min_tokens": 2}
PYRAMID = {"type": "pyramiddrop", "min_tokens": 2}
TWO_IMAGES = [user("What do you see?", drawn_image(1), drawn_image(2)), assistant("1. red circle")]
ONE_IMAGE = [user("List the items one by one.", drawn_image(3)), assistant("2. blue square")]
NO_IMAGE = [user("What does each number mark?"), assistant("3. white cross")]


def four_layers(decoder="llama", pruning=None, modality_adaptive=False, **options):
    """A model whose attention is far from even, so that no tie decides what stays."""
    torch.manual_seed(0)
    text = {**(MORE.get(decoder) or DECODERS[decoder]), "num_hidden_layers": 4, "initializer_range": 0.2}
    parts = {"tokenizer": tiny_tokenizer(), "pruning": pruning, "modality_adaptive": modality_adaptive}
    model, processor = assemble(VISION["clip"], text | options, **parts)
    return model.eval(), processor


def encode(processor, *conversations, answered=False, side="left"):
    turns = list(conversations) if answered else [turn[:-1] for turn in conversations]
    inputs = processor.apply_chat_template(
        turns,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=answered,
        add_generation_prompt=not answered,
        processor_kwargs={"padding": True, "padding_side": side},
    )
    if answered:
        inputs["labels"] = inputs["input_ids"].where(inputs.pop("assistant_masks").bool(), -100)
    return inputs


def with_answer(inputs, tokens):
    """The prompt and what follows it in one call, with labels that tell where the prompt ends."""
    silent = torch.full_like(inputs["input_ids"], -100)
    ones = torch.ones_like(tokens)
    return inputs | {
        "input_ids": torch.cat([inputs["input_ids"], tokens], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], ones], dim=1),
        "labels": torch.cat([silent, tokens], dim=1),
    }


def emulated(model, inputs, pruning):
    """Logits of a decoder at full length in which later layers are forbidden to look at what was dropped.

    Returns them with which positions are left; the model must compute attention eagerly.
    """
    pruner, layers = build_pruner(pruning), model.get_decoder().layers
    is_image = inputs["input_ids"] == model.config.image_token_id
    labels = inputs.get("labels")
    query = instruction_end(is_image, inputs["attention_mask"].bool(), labels)
    gone = {}  # by the first layer without them

    def forbid(number, layer, args, kwargs):
        dropped = [columns for first, columns in gone.items() if first <= number]
        if dropped:
            mask = kwargs["attention_mask"].masked_fill(dropped[-1][:, None, None], torch.finfo(torch.float32).min)
            return args, {**kwargs, "attention_mask": mask}
        return None

    hooks = [
        layer.register_forward_pre_hook(lambda *given, n=n: forbid(n, *given), with_kwargs=True)
        for n, layer in enumerate(layers)
    ]
    left = is_image.clone()
    for first in pruner.drops_after(len(layers)):
        attentions = model(**inputs, output_attentions=True).attentions[first - 1]
        for row, place in enumerate(query):
            scores = attentions[row, :, place].mean(dim=0).masked_fill(~left[row], -1)
            count = int(left[row].sum())
            keep = scores.topk(min(count, max(pruner.min_tokens, -(-count // 2)))).indices
            left[row] = torch.zeros_like(left[row]).index_fill(0, keep, True)
        gone[first] = is_image & ~left
    logits = model(**inputs).logits
    for hook in hooks:
        hook.remove()
    return logits, (left | ~is_image) & inputs["attention_mask"].bool()


@pytest.mark.parametrize("decoder", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "opt", "phi3", "gpt_oss"])
@pytest.mark.parametrize("pruning", [FASTV, PYRAMID], ids=["fastv", "pyramiddrop"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_dropping_equals_forbidding_later_layers_to_look(decoder, pruning, side):
    model, processor = four_layers(decoder)
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE, NO_IMAGE, answered=True, side=side)
    usual = model.language_model.config._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    logits, left = emulated(model, inputs, pruning)
    model.set_attn_implementation({"text_config": usual})
    model.set_pruning(pruning)
    pruned = model(**inputs)
    counts = left.sum(dim=1).tolist()
    assert pruned.logits.shape[1] == max(counts) < inputs["input_ids"].shape[1]
    losses = []
    for row, count in enumerate(counts):
        real = pruned.logits[row, -count:] if side == "left" else pruned.logits[row, :count]
        torch.testing.assert_close(real, logits[row, left[row]], atol=1e-4, rtol=0)
        losses.append(F.cross_entropy(real[:-1], inputs["labels"][row, left[row]][1:], reduction="none"))
    answered = (inputs["labels"][:, 1:] != -100).sum()
    torch.testing.assert_close(pruned.loss, torch.cat(losses).sum() / answered, atol=1e-4, rtol=0)


@pytest.mark.parametrize("decoder", ["llama", "gemma2", "gpt_oss", "mistral_sliding"])
@torch.no_grad()
def test_the_recorded_row_is_what_the_layer_computes(decoder):
    model, processor = four_layers(decoder, **({"attn_logit_softcapping": 0.5} if decoder == "gemma2" else {}))
    model.set_attn_implementation({"text_config": "eager"})
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE)
    query = torch.full((2,), inputs["input_ids"].shape[1] - 2)
    row = AttentionRow(query, inputs["attention_mask"].bool())
    row.watch(model.get_decoder().layers[1])
    attentions = model(**inputs, output_attentions=True).attentions[1]
    torch.testing.assert_close(row.weights, attentions[:, :, -2].mean(dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("pruning", "lengths"), [(FASTV, [0, 0, 8, 8]), (PYRAMID, [0, 8, 12, 14])])
@torch.no_grad()
def test_later_layers_see_and_cache_fewer_tokens(pruning, lengths):
    model, processor = four_layers(pruning=pruning)
    inputs = encode(processor, ONE_IMAGE)
    whole, seen = inputs["input_ids"].shape[1], []
    for layer in model.get_decoder().layers:
        layer.mlp.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    cache = model(**inputs, use_cache=True).past_key_values
    assert seen == [whole - dropped for dropped in lengths]
    assert [layer.get_seq_length() for layer in cache.layers] == seen


@pytest.mark.parametrize("decoder", ["llama", "gemma2", "opt", "phi3", "mistral_sliding"])
@pytest.mark.parametrize("pruning", [FASTV, PYRAMID], ids=["fastv", "pyramiddrop"])
@torch.no_grad()
def test_steps_with_a_cache_equal_one_call_over_prompt_and_answer(decoder, pruning):
    model, processor = four_layers(decoder, pruning)
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE, NO_IMAGE)
    length = inputs["input_ids"].shape[1]
    given = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    output = model.generate(**inputs, **given, output_logits=True)
    answer = output.sequences[:, length:]
    logits = model(**with_answer(inputs, answer)).logits[:, -7:-1]
    torch.testing.assert_close(torch.stack(output.logits, dim=1), logits, atol=1e-4, rtol=0)

    mask = torch.cat([inputs["attention_mask"], torch.ones_like(answer)], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = model(**inputs, position_ids=positions[:, :length], use_cache=True).past_key_values
    for filled in (copy.deepcopy(cache), cache):
        given = {"attention_mask": mask, "position_ids": positions[:, length:], "past_key_values": filled}
        further = model(input_ids=answer, **given)
        torch.testing.assert_close(further.logits[:, :-1], logits[:, 1:], atol=1e-4, rtol=0)


@torch.no_grad()
def test_scores_of_beams_are_those_of_their_sequences():
    model, processor = four_layers(pruning=PYRAMID)
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE)
    given = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 5, "min_new_tokens": 5, "length_penalty": 0.0}
    output = model.generate(**inputs, **given, do_sample=False, return_dict_in_generate=True, output_scores=True)
    for number, sequence in enumerate(output.sequences):
        single = encode(processor, (TWO_IMAGES, ONE_IMAGE)[number // 3])
        answer = sequence[None, -5:]
        log_probabilities = model(**with_answer(single, answer)).logits[:, -6:-1].log_softmax(dim=-1)
        score = log_probabilities.gather(2, answer.unsqueeze(2)).sum()
        torch.testing.assert_close(output.sequences_scores[number], score, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pruning", [FASTV, PYRAMID], ids=["fastv", "pyramiddrop"])
@torch.no_grad()
def test_a_batch_gives_what_its_samples_give_alone(pruning):
    model, processor = four_layers(pruning=pruning)
    conversations = (TWO_IMAGES, ONE_IMAGE)
    together = model(**encode(processor, *conversations)).logits
    for row, conversation in enumerate(conversations):
        alone = model(**encode(processor, conversation)).logits[0]
        torch.testing.assert_close(together[row, -len(alone) :], alone, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_modality_adaptive_decoder_still_knows_its_image_positions():
    plain, processor = four_layers(pruning=PYRAMID)
    model, _ = four_layers(pruning=PYRAMID, modality_adaptive=True)
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE)
    torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits)
    seen = []
    model.vision_twins[3]["k_proj"].weight.zero_()
    layer = model.get_decoder().layers[3]
    layer.self_attn.k_proj.register_forward_hook(lambda module, args, output: seen.append(output == 0))
    shape = model(**inputs).logits.shape
    assert seen[0].all(dim=-1).sum(dim=1).tolist()[0] == 4  # of 32 image tokens, halved three times
    assert seen[0].shape[:2] == shape[:2]


@pytest.mark.parametrize("pruning", [{"type": "fastv", "keep_ratio": 1.0}, {"type": "pyramiddrop", "min_tokens": 32}])
@torch.no_grad()
def test_to_keep_everything_changes_no_bit(pruning):
    model, processor = four_layers()
    inputs = encode(processor, TWO_IMAGES, ONE_IMAGE, answered=True)
    expected = model(**inputs)
    model.set_pruning(pruning)
    output = model(**inputs)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.loss, expected.loss)


@torch.no_grad()
def test_a_prompt_without_images_is_left_alone_also_after_one_with():
    model, processor = four_layers(pruning=FASTV)
    ids = processor.tokenizer("What does each number mark?", return_tensors="pt")["input_ids"]
    cache = model(**encode(processor, ONE_IMAGE), use_cache=True).past_key_values
    cache.crop(-cache.get_seq_length())
    pruned = model(input_ids=ids, past_key_values=cache)
    steps = model(input_ids=ids[:, :2], past_key_values=pruned.past_key_values)
    model.set_pruning(None)
    plain = model(input_ids=ids, use_cache=True)
    assert torch.equal(pruned.logits, plain.logits)
    assert torch.equal(steps.logits, model(input_ids=ids[:, :2], past_key_values=plain.past_key_values).logits)


@pytest.mark.parametrize("place", ["layers.1.self_attn.q_proj", "layers.3"])
def test_nothing_is_left_behind_when_a_layer_fails(place):
    model, processor = four_layers(pruning=FASTV)
    decoder = model.get_decoder()
    hook = decoder.get_submodule(place).register_forward_pre_hook(lambda module, args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**encode(processor, ONE_IMAGE))
    hook.remove()
    assert not any(part._forward_pre_hooks for part in decoder.modules())
    assert all(part.config is decoder.config for part in decoder.modules() if hasattr(part, "config"))


def test_gradients_are_the_same_with_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        model, processor = four_layers(pruning=PYRAMID)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**encode(processor, TWO_IMAGES, ONE_IMAGE, answered=True)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert any(name.startswith("multi_modal_projector") for name in gradients[0])
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_the_token_that_ranks_stands_before_the_answer_to_the_last_image():
    #                          text image answer image text answer text
    is_image = torch.tensor([[0, 1, 0, 1, 0, 0, 0]], dtype=torch.bool)
    labels = torch.tensor([[-100, -100, 7, -100, -100, 7, -100]])
    is_token = torch.tensor([[1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    assert instruction_end(is_image, is_token, labels).tolist() == [4]
    assert instruction_end(is_image, is_token, None).tolist() == [5]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_cache": False}, "use_cache=False"),
        ({"prompt_lookup_num_tokens": 2}, "assisted decoding"),
        ({"prefill_chunk_size": 8}, "prefill_chunk_size"),
        ({"cache_implementation": "static"}, "StaticLayer"),
    ],
)
def test_ways_of_generating_that_cannot_rank_once_are_refused(options, named):
    model, processor = four_layers(pruning=FASTV)
    with pytest.raises(ValueError, match=named):
        model.generate(**encode(processor, ONE_IMAGE), max_new_tokens=2, **options)


def test_inputs_that_cannot_be_shortened_are_refused():
    model, processor = four_layers(pruning=FASTV)
    inputs = encode(processor, ONE_IMAGE)
    length = inputs["input_ids"].shape[1]
    cache = model(**inputs, use_cache=True).past_key_values
    whole_mask = torch.ones(1, 2 * length, dtype=torch.long)
    refused = [
        ("first prompt", {**inputs, "past_key_values": cache, "attention_mask": whole_mask}),
        ("2 rows", {"input_ids": torch.ones(2, 1, dtype=torch.long), "past_key_values": cache}),
        ("need", {"inputs_embeds": torch.zeros(1, 4, 32, dtype=torch.float32)}),
        ("mask", {**inputs, "attention_mask": torch.ones(1, 1, length, length)}),
        ("packing", {**inputs, "attention_mask": None, "position_ids": torch.arange(length).fmod(9)[None]}),
        ("StaticCache", {**inputs, "past_key_values": StaticCache(model.config.text_config, max_cache_len=99)}),
    ]
    for named, given in refused:
        with pytest.raises(ValueError, match=named):
            model(**given)
    model(**inputs, past_key_values=DynamicCache())


@pytest.mark.parametrize(
    ("decoder", "pruning", "named"),
    [
        ("minimax", FASTV, "linear_attention"),
        ("llama", {"type": "fastv", "layer": 4}, "after decoder layer 4. This decoder has 4 layers.* 1 to 3"),
        ("llama", {"type": "pyramiddrop", "stage_ends": [0.5, 0.25]}, "ascending"),
        ("llama", {"type": "pyramiddrop", "stage_ends": []}, "layer .none.*has 4"),
    ],
)
def test_decoders_and_layers_that_do_not_fit_are_named(decoder, pruning, named):
    model, processor = four_layers(decoder)
    with pytest.raises(ValueError, match=named):
        model.set_pruning(pruning)
        model(**encode(processor, ONE_IMAGE))


def test_a_router_loss_over_tokens_that_are_gone_is_refused():
    model, processor = four_layers("gpt_oss", FASTV)
    inputs = encode(processor, ONE_IMAGE, answered=True)
    with pytest.raises(ValueError, match="output_router_logits"):
        model(**inputs, output_router_logits=True)
