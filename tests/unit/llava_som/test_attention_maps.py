import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from llava_som import attention_maps as maps_module
from llava_som import cli
from llava_som.attention.record import AttentionRecord, SinkRule, record_attention
from llava_som.attention.var import VAR
from llava_som.attention_maps import AnswerToken, attention_maps, layer_ranges, tags_of, top_tokens
from llava_som.attention_page import attention_page
from llava_som.attention_pictures import INFERNO, draw_attention, draw_tokens, framed, heat_over
from llava_som.inference import Assistant
from llava_som.page_encoder import encode_pages
from llava_som.token_places import TokenPlaces, View, places_of
from tests.decoders import prompts, tiny
from tests.tiny import drawn_image, tiny_model, user

QUESTION = "List the tagged items one by one."
EDIT = VAR(sink_dims=[1, 2], tau_rel=0.2, image_mass=0.0, rho=0.0, layers=[0])


def asked(model, processor, image=None, **options):
    options = {"max_new_tokens": 6, "sink_dims": [1, 2], **options}
    return attention_maps(Assistant(model, processor), image or drawn_image(), QUESTION, **options)


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return end.value.code, f"{printed.out}{printed.err}{end.value.code}"


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma2", "gpt_oss", "ours"])
def test_a_record_is_rows_of_eager_attention(name):
    model = tiny(name)
    inputs = prompts(name, model)
    is_image = inputs["input_ids"][0] == getattr(model.config, "image_token_id", 90)
    end = int(is_image.nonzero().max()) + 1
    records = []
    for by_head in (False, True):
        with record_attention(model, by_head=by_head) as record:
            new = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        records.append(record)
    read = new[:, :-1]
    again = {**inputs, "input_ids": read, "attention_mask": torch.ones_like(read)}
    if "mm_token_type_ids" in again:
        again["mm_token_type_ids"] = (read == model.config.image_token_id).int()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = model(**again, output_attentions=True).attentions
    for layer, weights in enumerate(wanted):
        expected = weights[0, :, end:, : len(is_image)][..., is_image].float()
        assert records[0].first == end
        torch.testing.assert_close(records[1].weights[layer], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(records[0].weights[layer], expected.mean(dim=0), atol=1e-5, rtol=1e-4)


def test_a_record_is_of_what_an_intervention_leaves():
    model = tiny("llava")
    inputs = prompts("llava", model)
    with record_attention(model, intervention=EDIT, layers=[0], by_head=True) as record, torch.no_grad():
        model(**inputs)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        plain = model(**inputs, output_attentions=True, output_hidden_states=True)
    is_image = inputs["input_ids"] == model.config.image_token_id
    whole = plain.attentions[0]
    edited, untouched = (
        weights[0, :, record.first :][..., is_image[0]]
        for weights in (EDIT.reweight(whole, plain.hidden_states[0], is_image), whole)
    )
    torch.testing.assert_close(record.weights[0], edited, atol=1e-5, rtol=1e-4)
    assert float((edited - untouched).abs().max()) > 1e-3


def test_sinks_are_those_of_the_layers_input():
    model = tiny("llava")
    inputs = prompts("llava", model)
    rule = SinkRule([3], 1.5)
    with record_attention(model, sinks=rule) as record, torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    is_image = inputs["input_ids"][0] == model.config.image_token_id
    for layer, found in record.is_sink.items():
        value = hidden[layer][0, :, 3].abs() / hidden[layer][0].pow(2).mean(dim=-1).sqrt()
        assert torch.equal(found, value[is_image] >= 1.5)
    assert 0 < sum(int(found.sum()) for found in record.is_sink.values()) < 4 * int(is_image.sum())


def test_what_cannot_be_recorded_is_an_error(recwarn):
    model = tiny("llava")
    inputs = prompts("llava", model)
    with pytest.raises(ValueError, match="one prompt at a time"), record_attention(model), torch.no_grad():
        model(**prompts("llava", model, (7, 5)))
    with pytest.raises(ValueError, match="A second prompt"), record_attention(model), torch.no_grad():
        model(**inputs)
        model(**inputs)
    with record_attention(model, layers=[1]) as record, torch.no_grad():
        model(**inputs)
    with pytest.raises(ValueError, match=r"layers=\[0\].*Recorded are 1"):
        record.mean([0, 1])
    assert not [warning for warning in recwarn if "changed nothing" in str(warning.message)]


def test_rows_of_both_sides_are_of_the_same_tokens():
    """Read token by token, rows are those of the whole text read at once."""
    model, processor = tiny_model()
    maps = asked(model, processor, layers="0-1", intervention=replace(EDIT, layers=None))
    assert maps.before.shape == maps.after.shape == (1, maps.prompt_rows + len(maps.tokens), 16)
    assert "".join(token.text for token in maps.tokens) == maps.answer
    assert np.abs(maps.before - maps.after).max() > 1e-4
    inputs = Assistant(model, processor).inputs([[user(QUESTION, drawn_image())]])
    with torch.no_grad():
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=len(maps.tokens))
        model.set_attn_implementation({"text_config": "eager"})
        whole = model(input_ids=ids, pixel_values=inputs["pixel_values"], output_attentions=True).attentions
    rows = torch.stack(whole).mean(dim=(0, 2))[0]
    is_image = ids[0] == model.config.image_token_id
    np.testing.assert_allclose(maps.before[0], rows[-maps.before.shape[1] :, is_image], atol=1e-5)


H_REDUCER = {"type": "h_reducer", "kernel": "1x2", "eos": True}
SQUARES = {"type": "h_reducer", "kernel": "2x2"}  # patches are not row by row in their windows
RANDOM = {"type": "random", "min_tokens": 2, "keep_ratio": 0.6, "apply_to": "all"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pruning": RANDOM},
        {"projector": H_REDUCER, "tiling": "grid_2x2"},
        {"projector": H_REDUCER, "tiling": "grid_2x2", "pruning": RANDOM},
        {"projector": SQUARES, "tiling": "grid_2x2", "pruning": {**RANDOM, "placement": "pre_v2t", "seed": 3}},
        {"projector": H_REDUCER, "tiling": "grid_2x2", "pruning": RANDOM, "compressor": "group_mean"},
    ],
    ids=["one tile", "pruned", "tiles of windows", "pruned windows", "regrouped patches", "compressed"],
)
def test_tokens_lie_where_a_changed_patch_changes_them(options):
    """The encoder's layer 0 sees each patch alone, so that a token changes with the pixels of its own cells."""
    model, processor = tiny_model(vision_feature_layer=0, **options)
    for corner in [(2, 2), (34, 18), (58, 42)]:
        image = Image.new("RGB", (64, 64), (90, 90, 90))
        changed = image.copy()
        changed.paste((250, 40, 40), (corner[0], corner[1], corner[0] + 4, corner[1] + 4))
        runs = [features_of(model, processor, picture) for picture in (image, changed)]
        change = (runs[1].features - runs[0].features).norm(dim=-1).numpy()
        places = places_of(model.config, processor.image_processor, image, runs[0])
        assert places.count == len(change)
        for view in places.views:
            left, top, right, bottom = view.box
            if not (left <= corner[0] < right and top <= corner[1] < bottom):
                assert change[view.tokens[view.tokens >= 0]].max() < 1e-5  # another crop
                continue
            rows, cols = view.tokens.shape
            row, col = int((corner[1] - top) / (bottom - top) * rows), int((corner[0] - left) / (right - left) * cols)
            own = view.tokens[row, col]
            shown = np.unique(view.tokens[view.tokens >= 0])
            if own >= 0:
                assert change[own] > 1e-3 and change[own] == change[shown].max()
            elif len(places.views) == 1 or view.box != places.frame:  # a global tile is shrunk, and blurs
                assert options.get("compressor") or change[shown].max() < 1e-5
        if options.get("pruning"):
            assert not all((view.tokens >= 0).all() for view in places.views)


@torch.inference_mode()
def features_of(model, processor, image):
    inputs = processor.image_processor([image], return_tensors="pt")
    pages = model.config.pages_of(len(inputs["pixel_values"]), inputs.get("image_grids"))
    return encode_pages(model, inputs["pixel_values"], pages)


def planted():
    """A whole page in 1 x 2 cells behind two crops of 2 x 2, one cell of which is gone, and a token without a place."""
    views = (
        View((0, 0, 80, 40), np.array([[0, 1]])),
        View((0, 0, 40, 40), np.array([[2, 3], [4, -1]])),
        View((40, 0, 80, 40), np.array([[5, 5], [6, 7]])),
    )
    return TokenPlaces((0, 0, 80, 40), views, 9)


def test_heat_is_attention_by_area_with_views_added_up():
    places = planted()
    values = np.array([0.4, 0, 0.1, 0, 0, 0.2, 0, 0, 9.0])
    heat, is_covered = places.raster(values, (80, 40))
    assert heat[5, 5] == pytest.approx(0.4 / 4 + 0.1)  # the page's cell is as large as four of a crop
    assert heat[25, 5] == pytest.approx(0.1) and heat[5, 75] == pytest.approx(0.2 / 2) and heat[25, 75] == 0
    assert is_covered.all() and not places.has_place[8]
    assert heat.sum() == pytest.approx(values[:8].sum() * 20 * 20)
    alone, is_covered = TokenPlaces(places.frame, places.views[1:], 9).raster(values, (8, 4))
    assert not is_covered[2:, 2:4].any() and is_covered.sum() == 28 and alone[0, 0] == pytest.approx(0.1)
    drawn = np.asarray(heat_over(Image.new("RGB", (80, 40)), places, values, 0.2), float)
    assert np.allclose(drawn[5, 5], 0.85 * np.array(INFERNO[-1]), atol=1) and drawn[25, 75].max() < 4


def test_top_patches_of_planted_attention():
    values = np.array([0.1, 0.3, 0.0, 0.2, 0.5, 0.3])
    has_place = np.array([True, True, True, True, False, True])
    assert top_tokens(values, has_place, 3) == [1, 5, 3]
    assert top_tokens(values, has_place, 9) == [1, 5, 3, 0]  # none without attention, none without a place


def test_tags_are_the_numbers_of_a_listing():
    def found(answer, pieces):
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        assert ends[-1] == len(answer)
        tokens = [AnswerToken(piece, end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]
        return [(tag.number, tag.tokens) for tag in tags_of(answer, tokens)]

    listing = "1. 3 cats\n12. a dog\n3. sky"
    assert found(listing, ["1", ".", " 3", " cats", "\n", "1", "2", ".", " a dog", "\n", "3", ".", " sky"]) == [
        (1, (0,)),
        (12, (5, 6)),
        (3, (10,)),
    ]
    assert found("Tag 7 of 2024", ["Tag", " 7", " of", " 2024"]) == [(7, (1,))]
    assert found("no number", ["no", " number"]) == []


def test_sinks_by_column_stand_out_of_the_image():
    rows = np.full((2, 3, 20), 0.01, np.float32)
    rows[1, :, 4] = 0.2
    assert np.argwhere(maps_module._sinks(AttentionRecord(), [], rows)).tolist() == [[1, 4]]
    maps = asked(*tiny_model(), sink_dims=None)
    assert "times the image's mean attention" in maps.sinks_by
    assert "sink dimension 3" in asked(*tiny_model(), sink_dims=[3]).sinks_by


def test_layer_ranges():
    assert [(part.first, part.last, part.name) for part in layer_ranges(None, 32)] == [
        (0, 10, "early"),
        (11, 21, "middle"),
        (22, 31, "late"),
    ]
    assert [part.layers for part in layer_ranges("10-12, 3", 32)] == [[10, 11, 12], [3]]
    assert [str(part) for part in layer_ranges(None, 1)] == ["layer 0"]
    for wrong, message in [("10-40", "32 layers"), ("5-3", "smaller"), ("a", "write ranges"), ("", "write ranges")]:
        with pytest.raises(ValueError, match=message):
            layer_ranges(wrong, 32)


def test_a_page_loads_nothing_and_holds_what_it_shows():
    model, processor = tiny_model(tiling="grid_2x2", pruning=RANDOM)
    maps = asked(model, processor, intervention=replace(EDIT, layers=None))
    maps = replace(maps, question="What is </script><b>this</b>?")
    page = attention_page(maps)
    assert not re.search(r"https?://|//\w+\.\w+|<link[^>]+href=\"(?!data:)|src=|@import|url\(", page)
    assert page.count("</script>") == 2 and "</script><b>" not in page
    sheet = draw_attention(maps)
    assert sheet.width > 1000 and sum(1 for _ in draw_tokens(maps)) == 1
    assert framed(drawn_image(size=(48, 40)), maps.places).size == (48, 40)
    padded = asked(*tiny_model()).places
    assert framed(drawn_image(size=(48, 40)), padded).size == (48, 48)  # with the padding that the model sees


def test_tokens_without_a_known_place_are_refused():
    for options, message in [
        ({"projector": {"type": "resampler", "num_queries": 4}}, "looks at the whole image"),
        ({"pruning": {"type": "fastv", "layer": 1}}, "between the decoder's layers"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked(*tiny_model(**options))
    with pytest.raises(ValueError, match=r"sink_dims=\[99\]: hidden states have 32"):
        asked(*tiny_model(), sink_dims=[99])
    with pytest.raises(ValueError, match="load_checkpoint"):
        places_of(tiny("llava").config, None, drawn_image(), None)


def test_the_command(tmp_path, capsys):
    model, processor = tiny_model()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    drawn_image(size=(90, 60)).save(tmp_path / "photo.png")
    words = ["show", tmp_path / "photo.png", "--attention", "--model", tmp_path / "model", "--question", QUESTION]
    words += ["--max-new-tokens", "4"]
    edit = "{type: var, sink_dims: [1, 2], tau_rel: 0.2, image_mass: 0.0, rho: 0.0}"
    code, text = run(capsys, *words, "--intervention", edit, "--layers", "0-1", "-o", tmp_path / "out")
    assert code == 0 and "with VAR" in text, text
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == ["attention.html", "patches.png", "ranges.png", "tokens_1.png"]
    code, _ = run(capsys, *words, "--sink-dims", "1,2", "-o", tmp_path / "sheet.png")
    assert code == 0 and Image.open(tmp_path / "sheet.png").width > 1000
    for more, message in [
        (["--layers", "2-9"], "2 layers; allowed are 0 to 1"),
        (["--intervention", "vra"], "Did you mean 'var'"),
        (["--sink-dims", "x"], "write numbers"),
        (["--tiles"], "--tiles does nothing for attention"),
        (["-o", tmp_path / "a.gif"], "an .html page"),
        (["-o", tmp_path / "photo.png"], "is the image itself"),
    ]:
        code, text = run(capsys, *words, *more)
        assert code != 0 and message in text, text
    code, text = run(capsys, *words[:3])
    assert "add --model and --question" in text
    code, text = run(capsys, "show", tmp_path, "--question", "What?")
    assert "--question does nothing for this; add --attention" in text
