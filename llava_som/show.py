"""Looking: at datasets in a browser, samples by their trained tokens, sidecars as tables, pages in tiles, attention.

Each `show_` function is a use of `llava-som show`.
"""

from __future__ import annotations

import io
import webbrowser
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from llava_som.files import new_file
from llava_som.images import STORED_FORMATS, list_images, open_image, write_image
from llava_som.marks.record import MarkRecord

if TYPE_CHECKING:
    from llava_som.attention_maps import AttentionMaps
    from llava_som.page_readers import PageReader
    from llava_som.token_map import TokenMap


def show_dataset(
    path: Path,
    image_root: Path | None = None,
    count: int = 24,
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8642,
    open_browser: bool = False,
) -> None:
    """Serve a dataset until Ctrl-C; with `out`, write a page of `count` of its records instead.

    Raises:
        ValueError: no dataset at `path`, or the address is taken.
    """
    from llava_som.viewer.readers import open_dataset

    console = Console(markup=False, highlight=False)  # names and paths may hold brackets
    with console.status(f"reading {path}"):
        dataset = open_dataset(path, image_root)
    if out is not None:
        from llava_som.viewer.static import write_dataset_page

        console.print(f"written: {write_dataset_page(dataset, out, count)}", soft_wrap=True)
        return
    from llava_som.viewer.server import Viewer

    with Viewer(dataset, host, port) as viewer:
        records = f"{len(dataset):,} record{'s' * (len(dataset) != 1)}"
        console.print(f"{records} of {dataset.name}: {viewer.url}  (Ctrl-C ends it)", soft_wrap=True)
        if open_browser:
            webbrowser.open(viewer.url)
        try:
            viewer.serve_forever()
        except KeyboardInterrupt:
            console.print("ended")


def show_samples(path: Path, model: str, image_root: Path | None, count: int) -> None:
    """Print the first samples of a data file as a model reads them: trained text green, image spans folded.

    Raises:
        ValueError: the data cannot be read.
    """
    from transformers import AutoProcessor

    from llava_som import auto  # noqa: F401  (registers our processor)
    from llava_som.data.dataset import ConversationDataset
    from llava_som.data.sources import DataFile
    from llava_som.data.trained_text import render_trained_text
    from llava_som.quarantine import Quarantine

    console = Console(markup=False)  # ids and errors may hold brackets
    processor = AutoProcessor.from_pretrained(model)
    with TemporaryDirectory() as scratch:
        quarantine = Quarantine(Path(scratch) / "quarantine.jsonl")
        file = DataFile(path=str(path), image_root=None if image_root is None else str(image_root))
        dataset = ConversationDataset([file], processor, max_length=1 << 30, quarantine=quarantine)
        for index in range(min(count, len(dataset))):
            try:
                sample = dataset.encode(index)
            except ValueError as error:
                console.rule(f"record {index}: not usable")
                console.print(str(error), style="red")
                continue
            console.rule(str(sample["sample_id"]))
            ids, labels = sample["input_ids"], sample["labels"]
            console.print(render_trained_text(ids, labels, processor.tokenizer, processor.image_token_id))


def show_marks(sidecar: Path, clean_image: Path | None = None, out: Path | None = None) -> None:
    """Print a sidecar as a table; with `clean_image` and `out`, draw its marks on that image again.

    Raises:
        ValueError: only one of the two; an `out` that is no .jpg or .png; no sidecar, or one of another image.
    """
    record = MarkRecord.load(sidecar)
    console = Console(markup=False)  # names and paths may hold brackets
    table = Table("tag", "name", "box x y w h", "visible px", "tag at", "source", title=f"{record.image} {record.size}")
    for mark in record.marks:
        box = " ".join(str(value) for value in mark.bbox_xywh)
        point = " ".join(str(value) for value in mark.point_xy)
        table.add_row(mark.label, mark.category or "", box, str(mark.area_visible), point, mark.source)
    console.print(table)
    for line in skipped_lines(record):
        console.print(line, style="dim")
    if (clean_image is None) != (out is None):
        raise ValueError("To draw the marks again give both --clean-image and --out.")
    if clean_image is not None and out is not None:
        _write(record.redraw(open_image(clean_image)), out)  # as it was written the first time
        console.print(f"written: {out}")


def page_files(paths: Sequence[Path], out: Path | None = None) -> dict[Path, Path]:
    """Page images, and the file to write for each.

    Args:
        paths: page images, and folders of them.
        out: a .png or .jpg for one page, a folder for several. None: PAGE.tiles.png in the current folder.

    Raises:
        ValueError: no page, or an `out` that cannot be written, would overwrite a page, or hold several.
    """
    pages = list(dict.fromkeys(page for path in paths for page in (list_images(path) if path.is_dir() else [path])))
    if not pages:
        raise ValueError("No page image there. Name image files (png, jpg, tif, webp, bmp, gif), or a folder of them.")
    if out is not None and out.suffix:
        _stored_suffix(out)
        if len(pages) > 1:
            raise ValueError(f"-o {out}: is one file, there are {len(pages)} pages. Name a folder.")
        targets = [out]
    else:
        targets = [(out or Path()) / f"{page.stem}.tiles.png" for page in pages]
    [(target, uses)] = Counter(targets).most_common(1)
    if uses > 1:
        raise ValueError(f"{uses} pages would be written to {target}. Rename them, or show them one by one.")
    for page, target in zip(pages, targets, strict=True):
        if target.resolve() == page.resolve():
            raise ValueError(f"-o {target}: is the page itself. Name another file.")
    return dict(zip(pages, targets, strict=True))


def show_pages(files: Mapping[Path, Path], reader: PageReader, tiles: bool, kept: bool) -> None:
    """Draw pages in their tiles with what pruning drops of them, and print the numbers.

    Args:
        files: of `page_files`.
        reader: makes the token map of a page.
        tiles: set the tiles apart.
        kept: veil what is dropped; `reader` must have a pruner.

    Raises:
        ImageError: a page that cannot be read.
    """
    from llava_som.visualize import draw_token_map, how_line

    console = Console(markup=False, highlight=False)  # names may hold brackets
    for page, target in files.items():
        image = open_image(page)
        token_map = reader.read(image)
        console.print(f"{page.name}: {how_line(token_map)}", soft_wrap=True)
        console.print(token_table(token_map, kept))
        _write(draw_token_map(image, token_map, tiles, kept), target)
        console.print(f"written: {target}", soft_wrap=True)


def show_attention(
    path: Path,
    model: str,
    question: str,
    pruning: str | dict[str, Any] | None = None,
    out: Path | None = None,
    **options: Any,
) -> None:
    """Ask a model about an image, and draw what question and answer attend to.

    Args:
        path: the image.
        model: checkpoint.
        question: what is asked.
        pruning: instead of the checkpoint's.
        out: an .html page, a .png or .jpg sheet, or a folder for the page, all sheets and every token. None:
            IMAGE.attention.html in the current folder.
        **options: of `attention_maps`.

    Raises:
        ImageError: an image that cannot be read.
        ValueError: what `attention_maps` refuses, or an `out` of another kind.
    """
    from llava_som.attention_maps import attention_maps
    from llava_som.inference import load_assistant

    console = Console(markup=False, highlight=False)  # answers may hold brackets
    out = out or Path(f"{path.stem}.attention.html")
    if out.suffix.lower() not in ("", ".html", ".png", ".jpg", ".jpeg"):
        raise ValueError(f"-o {out}: name an .html page, a .png or .jpg picture, or a folder for all of it.")
    if out.resolve() == path.resolve():
        raise ValueError(f"-o {out}: is the image itself. Name another file.")
    image = open_image(path)
    with console.status(f"asking {model}"):
        maps = attention_maps(load_assistant(model, pruning=pruning), image, question, **options)
    console.print(f"answer: {maps.answer.strip() or '(none)'}", soft_wrap=True)
    if maps.other_answer is not None:
        console.print(f"with {maps.intervention}: {maps.other_answer.strip() or '(none)'}", soft_wrap=True)
    for number, layers in enumerate(maps.ranges):
        shares = ", ".join(f"{name} {of[number].sum(axis=1).mean():.1%}".strip() for name, of in maps.sides)
        console.print(
            f"{layers}: {shares} of attention on the image; {int(maps.is_sink[number].sum())} sinks in it",
            soft_wrap=True,
        )
    for file in _write_attention(maps, out):
        console.print(f"written: {file}", soft_wrap=True)


def _write_attention(maps: AttentionMaps, out: Path) -> list[Path]:
    """Write a page, a sheet, or a folder of everything; the files."""
    from llava_som import attention_pictures as pictures
    from llava_som.attention_page import attention_page

    sheets: dict[Path, Image.Image] = {}
    page = out if out.suffix.lower() == ".html" else None
    if out.suffix and page is None:
        sheets[out] = pictures.draw_attention(maps)
    elif page is None:
        page = out / "attention.html"
        sheets |= {out / "ranges.png": pictures.draw_ranges(maps), out / "patches.png": pictures.draw_patches(maps)}
        sheets |= {out / f"tokens_{number}.png": sheet for number, sheet in enumerate(pictures.draw_tokens(maps), 1)}
    if page is not None:
        with new_file(page) as file:
            file.write(attention_page(maps).encode())
    for file_name, sheet in sheets.items():
        _write(sheet, file_name)
    return [*([] if page is None else [page]), *sheets]


def token_table(token_map: TokenMap, kept: bool) -> Table:
    """The numbers of a figure: tokens of each tile, of the tiles together, and of the page in the decoder."""
    table = Table()
    for column in ("tile", "tokens", *(["kept", "share", "density"] if kept else [])):
        table.add_column(column, justify="left" if column == "tile" else "right")

    def add(label: str, before: int, after: int, density: float | None = None) -> None:
        more = [f"{after:,}", f"{after / before:.0%}", "" if density is None else f"{density:.2f}"]
        table.add_row(label, f"{before:,}", *(more if kept else []))

    for tile in token_map.tiles:
        add(tile.name, tile.before, tile.after, tile.density)
    table.add_section()
    if token_map.compressor != "none":
        add("all tiles", *token_map.tile_tokens)
    add("decoder sees", token_map.before, token_map.after)
    return table


def _write(image: Image.Image, path: Path) -> None:
    """Write a .png or .jpg, in a folder that is made where it is missing."""
    encoded = io.BytesIO()
    write_image(image, encoded, _stored_suffix(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.getvalue())


def _stored_suffix(path: Path) -> str:
    suffix = path.suffix.lower().replace(".jpeg", ".jpg")
    if suffix not in STORED_FORMATS:
        raise ValueError(f"{path}: pictures are written as .jpg or .png.")
    return suffix


def skipped_lines(record: MarkRecord) -> list[str]:
    """Why regions have no mark: a line a reason, with the names of the regions that share it."""
    regions_of = defaultdict(list)
    for skipped in record.skipped:
        regions_of[skipped.reason].append(skipped)
    lines = []
    for reason, regions in regions_of.items():
        if len(regions) == 1:
            which = regions[0].category or regions[0].region_id or "region"
        else:
            names = Counter(region.category or "without a name" for region in regions)
            which = f"{len(regions)} regions ({', '.join(f'{count} {name}' for name, count in names.most_common())})"
        lines.append(f"skipped: {which}: {reason}")
    return lines
