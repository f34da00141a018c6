"""Chat messages and images to model inputs. `<image>` is expanded here; the model scatters and checks the count."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from transformers import LlavaImageProcessor, PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.processing_utils import MultiModalData

from llava_som.chat_templates import END_OF_TURN, load_chat_template
from llava_som.image_processing import LlavaSomImageProcessor
from llava_som.tiling import SINGLE_TILE, TileGrid, Tiling
from llava_som.token_count import TokenCount
from llava_som.vision.grid import input_size

if TYPE_CHECKING:
    from llava_som.configuration import LlavaSomConfig

_CLIP, _HALF = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD), (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD)
_IMAGENET = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
_NORMALISATION = {
    "clip_vision_model": _CLIP,
    "siglip_vision_model": _HALF,
    "siglip2_vision_model": _HALF,
    "vit": _HALF,
}


class LlavaSomProcessor(ProcessorMixin):
    """An image processor and a tokenizer that agree on how many tokens an image takes.

    Args:
        image_processor: `LlavaSomImageProcessor` for a model that reads tiles; otherwise any of transformers that gives
            one `[3, S, S]` array an image.
        tokenizer: a fast tokenizer that knows `image_token`.
        image_seq_length: tokens of an image that is not tiled, `LlavaSomConfig.image_seq_length`.
        chat_template: Jinja source with `{% generation %}` markers.
        image_token: the placeholder in the text.
        token_count: fields of `LlavaSomConfig.token_count`, for a model that reads tiles.
    """

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_seq_length: int = 576,
        chat_template: str | None = None,
        image_token: str = "<image>",
        token_count: dict[str, Any] | None = None,
    ) -> None:
        self.image_seq_length = image_seq_length
        self.token_count = token_count
        self.image_token = image_token
        self.image_token_id: Any = tokenizer.convert_tokens_to_ids(image_token) if tokenizer is not None else None
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def for_model(
        cls, config: LlavaSomConfig, tokenizer: PreTrainedTokenizerBase, chat_template: str
    ) -> LlavaSomProcessor:
        """A processor for a new model.

        Without tiling, images are padded to a square with the mean colour (LLaVA-1.5) and resized.

        Args:
            config: of the model; `config.image_token_id` must be the tokenizer's id of `<image>`.
            tokenizer: a fast tokenizer that has `<image>` as a special token.
            chat_template: a name (`vicuna`, `chatml`, `llama3`, `docowl`) or the path of a `.jinja` file. With a name,
                the tokenizer's end-of-sequence token becomes the one that ends the template's turns.
        """
        tokenizer.padding_side = "left"
        template = load_chat_template(chat_template)
        end_of_turn = END_OF_TURN.get(chat_template)
        if end_of_turn is not None and end_of_turn not in tokenizer.get_vocab():
            raise ValueError(
                f"The chat template {chat_template!r} ends a turn with {end_of_turn!r}, which this tokenizer does not "
                f"have. Choose another of {', '.join(END_OF_TURN)}."
            )
        if end_of_turn is not None:
            tokenizer.eos_token = end_of_turn  # what the template ends a turn with is what ends a generation
        count = None if config.tiling is None else asdict(config.token_count)
        return cls(_image_processor(config), tokenizer, config.image_seq_length, template, token_count=count)

    @property
    def tiling(self) -> Tiling | None:
        """How pages are cut; None when images are not tiled."""
        return None if self.token_count is None else Tiling.parse(self.image_processor.tiling)

    @property
    def typical_image_tokens(self) -> int:
        """Tokens of an image whose size is not known: with tiling, those of the largest grid."""
        return sum(self.span_lengths(SINGLE_TILE if self.tiling is None else self.tiling.largest()))

    def span_lengths(self, page: TileGrid) -> list[int]:
        """Placeholders of an image, a number for each stretch between which text may stand."""
        return (
            [self.image_seq_length] if self.token_count is None else TokenCount(**self.token_count).span_lengths(page)
        )

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        """The placeholders of one image, and the markers of its tiles where the model was trained with them."""
        tiling = self.tiling
        if tiling is None:
            return self.image_token * self.image_seq_length
        rows, cols = (int(side) for side in image_inputs["image_grids"][image_idx])
        page = TileGrid(rows, cols, tiling.global_tile)
        spans = [self.image_token * length for length in self.span_lengths(page)]
        if tiling.tile_markers and len(spans) == page.num_tiles:
            spans = [tile_marker(place) + span for place, span in zip(page.positions(), spans, strict=True)]
        return "".join(spans)

    def get_text_with_replacements(
        self, text: list[str], images_replacements: Any = (), *others: Any, **more: Any
    ) -> Any:
        """As in transformers; with page markers, `<img 1>`, `<img 2>` ... stand before the images of each text."""
        if images_replacements and self.tiling is not None and self.tiling.page_markers:
            numbers = [number for words in text for number in range(1, words.count(self.image_token) + 1)]
            pairs = zip(numbers, images_replacements, strict=True)
            images_replacements = [f"<img {number}>{replacement}" for number, replacement in pairs]
        return super().get_text_with_replacements(text, images_replacements, *others, **more)

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in transformers.

        Raises:
            ImportError: `return_assistant_tokens_mask` with a transformers whose mask ignores the expansion of
                images; the wrong tokens would be trained.
        """
        wants_mask = kwargs.get("return_assistant_tokens_mask", False)
        if wants_mask and not hasattr(ProcessorMixin, "_adjust_assistant_masks_indices"):
            raise ImportError("Training labels need transformers >= 5.18: pip install -U transformers.")
        return super().apply_chat_template(conversation, **kwargs)

    def _get_num_multimodal_tokens(
        self, image_sizes: list[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Token counts for images of given sizes; serving engines plan memory with it."""
        if image_sizes is None:
            return MultiModalData()
        if self.tiling is None:
            count = len(image_sizes)
            return MultiModalData(num_image_tokens=[self.image_seq_length] * count, num_image_patches=[1] * count)
        pages = [self.image_processor.plan(width, height) for height, width in image_sizes]
        return MultiModalData(
            num_image_tokens=[sum(self.span_lengths(page)) for page in pages],
            num_image_patches=[page.num_tiles for page in pages],
        )


def tile_marker(place: tuple[int, int] | None) -> str:
    """The text before a tile, as DocOwl 1.5's published checkpoints were trained with; plain text, no special token."""
    return "<global_img>" if place is None else f"<crop_img_row{place[0]}_col{place[1]}>"


def _image_processor(config: LlavaSomConfig) -> BaseImageProcessor:
    vision = config.vision_config
    side = input_size(vision)
    if vision.model_type == "timm_tower":
        mean, std = list(vision.image_mean), list(vision.image_std)
    else:
        mean, std = _NORMALISATION.get(vision.model_type, _IMAGENET)
    if config.tiling is not None:
        return LlavaSomImageProcessor(side, config.tiling, mean, std)
    size = {"height": side, "width": side}
    return LlavaImageProcessor(do_pad=True, do_center_crop=False, size=size, image_mean=mean, image_std=std)
