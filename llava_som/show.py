"""Looking at data before training on it: datasets in a browser, samples by their trained tokens, sidecars as tables."""

from __future__ import annotations

import io
import webbrowser
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from llava_som.images import STORED_FORMATS, open_image, write_image
from llava_som.marks.record import MarkRecord


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
        suffix = out.suffix.lower().replace(".jpeg", ".jpg")
        if suffix not in STORED_FORMATS:
            raise ValueError(f"{out}: a marked image is written as .jpg or .png.")
        encoded = io.BytesIO()
        write_image(record.redraw(open_image(clean_image)), encoded, suffix)  # as it was written the first time
        out.write_bytes(encoded.getvalue())
        console.print(f"written: {out}")


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
