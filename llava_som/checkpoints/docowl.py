"""mPLUG-DocOwl's format: a flat Llama config with a `visual_config`, and weights under names of their own.

DocOwl 1.5 (arXiv 2403.12895) gives the decoder every tile of a page, DocOwl2 (arXiv 2409.03420) one compressed page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.checkpoints.docowl_names import rename_docowl
from llava_som.checkpoints.weights import Loaded, load_exactly, local_folder, read_weights
from llava_som.vocabulary import add_image_token, fit_embeddings

# Where their config.json leaves something out: the defaults of their classes.
_VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "attention_dropout": 0.0,
}
_COMPRESSOR = {"layer": 2, "high_reso_cross_num_att_heads": 16, "layer_norm_eps": 1e-6, "high_reso_cross_dropout": 0.0}

_TILING = {
    "docowl_1.5": {"grids": "grid_9", "tile_markers": True},
    "docowl_2": {"grids": "grid_12", "page_markers": True},
}

# Their config.json has Llama's default of 2048 positions, which their code never checks and a page of 1.5 exceeds. The
# decoder is LLaMA-2, of 4096; DocOwl2 was evaluated on documents of 20 pages, some 6,700 tokens.
_CONTEXT = {"docowl_1.5": 4096, "docowl_2": 8192}

_NOT_THE_DECODERS = {"model_type", "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype"}
_NOT_THE_DECODERS |= {"visual_config", "max_position_embeddings", "_name_or_path"}


def docowl_format(config: dict[str, Any]) -> str | None:
    """`docowl_1.5` or `docowl_2`, from the content of a config.json; None for another model."""
    visual = config.get("visual_config") or {}
    if config.get("model_type") != "mplug_docowl" or "visual_hreducer" not in visual:
        return None
    return "docowl_2" if "visual_hrcompressor" in visual else "docowl_1.5"


def load_docowl(path: str | Path, config: dict[str, Any], options: dict[str, Any]) -> Loaded:
    """Read DocOwl 1.5 or DocOwl2.

    Args:
        path: folder or hub name.
        config: its config.json.
        options: `dtype` and perhaps `attn_implementation`.

    Raises:
        ValueError: a compressor or H-Reducer that ours cannot express, or missing or unexpected weights.
    """
    ours = _our_config(path, config, options["dtype"])
    folder = local_folder(path)
    weights = rename_docowl(read_weights(folder), ours.vision_config.num_attention_heads)
    with no_init_weights():  # all are loaded, or it is an error; random ones take minutes at this size
        model = LlavaSomForConditionalGeneration._from_config(ours, **options)
    load_exactly(model, weights, origin=str(path), assign=False)
    tokenizer = _tokenizer(folder)
    model.config.image_token_id = add_image_token(tokenizer)
    fit_embeddings(model.language_model, len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), LlavaSomProcessor.for_model(model.config, tokenizer, chat_template="docowl")


def _our_config(path: str | Path, config: dict[str, Any], dtype: torch.dtype) -> LlavaSomConfig:
    layout, visual = str(docowl_format(config)), config["visual_config"]
    vision = {name: visual.get("visual_model", {}).get(name, default) for name, default in _VISION.items()}
    text = {key: value for key, value in config.items() if key not in _NOT_THE_DECODERS}
    context = max(config.get("max_position_embeddings") or 0, _CONTEXT[layout])
    return LlavaSomConfig(
        vision_config=CLIPVisionConfig(hidden_act="quick_gelu", **vision),
        text_config=LlamaConfig(max_position_embeddings=context, **text),
        projector={"type": "h_reducer", "kernel": visual["visual_hreducer"].get("conv_shape", "1x4"), "eos": True},
        compressor=_compressor(path, config) if layout == "docowl_2" else "none",
        tiling=_TILING[layout],
        vision_feature_layer=-1,
        vision_final_norm=True,
        modality_adaptive=True,
        dtype=dtype,
    )


def _compressor(path: str | Path, config: dict[str, Any]) -> dict[str, Any]:
    """Our options for their compressor, or a ValueError that names what ours does not have."""
    given = {**_COMPRESSOR, **config["visual_config"]["visual_hrcompressor"]}
    width = given.get("high_reso_cross_hid_size", config["hidden_size"])
    obstacles = []
    if width != config["hidden_size"]:
        obstacles.append(f"high_reso_cross_hid_size={width} (the decoder's hidden_size is {config['hidden_size']})")
    if given["high_reso_cross_dropout"]:
        obstacles.append(f"high_reso_cross_dropout={given['high_reso_cross_dropout']} (ours has none)")
    if given["layer_norm_eps"] != 1e-6:
        obstacles.append(f"layer_norm_eps={given['layer_norm_eps']} (ours is 1e-6)")
    if obstacles:
        raise ValueError(f"{path}: its compressor cannot be read, because of: {'; '.join(obstacles)}.")
    heads = given["high_reso_cross_num_att_heads"]
    return {"type": "doc_compressor", "layers": given["layer"], "heads": heads, "eos": True}


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Their tokenizer; a space begins the text after each image, as with theirs, which encodes each piece on its own.

    The config keeps transformers from asking whether to run the code in the folder. A LLaMA tokenizer adds neither <s>
    nor such spaces unless told to, and forgets `legacy` when it is saved if that is not among its `init_kwargs`.
    """
    options = {"add_bos_token": True, "legacy": True}
    tokenizer = AutoTokenizer.from_pretrained(folder, config=LlamaConfig(), trust_remote_code=False, **options)
    tokenizer.init_kwargs |= options
    return tokenizer
