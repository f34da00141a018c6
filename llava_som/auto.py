"""The model's classes, known to transformers: AutoConfig, AutoProcessor and AutoModelForImageTextToText load them."""

from __future__ import annotations

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from llava_som.configuration import LlavaSomConfig
from llava_som.image_processing import LlavaSomImageProcessor
from llava_som.modeling import LlavaSomForConditionalGeneration
from llava_som.processing import LlavaSomProcessor

__all__ = ["LlavaSomConfig", "LlavaSomForConditionalGeneration", "LlavaSomProcessor"]

AutoConfig.register(LlavaSomConfig.model_type, LlavaSomConfig, exist_ok=True)
_backends: dict[str, type] = {"pil": LlavaSomImageProcessor, "torchvision": LlavaSomImageProcessor}
AutoImageProcessor.register(LlavaSomConfig, image_processor_classes=_backends, exist_ok=True)
AutoProcessor.register(LlavaSomConfig, LlavaSomProcessor, exist_ok=True)
AutoModelForImageTextToText.register(LlavaSomConfig, LlavaSomForConditionalGeneration, exist_ok=True)
