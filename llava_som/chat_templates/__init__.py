"""Chat templates with `{% generation %}` markers: training labels come from them, never from splitting text.

`vicuna` is LLaVA-1.5's conversation, `chatml` that of Qwen and SmolLM2, `llama3` that of Llama 3, `docowl` that of
mPLUG-DocOwl.
"""

from __future__ import annotations

from pathlib import Path

from llava_som.registry import closest_match_message

_FOLDER = Path(__file__).parent

# The token that ends an assistant turn; None stands for the tokenizer's own end-of-sequence token.
END_OF_TURN = {"vicuna": None, "docowl": None, "chatml": "<|im_end|>", "llama3": "<|eot_id|>"}


def load_chat_template(name: str) -> str:
    """The Jinja source of a template of ours, by name, or of a `.jinja` file.

    Raises:
        ValueError: no such template or file, or one without generation markers, which could not be trained on.
    """
    file = Path(name) if name.endswith(".jinja") else _FOLDER / f"{name}.jinja"
    if not file.is_file():
        raise ValueError(
            closest_match_message("chat template", name, END_OF_TURN) + " A path to a .jinja file works too."
        )
    template = file.read_text(encoding="utf-8").rstrip("\n")
    if "generation -%}" not in template and "generation %}" not in template:
        raise ValueError(f"{file}: has no {{% generation %}} block, so the answers to train on are not marked in it.")
    return template
