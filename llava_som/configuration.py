"""LlavaSomConfig: everything a model needs to be rebuilt, and the one place that counts image tokens."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from llava_som.projectors import PROJECTORS
from llava_som.vision.grid import TokenGrid, token_grid


class LlavaSomConfig(PreTrainedConfig):
    """Vision encoder, projector and decoder of one model.

    Args:
        vision_config: config of any `AutoModel` vision encoder, or `TimmTowerConfig`; a dict needs `model_type`.
        text_config: config of any `AutoModelForCausalLM` decoder; a dict needs `model_type`.
        projector: `{"type": name, **options}`; the name alone is enough. Names: `PROJECTORS.names()`.
        image_token_id: id of the `<image>` placeholder; each image takes `image_seq_length` of them.
        vision_feature_layer: which hidden state of the encoder is used; several are concatenated. Default -2
            (LLaVA-1.5), -1 for timm.
        num_prefix_tokens: tokens of the encoder before its patches; known for the common encoders, to be stated for
            others.
        keep_prefix_tokens: also give the decoder the prefix tokens (LLaVA's "full" feature selection).
        tie_word_embeddings: follows the decoder's own setting.

    Raises:
        ValueError: an unknown projector or encoder, a sub-config without `model_type`, a feature layer the encoder
            lacks.
    """

    model_type = "llava_som"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}  # noqa: RUF012

    # Annotated for transformers' validation, and Any where a value given in one form is kept in another.
    vision_config: Any = None
    text_config: Any = None
    projector: Any = None
    image_token_id: int = 32000
    vision_feature_layer: Any = None
    num_prefix_tokens: Any = None
    keep_prefix_tokens: bool = False
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _sub_config(self.vision_config, "vision_config", default="clip_vision_model")
        self.text_config = _sub_config(self.text_config, "text_config", default="llama")
        if isinstance(self.projector, str):
            self.projector = {"type": self.projector}
        self.projector = self.projector or {"type": "mlp2x_gelu"}
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        self._resolve_vision()
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

    @property
    def token_grid(self) -> TokenGrid:
        """Rows, columns and prefix of the vision encoder's output for one image."""
        return token_grid(self.vision_config, self.num_prefix_tokens)

    @property
    def vision_width(self) -> int:
        """Width of the features the projector receives."""
        layers = 1 if isinstance(self.vision_feature_layer, int) else len(self.vision_feature_layer)
        return self.vision_config.hidden_size * layers

    @property
    def image_seq_length(self) -> int:
        """Decoder tokens of one image. The processor expands `<image>` to this many, the model checks it."""
        options = {key: value for key, value in self.projector.items() if key != "type"}
        grid = self.token_grid
        tokens = PROJECTORS.get(self.projector["type"]).num_tokens(grid.rows, grid.cols, **options)
        return tokens + (grid.num_prefix_tokens if self.keep_prefix_tokens else 0)


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
