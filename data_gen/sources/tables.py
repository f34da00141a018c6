"""Pictures of tables whose Markdown is known: those of HTML files, or made-up ones, drawn in many styles.

Tables of HTML files get one style each, drawn by the seed and the table's id; their own style sheets are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

from data_gen.documents.html_tables import read_table, read_tables
from data_gen.documents.table import Table, to_markdown
from data_gen.documents.table_content import made_up_table
from data_gen.documents.table_drawing import Style, draw_table
from data_gen.sources import SOURCES
from data_gen.sources.base import ImageRef, Page, PageSource, refuse_inside
from llava_som.config_file import option
from llava_som.images import ImageError, list_images

HTML_SUFFIXES = frozenset({".html", ".htm"})
MADE_UP = 1000  # tables, where no other number is given


@SOURCES.register("tables")
@dataclass(frozen=True, kw_only=True)
class TableSource(PageSource):
    """Drawn tables with merged cells, made up or from HTML files; for recipe=document."""

    transient_fields: ClassVar[frozenset[str]] = frozenset({"count"})  # table 5 is the same whatever comes after it
    image_suffix: ClassVar[str] = ".png"

    html: Path | None = option(None, help="an HTML file, or a folder of them, whose tables to draw; else made-up ones")
    count: int | None = option(None, help=f"how many tables are made up ({MADE_UP}); not with html=")
    merged: float = option(0.4, help="share of made-up tables with merged headers, and of those with merged names")
    seed: int = option(0, help="the run's seed; tables of two seeds share nothing")

    def __post_init__(self) -> None:
        if self.html is not None and not self.html.exists():
            raise ValueError(f"html={self.html}: no such file or folder.")
        if self.html is not None and self.count is not None:
            raise ValueError(f"count={self.count}: every table of html={self.html} is drawn. Use limit= for fewer.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count={self.count}: has to be at least 1.")
        if not 0 <= self.merged <= 1:
            raise ValueError(f"merged={self.merged}: a share, 0 to 1.")

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each table: "table-000012", or "prices.html/0002" for the second of a file."""
        if self.html is None:
            return [ImageRef(f"table-{number:06d}") for number in range(self.count or MADE_UP)]
        files = list_images(self.html, HTML_SUFFIXES) if self.html.is_dir() else [self.html]
        if not files:
            raise ValueError(f"html={self.html}: holds no HTML file ({', '.join(sorted(HTML_SUFFIXES))}).")
        return [ref for file in files for ref in self._refs_of_file(file)]

    def page(self, ref: ImageRef, index: int) -> Page:
        """The drawn table; a ValueError where it is broken or cannot be drawn."""
        rng = Random(f"{self.seed}:{ref.id}")
        table = made_up_table(rng, self.merged) if self.html is None else self._read(ref)
        image, blocks = draw_table(table, Style.drawn(table, rng))
        return Page(image, "table", blocks, markdown=to_markdown(table))

    def refuse_output(self, out: Path) -> None:
        """Output below a folder of HTML files is refused: a run writes an index.html."""
        if self.html is not None:
            refuse_inside(out, self.html)

    def _refs_of_file(self, file: Path) -> list[ImageRef]:
        """One ref for each table of a file; where it has none that can be read, a ref that says why."""
        assert self.html is not None  # only called with it
        path = file.relative_to(self.html if self.html.is_dir() else self.html.parent)
        try:
            count = len(read_tables(file).tables)
        except ImageError as error:
            return [ImageRef(path.as_posix(), path, (file, str(error)))]
        return [ImageRef(f"{path.as_posix()}/{number + 1:04d}", path, (file, number)) for number in range(count)]

    def _read(self, ref: ImageRef) -> Table:
        file, number = ref.annotations
        if isinstance(number, str):
            raise ImageError(number)
        return read_table(file, number)
