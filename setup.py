"""Package metadata. The ranges are what the code supports; requirements.txt pins what is tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "llava_som" / "__init__.py").read_text(encoding="utf-8"))

CORE = [
    "torch>=2.11",
    "torchvision>=0.26",
    "transformers>=5.17,<6",
    "accelerate>=1.15",
    "deepspeed>=0.19; sys_platform != 'win32'",
    "peft>=0.21",
    "datasets>=5",
    "pillow>=12",
    "opencv-python-headless>=4.11",  # the server build of opencv-python: the same cv2, no system GL library needed
    "numpy>=2",
    "safetensors>=0.7",
    "sentencepiece>=0.2",  # original LLaVA, Vicuna and DocOwl folders have only a tokenizer.model
    "protobuf>=5",
    "pydantic>=2.13",
    "pyyaml>=6",
    "rich>=14",
    "typer>=0.20",
    "timm>=1.0.30",
]
EXTRAS = {
    "gen": [
        "scikit-image>=0.25",
        "pycocotools>=2.0.10",
        "openai>=3",
        "tenacity>=9",
        "ray[data]>=2.60",
        "pypdfium2>=5",
        "rapidocr>=3.10",
        "onnxruntime>=1.20",
        "matplotlib>=3.10",
    ],
    "eval": [
        "lmms-eval>=0.7.3,<0.8",
        "filelock<4",  # lmms-eval 0.7.3 imports filelock._api
        "pycocoevalcap>=1.2",
        "rapidfuzz>=3.14",
        "scipy>=1.15",
    ],
    "train": ["matplotlib>=3.10", "ninja>=1.11", "tensorboard>=2.20", "trackio>=0.40"],
    "flash": ["flash-attn>=2.8.3"],
    "demo": ["imgviz>=2.1", "matplotlib>=3.10", "scikit-image>=0.25"],
}
EXTRAS["dev"] = [
    *EXTRAS["gen"],
    *EXTRAS["eval"],
    *EXTRAS["train"],
    *EXTRAS["demo"],
    "hypothesis>=6.150",
    "import-linter>=2.5",
    "mypy>=2",
    "playwright>=1.50",  # drives the Chromium of the system; brings none of its own
    "pytest>=9",
    "pytest-timeout>=2.4",
    "ruff>=0.17",
    "supervision>=0.30",  # what the drawing benchmark compares with
    "transformers[serving]",
    "types-PyYAML",
]

setup(
    name="llava_som",
    version=VERSION.group(1),
    description="LLaVA-style models with Set-of-Mark data, training, evaluation and inference",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["llava_som*", "data_gen*", "train*", "eval*"]),
    package_data={"": ["*.jinja", "*.yaml", "_template_yaml", "*.html", "*.css", "*.js"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["llava-som = llava_som.cli:main"],
        "lmms_eval.models": ["llava_som = eval.manifest:MANIFEST"],
    },
)
