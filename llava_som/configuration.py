"""LlavaSomConfig: everything a model needs to be rebuilt, and what its image tokens are counted from."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, PreTrainedConfig

from llava_som.compressors import COMPRESSORS
from llava_som.projectors import PROJECTORS
from llava_som.pruning import build_pruner, named_pruner
from llava_som.pruning.base import TilePruner, placement_of
from llava_som.pruning.in_decoder import DecoderPruner
from llava_som.registry import closest_match_message
from llava_som.tiling import SINGLE_TILE, TileGrid, Tiling
from llava_som.token_count import TokenCount
from llava_som.vision.grid import TokenGrid, token_grid

if TYPE_CHECKING:
    from torch import Tensor


class LlavaSomConfig(PreTrainedConfig):
    """Vision encoder, pruning, projector, compressor and decoder of one model.

    Args:
        vision_config: config of any `AutoModel` vision encoder, or `TimmTowerConfig`; a dict needs `model_type`.
        text_config: config of any `AutoModelForCausalLM` decoder; a dict needs `model_type`.
        projector: `{"type": name, **options}`; the name alone is enough. Names: `PROJECTORS.names()`.
        compressor: the same for what makes the tokens of a page from those of its tiles. Names: `COMPRESSORS.names()`.
            All but "none" need `tiling` with a global tile.
        pruning: the same for what drops tokens; parameter-free, so it may be changed at any time
            (`LlavaSomForConditionalGeneration.set_pruning`). Names: `PRUNERS.names()`. None or "none": none are.
        tiling: options of `llava_som.tiling.Tiling`, or a family of grids alone ("grid_9"); a tile has the encoder's
            image size. None: an image is one tile, padded to a square.
        image_token_id: id of the `<image>` placeholder; each image takes as many of them as it has tokens before
            pruning.
        vision_feature_layer: which hidden state of the encoder is used; several are concatenated. Default -2
            (LLaVA-1.5), -1 for timm.
        num_prefix_tokens: tokens of the encoder before its patches; known for the common encoders, to be stated for
            others.
        keep_prefix_tokens: also give the decoder the prefix tokens (LLaVA's "full" feature selection).
        vision_final_norm: apply the encoder's own last norm to the features that are read (DocOwl).
        modality_adaptive: the decoder has keys, values and norms of its own for image positions
            (`llava_som.modality`; mPLUG-Owl2, DocOwl).
        tie_word_embeddings: follows the decoder's own setting.

    Raises:
        ValueError: an unknown projector, compressor, pruner or encoder, a sub-config without `model_type`, a feature
            layer the encoder lacks, or parts that do not go together.
    """

    model_type = "llava_som"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}  # noqa: RUF012

    # Annotated for transformers' validation, and Any where a value given in one form is kept in another.
    vision_config: Any = None
    text_config: Any = None
    projector: Any = None
    compressor: Any = None
    pruning: Any = None
    tiling: Any = None
    image_token_id: int = 32000
    vision_feature_layer: Any = None
    num_prefix_tokens: Any = None
    keep_prefix_tokens: bool = False
    vision_final_norm: bool = False
    modality_adaptive: bool = False
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _sub_config(self.vision_config, "vision_config", default="clip_vision_model")
        self.text_config = _sub_config(self.text_config, "text_config", default="llama")
        self.projector = PROJECTORS.named(self.projector or "mlp2x_gelu")
        self.compressor = COMPRESSORS.named(self.compressor or "none")
        self.pruning = named_pruner(self.pruning)
        if isinstance(self.tiling, str):
            self.tiling = {"grids": self.tiling}
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        self._resolve_vision()
        self._check_parts()
        super().__post_init__(**kwargs)

    def _resolve_vision(self) -> None:
        grid = token_grid(self.vision_config, self.num_prefix_tokens)
        self.num_prefix_tokens = grid.num_prefix_tokens
        is_timm = self.vision_config.model_type == "timm_tower"
        if self.vision_feature_layer is None:
            self.vision_feature_layer = -1 if is_timm else -2
        if is_timm and self.vision_feature_layer != -1:
            raise ValueError(
                f"vision_feature_layer={self.vision_feature_layer}: a timm tower has one feature map. Choose it with "
                "TimmTowerConfig.from_architecture(..., stride=...) and leave vision_feature_layer out."
            )
        self._check_feature_layers()

    def _check_feature_layers(self) -> None:
        """A ValueError for hidden states that the encoder does not have."""
        count, chosen = getattr(self.vision_config, "num_hidden_layers", None), self.vision_feature_layer
        layers = [chosen] if isinstance(chosen, int) else list(chosen)
        if not layers or (count is not None and not all(-count - 1 <= layer <= count for layer in layers)):
            raise ValueError(
                f"vision_feature_layer={chosen}: the encoder {self.vision_config.model_type!r} has the hidden states 0 "
                f"(what enters its first layer) to {count}, or -1 to {-(count or 0) - 1} from the last. Choose one of "
                "them, or a list of several."
            )

    @property
    def token_grid(self) -> TokenGrid:
        """Rows, columns and prefix of the vision encoder's output for one image."""
        return token_grid(self.vision_config, self.num_prefix_tokens)

    @property
    def vision_width(self) -> int:
        """Width of the features the projector receives."""
        layers = 1 if isinstance(self.vision_feature_layer, int) else len(self.vision_feature_layer)
        return self.vision_config.hidden_size * layers

    def set_pruning(self, pruning: str | dict[str, Any] | None) -> None:
        """Replace `pruning`; a ValueError, and nothing replaced, where it does not fit the other parts."""
        before, self.pruning = self.pruning, named_pruner(pruning)
        try:
            self._check_parts()
        except ValueError:
            self.pruning = before
            raise

    @property
    def tiles(self) -> Tiling | None:
        """The options of `tiling`; None when images are not tiled."""
        return None if self.tiling is None else Tiling.parse(self.tiling)

    @property
    def smallest_page(self) -> TileGrid:
        """An image in as few tiles as there can be."""
        return SINGLE_TILE if self.tiles is None else TileGrid(1, 1, self.tiles.global_tile)

    def pages_of(self, num_tiles: int, image_grids: Tensor | None) -> list[TileGrid]:
        """How each image of a batch is cut.

        Args:
            num_tiles: of the batch.
            image_grids: rows and columns of the crops of each image, `[P, 2]`; None where images are not tiled.

        Raises:
            ValueError: grids for a model that does not read tiles, or none for one that does.
        """
        tiling = self.tiles
        if tiling is not None and image_grids is not None:
            return [TileGrid(rows, cols, tiling.global_tile) for rows, cols in image_grids.tolist()]
        if tiling is None and image_grids is None:
            return [SINGLE_TILE] * num_tiles
        reads, grids = ("whole images", "were given") if tiling is None else ("tiles", "are missing")
        raise ValueError(
            f"This model reads {reads} (tiling={self.tiling}), and image_grids, the rows and columns of each image, "
            f"{grids}. Prepare the inputs with the model's own processor."
        )

    @property
    def token_count(self) -> TokenCount:
        """What counts the placeholders of a page, here and in the processor."""
        grid, (projector, options) = self.token_grid, _plugin(self.projector, PROJECTORS)
        rows, cols = projector.output_grid(grid.rows, grid.cols, **options)
        return TokenCount(
            rows=rows,
            cols=cols,
            num_special=projector.num_special(**options) + (grid.num_prefix_tokens if self.keep_prefix_tokens else 0),
            compressor=self.compressor,
        )

    @property
    def image_seq_length(self) -> int:
        """Decoder tokens of one image that is not tiled, before pruning."""
        return sum(self.token_count.span_lengths(SINGLE_TILE))

    def _check_parts(self) -> None:
        """A ValueError for parts that do not go together, before any weight exists."""
        compressor, _ = _plugin(self.compressor, COMPRESSORS)
        tiles, name = self.tiles, self.compressor["type"]
        if compressor.needs_global and (tiles is None or not tiles.global_tile):
            raise ValueError(
                f"compressor={name!r} informs the global tile by the crops: it needs tiling with a global tile, "
                'such as tiling="grid_9".'
            )
        pruner = build_pruner(self.pruning)
        if isinstance(pruner, TilePruner):
            placement = placement_of(pruner, PROJECTORS.get(self.projector["type"]))
            if placement == "pre_v2t" and name != "none":
                raise ValueError(
                    f"placement='pre_v2t' regroups what is left, so that tokens lose their place on the page, which "
                    f"compressor={name!r} needs. Use pre_v2t_group or post_v2t."
                )
        elif isinstance(pruner, DecoderPruner):
            pruner.drops(self.text_config.num_hidden_layers)  # a layer that the decoder lacks is said now
        if self.keep_prefix_tokens and self.num_prefix_tokens and (name != "none" or self.pruning or self.tiling):
            raise ValueError(
                "keep_prefix_tokens goes with none of compressor, pruning and tiling: the encoder's "
                f"{self.num_prefix_tokens} token(s) before the patches have no place on the page. Leave it out, or "
                "these three."
            )
        _ = self.token_count  # a grid that the projector does not take is said now


def _plugin(given: dict[str, Any], registry: Any) -> tuple[Any, dict[str, Any]]:
    """The class of a plug-in and its options; a ValueError for an option it does not have."""
    plugin, options = registry.resolve(given)
    arguments = inspect.signature(plugin).parameters.values()
    known = [argument.name for argument in arguments if argument.default is not argument.empty]  # the widths have none
    for key in options:
        if key not in known:
            raise ValueError(closest_match_message(f"option of {registry.kind} {given['type']}", key, known))
    return plugin, options


def _sub_config(given: dict | PreTrainedConfig | None, key: str, default: str) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    if given is None:
        return AutoConfig.for_model(default)
    options = dict(given)
    model_type = options.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"{key} has no model_type. Add one, such as {default!r}.")
    if model_type == "timm_tower":
        import llava_som.vision.timm  # noqa: F401  (registers the type)
    return AutoConfig.for_model(model_type, **options)
