"""The contract of a source: list what it has, and give for an image its regions, or for a document its pages.

A source is a frozen dataclass, so that it travels to worker processes; what it read from an annotation file travels in
the `ImageRef`s, so that no worker reads that file again.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llava_som.config_file import option
from llava_som.images import IMAGE_SUFFIXES, ImageError, list_images, open_image, resolve_inside

if TYPE_CHECKING:
    from PIL import Image

    from llava_som.data.page_record import Block, PageKind
    from llava_som.marks.region import Region

FARTHEST = 1e6  # pixels; larger coordinates, infinity and NaN are damage
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)  # what a file of another shape runs into


@dataclass(frozen=True)
class ImageRef:
    """One image of a source, or some pages of a document that belong together.

    Attributes:
        id: unique in the source; names the output files, so "a/b" becomes a subfolder.
        path: the file relative to the source's image root; None when the image is drawn.
        annotations: what the source already read about this image.
    """

    id: str
    path: Path | None = None
    annotations: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """What a run goes through. Subclasses add options as fields.

    Attributes:
        transient_fields: options that do not decide what is found (a device, how many images there are): a run may
            change them and go on.
        whole_folders: options that name a folder all of whose files decide what is found.
        image_suffix: how written images are stored unless the run says otherwise: .jpg for photos, .png for drawings.
    """

    transient_fields: ClassVar[frozenset[str]] = frozenset()
    whole_folders: ClassVar[tuple[str, ...]] = ()
    image_suffix: ClassVar[str] = ".jpg"

    @abstractmethod
    def refs(self) -> Sequence[ImageRef]:
        """What there is, in a fixed order."""

    def refuse_output(self, out: Path) -> None:  # noqa: B027  (most have nothing to refuse)
        """A ValueError where writing to `out` would make this run's output the next run's input."""


@dataclass(frozen=True, kw_only=True)
class RegionSource(Source):
    """Images and their regions.

    Attributes:
        has_names: regions may have names; False: none ever has one.
        has_traces: regions say where they will be.
    """

    has_names: ClassVar[bool] = True
    has_traces: ClassVar[bool] = False

    @abstractmethod
    def load(self, ref: ImageRef) -> Image.Image:
        """The image as upright RGB; raises ImageError."""

    @abstractmethod
    def regions(self, ref: ImageRef, image: Image.Image) -> list[Region]:
        """The regions of one image, at its size, in a fixed order; an empty list when there are none.

        Raises:
            ValueError: the annotation does not fit this image (a mask of the wrong size, a box outside).
            ImportError, OSError: the source cannot work at all here (a package or checkpoint is missing).
        """


@dataclass(frozen=True)
class Page:
    """A page as its source gives it; see `PageRecord` for the fields."""

    image: Image.Image
    kind: PageKind
    blocks: tuple[Block, ...]
    markdown: str | None = None
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class PageSource(Source):
    """Pages whose text is known word by word. A ref is one page, or some pages that tasks may ask about together."""

    def page_ids(self, ref: ImageRef) -> Sequence[str]:
        """What the pages of a ref are called, which names their files; unique in the source."""
        return (ref.id,)

    @abstractmethod
    def page(self, ref: ImageRef, index: int) -> Page:
        """Page `index` of a ref.

        Raises:
            ValueError: this page cannot be used, and why.
            ImportError, OSError: the source cannot work at all here (a package is missing).
        """


@dataclass(frozen=True, kw_only=True)
class FileBacked(Source):
    """A source of what is in files; by default in every file under `images`.

    Attributes:
        medium: what the files are called.
        suffixes: which files under a folder they are.
    """

    medium: ClassVar[str] = "image"
    suffixes: ClassVar[frozenset[str]] = IMAGE_SUFFIXES

    images: Path = option(help="folder of images, or one image file")

    def __post_init__(self) -> None:
        if not self.images.exists():
            raise ValueError(f"images={self.images}: no such file or folder.")

    @property
    def root(self) -> Path:
        """The folder that image paths are relative to and may not leave."""
        return self.images if self.images.is_dir() else self.images.parent

    def refs(self) -> Sequence[ImageRef]:
        """One ref for each file; a ValueError when there is none."""
        files = list_images(self.images, self.suffixes) if self.images.is_dir() else [self.images]
        if not files:
            raise ValueError(f"images={self.images}: holds no {self.medium} file ({', '.join(sorted(self.suffixes))}).")
        return refs_of([file.relative_to(self.root) for file in files])

    def file(self, ref: ImageRef) -> Path:
        """The file of a ref; an ImageError when its name is no text, or it lies outside the root."""
        path = ref.path or ref.id
        require_text(str(path))
        return resolve_inside(path, self.root)

    def refuse_output(self, out: Path) -> None:
        """Output below the folder of images is refused."""
        refuse_inside(out, self.images)


@dataclass(frozen=True, kw_only=True)
class FileSource(FileBacked, RegionSource):
    """A source of regions for image files."""

    def load(self, ref: ImageRef) -> Image.Image:
        """The image file as upright RGB."""
        return open_image(self.file(ref))


@dataclass(frozen=True, kw_only=True)
class AnnotatedSource(FileSource):
    """A source whose images are listed in one JSON file; `images` may narrow it down to a single file."""

    annotations: Path = option(help="the annotation file (JSON)")

    def refs(self) -> Sequence[ImageRef]:
        """The images named by the annotation file, in its order."""
        found = self.entries(read_json(self.annotations))
        for file in found:
            if not isinstance(file, str) or not Path(file).name:
                raise ValueError(f"{self.annotations}: {file!r} is not the name of an image file.")
        if self.images.is_file():
            name = self.images.name
            matches = [file for file in found if Path(file).name == name]
            if len(matches) != 1:
                several = f"several entries for {name}: {', '.join(matches)}" if matches else f"no entry for {name}"
                raise ValueError(f"{self.annotations}: has {several}. Give the folder that its names are relative to.")
            found = {name: found[matches[0]]}
        return refs_of([Path(file) for file in found], list(found.values()))

    def refuse_output(self, out: Path) -> None:
        """Nothing to refuse: what is not in the annotation file is never input."""

    @abstractmethod
    def entries(self, content: Any) -> dict[str, tuple[Any, ...]]:
        """Image file name -> its annotations, from the parsed JSON.

        Raises:
            ValueError: the file is not in the format of this source.
        """


def refs_of(paths: Sequence[Path], annotations: Sequence[tuple[Any, ...]] | None = None) -> list[ImageRef]:
    """One ref for each path; its id is the path without suffix, or with it where that belongs to another file too."""
    stems = [path.with_suffix("").as_posix() for path in paths]
    names = [path.as_posix() for path in paths]
    count = Counter([*stems, *names])  # a.jpg beside a.png, and beside a.jpg.png
    ids = [stem if count[stem] == 1 + (stem == name) else name for stem, name in zip(stems, names, strict=True)]
    found = annotations or [()] * len(paths)
    return [ImageRef(*fields) for fields in zip(ids, paths, found, strict=True)]


def refuse_inside(out: Path, folder: Path) -> None:
    """A ValueError where `out` lies in a folder of input; nothing where `folder` is a file."""
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out} lies inside {folder}, which is input. Choose an output folder outside of it.")


def require_text(name: str) -> None:
    """An ImageError for a file name that is not valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ImageError(f"{name!a}: the file name is not valid UTF-8. Rename the file.") from None


def read_json(file: Path) -> Any:
    """The content of a JSON file; a ValueError that names the file and the line when there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))  # some exporters write a byte order mark
    except FileNotFoundError:
        raise ValueError(f"{file}: no such annotation file.") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # among them JSONDecodeError, UnicodeDecodeError, endless digits
        raise ValueError(f"{file}: is not valid JSON ({error}). Fetch or export it again.") from None
