"""The entry point of group `lmms_eval.models`: lmms-eval's own command line finds the model as `--model llava_som`."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(
    model_id="llava_som",
    chat_class_path="eval.model.LlavaSomChat",
    simple_class_path="eval.model.LlavaSomSimple",
)
