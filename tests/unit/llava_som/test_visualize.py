import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from llava_som import cli
from llava_som.page_readers import PixelReader
from llava_som.tiling import Tiling
from llava_som.visualize import VEIL, VEIL_OPACITY, draw_token_map, tokens_line, veiled
from tests.tiny import tiny_model

VEILED_PAPER = np.array([255 + (colour - 255) * VEIL_OPACITY for colour in VEIL])


def veiled_share(figure):
    """Share of pixels that are blank paper under the veil."""
    return float((np.abs(np.asarray(figure) - VEILED_PAPER).max(axis=2) < 2).mean())


def white(size):
    return Image.new("RGB", size, "white")


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return end.value.code, printed.out + printed.err


def rows_of(text):
    """The cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line]


@pytest.mark.parametrize("size", [(320, 320), (64, 640), (320, 20)])
def test_the_veiled_area_is_the_dropped_share(size):
    keep = np.random.default_rng(0).random((32, 8)) < 0.4
    shown = np.asarray(veiled(white(size), keep)).astype(float)
    opacity = (255 - shown[..., 0]) / (255 - VEIL[0]) / VEIL_OPACITY
    assert opacity.mean() == pytest.approx(1 - keep.mean(), abs=0.01)
    if size == (320, 320):  # and it lies on the dropped units
        assert np.array_equal(opacity[5::10, 20::40] < 0.5, keep)


def test_a_figure_without_tiles_is_the_page_under_its_veil():
    reader = PixelReader(Tiling.parse("grid_2x2"), 56, 14, "mlp2x_gelu", {"type": "blank_patch", "min_tokens": 4})
    page, tokens = white((800, 800)), reader.read(white((800, 800)))
    figure = draw_token_map(page, tokens, tiles=False)
    on_page = veiled_share(figure) * figure.width * figure.height / 800**2
    assert on_page == pytest.approx(0.75, abs=0.01)  # 4 of 16 in each tile; a little more for the key
    assert veiled_share(draw_token_map(page, tokens, tiles=True, kept=False)) == 0


def test_tiles_stand_apart_and_hold_the_pixels_of_the_page():
    colours = np.zeros((600, 600, 3), np.uint8)
    colours[:300, :300], colours[:300, 300:], colours[300:, :300], colours[300:, 300:] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (250, 250, 0),
    )
    page = Image.fromarray(colours)
    tokens = PixelReader(Tiling.parse({"grids": "grid_2x2", "global_tile": False})).read(page)
    figure = np.asarray(draw_token_map(page, tokens, kept=False))
    places = []
    for colour in colours[[0, 0, 599, 599], [0, 599, 0, 599]]:
        rows, cols = np.nonzero((figure == colour).all(axis=2))
        assert len(rows) == pytest.approx(300 * 300, rel=0.02)  # the outline lies on the tile
        places.append((rows.min(), rows.max(), cols.min(), cols.max()))
    assert places[0][3] < places[1][2] - 5 and places[0][1] < places[2][0] - 20  # gaps; captions above


def test_the_veil_lies_on_the_tile_that_was_dropped():
    page = white((600, 600))
    tokens = PixelReader(Tiling.parse("grid_2x2")).read(page)
    whole, *crops = tokens.tiles
    crops[1] = replace(crops[1], keep=np.zeros_like(crops[1].keep))  # row 0, col 1
    figure = np.asarray(draw_token_map(page, replace(tokens, tiles=(whole, *crops))))
    rows, cols = np.nonzero(np.abs(figure - VEILED_PAPER).max(axis=2) < 2)
    in_tile = cols > figure.shape[1] - 330
    assert in_tile.sum() == pytest.approx(300 * 300, rel=0.02)
    assert rows[in_tile].max() < figure.shape[0] - 330
    assert (~in_tile).sum() < 1000  # the key


@pytest.mark.parametrize("size", [(1, 1), (20000, 100), (100, 20000), (700, 990)])
@pytest.mark.parametrize("grids", ["grid_9", "grid_1x40"])
def test_pages_of_every_shape_become_figures_of_a_usable_size(size, grids):
    page = white(size)
    tokens = PixelReader(Tiling.parse(grids), 56, 14, "mlp2x_gelu", "blank_patch").read(page)
    figure = draw_token_map(page, tokens)
    assert min(figure.size) > 200 and max(figure.size) < 3000


def test_an_all_white_page_shows_the_minimum(tmp_path, capsys):
    white((620, 877)).save(tmp_path / "white.png")
    code, text = run(capsys, "show", tmp_path / "white.png", "--tiles", "--kept", "-o", tmp_path / "figure.png")
    assert code == 0, text
    rows = rows_of(text)
    assert ["row 2, col 1", "256", "16", "6%", "0.00"] in rows
    assert ["decoder sees", "1,792", "352", "20%", ""] in rows
    assert veiled_share(Image.open(tmp_path / "figure.png")) > 0.4


def test_the_printed_numbers_are_the_models(tmp_path, capsys):
    parts = tiny_model(tiling="grid_4", compressor="group_mean", pruning={"type": "random", "min_tokens": 3})
    for part in parts:
        part.save_pretrained(tmp_path / "model")
    for name in ("a", "b"):
        white((60, 120)).save(tmp_path / f"{name}.png")
    pruning = "{type: random, keep_ratio: 0.25, min_tokens: 1, apply_to: all}"
    words = ["show", tmp_path / "a.png", tmp_path / "b.png", "--tiles", "--kept", "--model", tmp_path / "model"]
    code, text = run(capsys, *words, "--pruning", pruning, "-o", tmp_path / "out")
    assert code == 0, text
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.tiles.png", "b.tiles.png"]
    rows = rows_of(text)
    assert rows.count(["whole page", "16", "4", "25%", ""]) == 2
    assert rows.count(["all tiles", "48", "12", "25%", ""]) == 2
    assert rows.count(["decoder sees", "16", "4", "25%", ""]) == 2


def test_the_heading_says_what_a_compressor_makes_of_what_is_kept():
    tokens = PixelReader(pruning="random").read(white((448, 448)))
    assert tokens_line(tokens, kept=True) == "384 of 512 tokens kept (75%)"
    assert tokens_line(tokens, kept=False) == "512 tokens"
    compressed = replace(tokens, compressor="group_mean", before=256, after=256)
    assert tokens_line(compressed, kept=True) == "384 of 512 tokens kept (75%), compressed to 256"
    assert tokens_line(compressed, kept=False) == "256 tokens"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kept", "--pruning", "hired"], "Name a checkpoint with --model"),
        (["--kept", "--pruning", "{keep_ratio: 1}"], "write a name, or '{type: NAME"),
        (["--tiles", "--pruning", "random"], "add --kept"),
        (["--grids", "grid_9"], "add --tiles, --kept or both"),
        (["--tiles", "--model", "x", "--tile-size", "32"], "whose config decides"),
        (["--tiles", "-n", "3"], "--count does nothing"),
        (["--tiles", "-o", "out.gif"], "as .jpg or .png"),
        (["--tiles", "-o", "PAGE"], "is the page itself"),
        (["OTHER", "--tiles", "-o", "out.png"], "Name a folder"),
        (["OTHER", "--tiles"], "2 pages would be written to page.tiles.png"),
        (["OTHER"], "only pages may be several"),
        (["--tiles", "--grids", "grid_x"], "allowed are grid_1"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    for file in ("page.png", "other/page.png"):
        white((60, 60)).save(file)
    names = {"PAGE": "page.png", "OTHER": "other/page.png"}
    code, _ = run(capsys, "show", "page.png", *(names.get(word, word) for word in words))
    assert re.search(re.escape(message), str(code)), code
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "page.png"]
