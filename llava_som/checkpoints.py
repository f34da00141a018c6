"""Checkpoints in and out: ours, llava-hf's and the original LLaVA-1.5's are read; ours and plain `llava` are written.

What a folder holds is decided by its config.json, never by its name. A weight that is missing or left over is an
error that lists it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from llava_som.auto import LlavaSomConfig, LlavaSomForConditionalGeneration, LlavaSomProcessor
from llava_som.registry import closest_match_message
from llava_som.vocabulary import add_image_token, fit_embeddings

Loaded = tuple[LlavaSomForConditionalGeneration, LlavaSomProcessor]

DTYPES = ("float32", "bfloat16", "float16")


def checkpoint_format(config: dict[str, Any]) -> str:
    """`llava_som`, `llava_hf` or `llava_1.5`, from the content of a config.json.

    Raises:
        ValueError: none of them.
    """
    if config.get("model_type") == "llava_som":
        return "llava_som"
    if "mm_vision_tower" in config:
        return "llava_1.5"
    if config.get("model_type") == "llava" and "text_config" in config:
        return "llava_hf"
    raise ValueError(
        f"config.json says model_type={config.get('model_type')!r}, which is none of: llava_som (ours), llava with a "
        "text_config (llava-hf), or a config with mm_vision_tower (the original LLaVA-1.5)."
    )


def named_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16`; another name is a ValueError with the closest."""
    if name not in DTYPES:
        raise ValueError(closest_match_message("dtype", name, DTYPES))
    return getattr(torch, name)


def load_checkpoint(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str | None = None,
    vision_tower: str | Path | None = None,
) -> Loaded:
    """Model (in eval mode) and processor from a folder or hub name, whichever of the three formats it has.

    Args:
        path: checkpoint folder or hub name.
        dtype: of the weights.
        attn_implementation: sdpa, eager, flash_attention_2 ...; transformers' default when absent.
        vision_tower: for the original LLaVA-1.5 format: where the vision encoder's config (and weights, if the
            checkpoint has none) are, instead of the `mm_vision_tower` of its config.

    Raises:
        ValueError: another format, or missing or unexpected weights (all are listed).
    """
    config = _read_config(path)
    options: dict[str, Any] = {"dtype": dtype}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    match checkpoint_format(config):
        case "llava_som":
            if config["vision_config"].get("model_type") == "timm_tower":
                import llava_som.vision.timm  # noqa: F401  (registers the type)
            model = _load_complete(LlavaSomForConditionalGeneration, path, options)
            return model, LlavaSomProcessor.from_pretrained(path)
        case "llava_hf":
            return _from_llava_hf(path, options)
        case _:
            return _from_llava_1_5(_local_folder(path), config, options, vision_tower)


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = "llava_som",
    dtype: str = "bfloat16",
    vision_tower: str | None = None,
) -> None:
    """Read a checkpoint of any known format and write it as `llava_som` or plain `llava`.

    Raises:
        ValueError: another target format or dtype, or whatever `load_checkpoint` and `export_llava` refuse.
    """
    if to not in ("llava_som", "llava"):
        raise ValueError(closest_match_message("checkpoint format", to, ["llava_som", "llava"]))
    model, processor = load_checkpoint(source, named_dtype(dtype), vision_tower=vision_tower)
    if to == "llava":
        export_llava(model, processor, target)
    else:
        model.save_pretrained(target)
        processor.save_pretrained(target)


def export_llava(model: LlavaSomForConditionalGeneration, processor: LlavaSomProcessor, folder: str | Path) -> None:
    """Write a plain `llava` checkpoint, which transformers, vLLM and llama.cpp's converters load without any code
    of ours.

    Raises:
        ValueError: the model has a part that plain `llava` cannot express; the part is named.
    """
    config = _llava_config(model.config)
    with torch.device("meta"):
        plain = LlavaForConditionalGeneration(config)
    renamed = dict(_to_llava_hf_names(model.state_dict(), model.language_model.base_model_prefix))
    _load_exactly(plain, renamed, origin="this model")
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    LlavaProcessor(
        processor.image_processor,
        processor.tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=model.config.num_prefix_tokens,
        chat_template=processor.chat_template,
    ).save_pretrained(folder)


def _read_config(path: str | Path) -> dict[str, Any]:
    """config.json of a folder or a hub repository as a dict."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: no config.json can be read there, so no checkpoint can be loaded ({error})"
        ) from error
    return config


def _local_folder(path: str | Path) -> Path:
    """The folder itself, or the local copy of a hub repository."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(path), allow_patterns=["*.json", "*.model", "*.safetensors", "*.bin"]))


def _from_llava_hf(path: str | Path, options: dict[str, Any]) -> Loaded:
    plain = _load_complete(LlavaForConditionalGeneration, path, options)
    theirs: Any = plain.config
    drops_first_token = theirs.vision_feature_select_strategy == "default"
    config = LlavaSomConfig(
        vision_config=theirs.vision_config,
        text_config=theirs.text_config,
        projector={
            "type": "mlp2x_gelu",
            "activation": theirs.projector_hidden_act,
            "bias": theirs.multimodal_projector_bias,
        },
        image_token_id=theirs.image_token_id,
        vision_feature_layer=theirs.vision_feature_layer,
        keep_prefix_tokens=not drops_first_token,
        dtype=options["dtype"],
    )
    if drops_first_token and config.num_prefix_tokens != 1:
        raise ValueError(
            f"{path}: vision_feature_select_strategy='default' drops the first token, but its vision encoder "
            f"({theirs.vision_config.model_type}) has {config.num_prefix_tokens} token(s) before the patches. "
            "With 'full' in its config.json it can be loaded."
        )
    with torch.device("meta"):
        model = LlavaSomForConditionalGeneration._from_config(config, **options)
    weights = dict(_from_llava_hf_names(plain.state_dict(), model.language_model.base_model_prefix))
    _load_exactly(model, weights, origin=str(path))
    _adopt_buffers(model.vision_tower, plain.model.vision_tower)
    _adopt_buffers(model.language_model.get_decoder(), plain.model.language_model)
    model.generation_config = plain.generation_config
    processor = AutoProcessor.from_pretrained(path)
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    return model.eval(), LlavaSomProcessor(
        processor.image_processor, tokenizer, config.image_seq_length, processor.chat_template
    )


def _from_llava_1_5(
    path: Path, config: dict[str, Any], options: dict[str, Any], vision_tower: str | Path | None
) -> Loaded:
    _refuse_other_llavas(path, config)
    tower_name = _vision_tower_name(path, config["mm_vision_tower"], vision_tower)
    vision_config = AutoConfig.from_pretrained(tower_name)
    vision_config = getattr(vision_config, "vision_config", vision_config)
    text_fields = {key: value for key, value in config.items() if not key.startswith("mm_")}
    for key in ("model_type", "architectures", "transformers_version", "torch_dtype", "dtype"):
        text_fields.pop(key, None)
    projector = config.get("mm_projector_type", "linear")
    ours = LlavaSomConfig(
        vision_config=vision_config,
        text_config=LlamaConfig(**text_fields),
        projector=projector,
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        keep_prefix_tokens=config.get("mm_vision_select_feature", "patch") == "cls_patch",
        dtype=options["dtype"],
    )
    weights = dict(_from_llava_1_5_names(_read_weights(path), projector))
    attention = {key: value for key, value in options.items() if key != "dtype"}
    model = LlavaSomForConditionalGeneration._from_config(ours, **options)
    if not any(name.startswith("vision_tower.") for name in weights):
        tower = AutoModel.from_pretrained(tower_name, config=vision_config, dtype=options["dtype"], **attention)
        weights |= {f"vision_tower.{name}": value for name, value in tower.state_dict().items()}
    _load_exactly(model, weights, origin=str(path), assign=False)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model.config.image_token_id = add_image_token(tokenizer)
    fit_embeddings(model.language_model, len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = LlavaSomProcessor.for_model(model.config, tokenizer, chat_template="vicuna")
    if config.get("image_aspect_ratio") != "pad":  # before LLaVA-1.5: CLIP's own resize and centre crop
        side = vision_config.image_size
        processor.image_processor.do_pad, processor.image_processor.do_center_crop = False, True
        processor.image_processor.size = {"shortest_edge": side}
        processor.image_processor.crop_size = {"height": side, "width": side}
    return model.eval(), processor


def _refuse_other_llavas(path: Path, config: dict[str, Any]) -> None:
    """A ValueError for relatives of LLaVA-1.5 that would load and answer wrongly."""
    obstacles = []
    if config.get("model_type") not in ("llava", "llava_llama"):
        obstacles.append(f"model_type={config.get('model_type')!r} (its decoder is not Llama)")
    if config.get("mm_use_im_start_end"):
        obstacles.append("mm_use_im_start_end=true (tokens around each image)")
    if str(config.get("image_aspect_ratio")).startswith("anyres"):
        obstacles.append(f"image_aspect_ratio={config['image_aspect_ratio']!r} (tiles, LLaVA-1.6)")
    if obstacles:
        raise ValueError(f"{path}: is not LLaVA-1.5, because of: {'; '.join(obstacles)}. Is there a llava-hf version?")


def _load_complete(model_class: type[PreTrainedModel], path: str | Path, options: dict[str, Any]) -> Any:
    """`from_pretrained`, where a key that is missing or left over is an error instead of a warning."""
    loader: Any = model_class.from_pretrained
    model, report = loader(path, output_loading_info=True, **options)
    _refuse_differences(report["missing_keys"], report["unexpected_keys"], str(path))
    return model.eval()


def _load_exactly(model: PreTrainedModel, weights: dict[str, Tensor], origin: str, assign: bool = True) -> None:
    expected = set(model.state_dict())
    _refuse_differences(expected - set(weights), set(weights) - expected, origin)
    model.load_state_dict(weights, assign=assign)
    if assign:
        model.tie_weights()


def _refuse_differences(missing: Iterable[str], unexpected: Iterable[str], origin: str) -> None:
    problems = [f"missing: {name}" for name in sorted(missing)] + [f"unexpected: {name}" for name in sorted(unexpected)]
    if problems:
        raise ValueError(f"{origin}: the weights do not fit the config.json.\n  " + "\n  ".join(problems))


def _adopt_buffers(module: torch.nn.Module, source: torch.nn.Module) -> None:
    """Take the computed buffers (position ids, rotary frequencies) that no state dict holds."""
    buffers = dict(source.named_buffers())
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:
            parent, _, leaf = name.rpartition(".")
            module.get_submodule(parent)._buffers[leaf] = buffers[name]


def _from_llava_hf_names(state: dict[str, Tensor], decoder_prefix: str) -> Iterable[tuple[str, Tensor]]:
    for name, value in state.items():
        if name.startswith("model.language_model."):
            yield name.replace("model.language_model.", f"language_model.{decoder_prefix}.", 1), value
        elif name.startswith("lm_head."):
            yield f"language_model.{name}", value
        else:
            yield name.removeprefix("model."), value


def _to_llava_hf_names(state: dict[str, Tensor], decoder_prefix: str) -> Iterable[tuple[str, Tensor]]:
    for name, value in state.items():
        if name.startswith(f"language_model.{decoder_prefix}."):
            yield name.replace(f"language_model.{decoder_prefix}.", "model.language_model.", 1), value
        elif name.startswith("language_model.lm_head."):
            yield name.removeprefix("language_model."), value
        else:
            yield f"model.{name}", value


def _from_llava_1_5_names(state: dict[str, Tensor], projector: str) -> Iterable[tuple[str, Tensor]]:
    layers = {"0": "linear_1", "2": "linear_2"} if projector == "mlp2x_gelu" else {}
    for name, value in state.items():
        if name.endswith("rotary_emb.inv_freq") or name.endswith("embeddings.position_ids"):
            continue  # computed, not learned; old exports hold them
        if "mm_projector." in name:
            rest = name.rpartition("mm_projector.")[2]
            first, _, leaf = rest.partition(".")
            yield f"multi_modal_projector.{layers.get(first, 'linear')}.{leaf or first}", value
        elif "vision_tower." in name:
            yield "vision_tower." + name.rpartition("vision_tower.")[2].removeprefix("vision_model."), value
        else:
            yield f"language_model.{name}", value


def _vision_tower_name(path: Path, named: str, override: str | Path | None) -> str:
    if override is not None:
        return str(override)
    beside = path / named
    return str(beside) if beside.is_dir() else named


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All weight files of a folder; `.bin` files are read with torch's restricted unpickler."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    extra = folder / "mm_projector.bin"
    if extra.exists():
        files.append(extra)
    if not files:
        raise ValueError(f"{folder}: has neither *.safetensors nor pytorch_model*.bin files.")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    return weights


def _llava_config(config: LlavaSomConfig) -> Any:
    """Our config as plain `llava`, or a ValueError that names what plain `llava` cannot express."""
    vision, text, projector = config.vision_config, config.text_config, config.projector
    obstacles = []
    if projector["type"] != "mlp2x_gelu":
        obstacles.append(f"projector {projector['type']!r} (plain llava has mlp2x_gelu)")
    if vision.model_type in ("timm_tower", "siglip2_vision_model"):
        obstacles.append(f"vision encoder {vision.model_type!r}")
    if config.num_prefix_tokens > 1 and not config.keep_prefix_tokens:
        obstacles.append(f"{config.num_prefix_tokens} dropped prefix tokens (plain llava drops exactly one or none)")
    for field in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(text, field, None):
            obstacles.append(f"a decoder that scales its logits ({field}={getattr(text, field)})")
    if obstacles:
        raise ValueError("This model cannot be written as plain llava, because of: " + "; ".join(obstacles) + ".")
    keeps_all = config.keep_prefix_tokens or config.num_prefix_tokens == 0
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=config.image_token_id,
        image_seq_length=config.image_seq_length,
        projector_hidden_act=projector.get("activation", "gelu"),
        multimodal_projector_bias=projector.get("bias", True),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy="full" if keeps_all else "default",
        dtype=config.dtype,
    )
