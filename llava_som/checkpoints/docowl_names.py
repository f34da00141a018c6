"""Parameter names of mPLUG-DocOwl 1.5 and DocOwl2 to ours, of whole models or of a single H-Reducer or compressor.

Where the published modules are written otherwise than ours the tensors change form with their names: the fused query,
key and value of the vision encoder are taken apart, and convolutions become the linear layers they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

# In names, # stands for the number of a layer and * for weight or bias.
_VISION = {
    "embeddings.cls_token": "embeddings.class_embedding",
    "embeddings.patch_embed.*": "embeddings.patch_embedding.*",
    "embeddings.position_embedding": "embeddings.position_embedding.weight",
    "embeddings.pre_layernorm.*": "pre_layrnorm.*",
    "encoder.layers.#.input_layernorm.*": "encoder.layers.#.layer_norm1.*",
    "encoder.layers.#.self_attn.dense.*": "encoder.layers.#.self_attn.out_proj.*",
    "encoder.layers.#.post_attention_layernorm.*": "encoder.layers.#.layer_norm2.*",
    "encoder.layers.#.mlp.fc1.*": "encoder.layers.#.mlp.fc1.*",
    "encoder.layers.#.mlp.fc2.*": "encoder.layers.#.mlp.fc2.*",
    "post_layernorm.*": "post_layernorm.*",
}
_REDUCER = {"reducer_before.0.*": "expand.*", "reducer.*": "reduce.*", "visual_fc.*": "project.*", "vit_eos": "eos"}
_COMPRESSOR = {
    "compressor_crossatt.layers.#.attention.query.*": "layers.#.q_proj.*",
    "compressor_crossatt.layers.#.attention.key.*": "layers.#.k_proj.*",
    "compressor_crossatt.layers.#.attention.value.*": "layers.#.v_proj.*",
    "compressor_crossatt.layers.#.norm1.*": "layers.#.query_norm.*",
    "compressor_crossatt.layers.#.normk.*": "layers.#.key_norm.*",
    "compressor_crossatt.layers.#.output.out_proj.*": "layers.#.out_proj.*",
    "compressor_crossatt.layers.#.output.norm2.*": "layers.#.mlp_norm.*",
    "compressor_crossatt.layers.#.output.mlp.w1.*": "layers.#.mlp.gate_proj.*",
    "compressor_crossatt.layers.#.output.mlp.w3.*": "layers.#.mlp.up_proj.*",
    "compressor_crossatt.layers.#.output.mlp.ffn_ln.*": "layers.#.mlp.norm.*",
    "compressor_crossatt.layers.#.output.mlp.w2.*": "layers.#.mlp.down_proj.*",
    "compressor_fc.*": "project.*",
    "compressor_eos": "eos",
}
_DECODER = {"lm_head.*": "lm_head.*", "embed_tokens.*": "model.embed_tokens.*", "norm.*": "model.norm.*"}
_DECODER |= {f"layers.#.self_attn.{name}.*": f"model.layers.#.self_attn.{name}.*" for name in ("q_proj", "o_proj")}
_DECODER |= {f"layers.#.mlp.{name}_proj.*": f"model.layers.#.mlp.{name}_proj.*" for name in ("gate", "up", "down")}
_TWINNED = ("self_attn.k_proj", "self_attn.v_proj", "input_layernorm", "post_attention_layernorm")
_DECODER |= {f"layers.#.{name}.multiway.0.*": f"model.layers.#.{name}.*" for name in _TWINNED}
_TWINS = {f"layers.#.{name}.multiway.1.*": f"#.{name.removeprefix('self_attn.')}.*" for name in _TWINNED}

_FUSED = "vision_model.encoder.layers.#.self_attn.query_key_value.*"
_FUSED_OURS = [f"encoder.layers.#.self_attn.{letter}_proj.*" for letter in "qkv"]
_DROPPED = {"ln_q.*", "layers.#.self_attn.rotary_emb.inv_freq"}

_NUMBER = re.compile(r"(?<=layers\.)\d+(?=\.)")
_LEAF = re.compile(r"(?<=\.)(?:weight|bias)$")

_PARTS = (  # our name, their prefix, the names behind it; a single module may come without its prefix
    ("vision_tower", "vision_model.", _VISION),
    ("multi_modal_projector", "vision2text.", _REDUCER),
    ("compressor", "hr_compressor.", _COMPRESSOR),
    ("language_model", "", _DECODER),
    ("vision_twins", "", _TWINS),
    ("multi_modal_projector", "", _REDUCER),
    ("compressor", "", _COMPRESSOR),
)


def rename_docowl(state_dict: Mapping[str, Tensor], num_heads: int = 16) -> dict[str, Tensor]:
    """The weights of a DocOwl model, or of a part of it, under our names and in our forms.

    The names of a single H-Reducer or compressor, with the prefix of a whole model or without it, become those of
    `HReducer(eos=True)` or `DocCompressor(eos=True)`; all others those of `LlavaSomForConditionalGeneration`. Left out
    are `ln_q`, a norm of the H-Reducer that no code calls, and the rotary frequencies, which are computed.

    Args:
        state_dict: by their names.
        num_heads: of the vision encoder, for its fused query, key and value; 16 in all that is published.

    Raises:
        ValueError: names that are not DocOwl's (all are listed), an H-Reducer whose kernel has two dimensions, or a
            number of heads that does not fit.
    """
    renamed: dict[tuple[str, str], Tensor] = {}
    unknown = []
    for name, value in state_dict.items():
        found = _found(name, value, num_heads)
        unknown += [name] if found is None else []
        renamed |= found or {}
    if unknown:
        raise ValueError(
            "These are no parameters of mPLUG-DocOwl 1.5 or DocOwl2:\n  " + "\n  ".join(sorted(unknown)) + "\nIs it "
            "another model's checkpoint, or an adapter that is still to be merged?"
        )
    parts = {part for part, _ in renamed}
    if parts in ({"multi_modal_projector"}, {"compressor"}):
        return {name: value for (_, name), value in renamed.items()}
    return {f"{part}.{name}": value for (part, name), value in renamed.items()}


def _found(name: str, value: Tensor, num_heads: int) -> dict[tuple[str, str], Tensor] | None:
    """What becomes of one parameter, by (part, name in it); None when its name is not known."""
    general = _LEAF.sub("*", _NUMBER.sub("#", name, count=1)).removeprefix("model.")
    number, leaf = (match[0] if (match := pattern.search(name)) else "" for pattern in (_NUMBER, _LEAF))

    def filled(ours: str) -> str:
        return ours.replace("#", number).replace("*", leaf)

    if general.removeprefix("vision2text.") in _DROPPED:
        return {}
    if general == _FUSED:
        tensors = zip(_FUSED_OURS, _apart(name, value, num_heads), strict=True)
        return {("vision_tower", filled(ours)): tensor for ours, tensor in tensors}
    for part, prefix, names in _PARTS:
        if general.startswith(prefix) and (ours := names.get(general.removeprefix(prefix))):
            return {(part, filled(ours)): _in_our_form(name, value)}
    return None


def _in_our_form(name: str, value: Tensor) -> Tensor:
    if name.endswith(("cls_token", "vit_eos", "compressor_eos")):
        return value.flatten()
    if name.endswith("position_embedding"):
        return value.squeeze(0)
    return _linear(name, value) if name.endswith(("reducer_before.0.weight", "reducer.weight")) else value


def _linear(name: str, kernel: Tensor) -> Tensor:
    """A convolution whose kernel is its stride, `[out, in, 1, K]`, as a linear layer on K patches, `[out, K * in]`."""
    if kernel.shape[2] != 1:
        raise ValueError(
            f"{name}: its kernel covers {kernel.shape[2]}x{kernel.shape[3]} patches. With more than one row DocOwl's "
            "H-Reducer joins patches that are not neighbours, which ours does not; only 1xK kernels can be read."
        )
    return kernel.squeeze(2).permute(0, 2, 1).flatten(1)


def _apart(name: str, fused: Tensor, num_heads: int) -> Sequence[Tensor]:
    """Query, key and value, whose rows stand head by head in one tensor, `[heads * 3 * d, ...]`."""
    if fused.shape[0] % (3 * num_heads):
        raise ValueError(
            f"{name}: {fused.shape[0]} rows are not query, key and value of {num_heads} heads. Give num_heads, that of "
            "the vision encoder."
        )
    by_kind = fused.unflatten(0, (num_heads, 3, -1)).transpose(0, 1)
    return [rows.clone() for rows in by_kind.flatten(1, 2)]  # three tensors, not views of one: those cannot be saved
