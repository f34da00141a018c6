"""The `llava-som` command. Nothing heavy is imported before a subcommand needs it.

The commands that live in sibling packages (data_gen, train, eval) are found by name when they are called: the
library itself imports none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llava_som import __version__

app = typer.Typer(
    name="llava-som",
    help="LLaVA-style models with Set-of-Mark: tag images, make data, train, evaluate, ask.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is cuda where there is a GPU.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 ...; auto is bfloat16 on a GPU, float32 on a CPU.")]
Attention = Annotated[str, typer.Option(help="sdpa, eager, flash_attention_2 ...; auto leaves it to transformers.")]

Pruning = Annotated[
    str | None,
    typer.Option(help="Drop vision tokens: a name, or '{type: random, keep_ratio: 0.5}'; none switches off."),
]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"llava-som {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What all commands have in common."""


@app.command(
    context_settings={"allow_extra_args": True},
    epilog="Example: llava-som tag val2017/ -o tagged/ --source coco --annotations instances_val2017.json "
    "marks.draw=[mark,mask] workers=8",
)
def tag(
    context: typer.Context,
    image_or_folder: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write (or a file name, for one image).")],
    source: Annotated[str, typer.Option(help="Where regions come from; synth --help lists them.")] = "classical",
    annotations: Annotated[Path | None, typer.Option(help="Annotation file of the sources coco and boxes.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Model of the sources sam, panoptic and grounding.")] = None,
    preset: Annotated[str, typer.Option(help="How marks look: clear, paper or ui.")] = "clear",
    seed: Annotated[int, typer.Option(help="Same input and seed, same bytes out.")] = 0,
    force: Annotated[bool, typer.Option(help="Mark again what an earlier call has marked.")] = False,
) -> None:
    """Draw numbered tags on images; writes each tagged image and <name>.marks.json beside it.

    Further words are key=value: any option of the source, workers=N, and marks.FIELD=... to change the preset
    (`llava-som synth --help` lists both). What an earlier call has marked with the same options is kept, unless the
    image file is newer.
    """
    from llava_som.config_file import read_options
    from llava_som.interrupts import orderly_stop

    options: dict[str, Any] = {"source": source, "annotations": annotations, "checkpoint": checkpoint}
    options |= {"preset": preset, "seed": seed, "force": force, **read_options(context.args)}
    for key in {"inputs", "images", "out", "show_progress"} & options.keys():
        raise ValueError(f"{key}={options[key]}: is no option here; write llava-som tag IMAGE_OR_FOLDER -o OUT.")
    try:
        with orderly_stop():
            tagging = importlib.import_module("data_gen.tagging")
            summary = tagging.tag(image_or_folder, out, show_progress=True, **options)
    except KeyboardInterrupt as stop:
        print("Stopped. What is tagged is kept; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit((*stop.args, 130)[0]) from None
    print(f"{summary['tagged']} image(s) tagged with {summary['marks']} marks, {summary['kept']} kept from before.")
    for reason, count in summary["rejected_by_reason"].items():
        print(f"{count} rejected: {reason} (see {out / 'rejects.jsonl'})")
    if not summary["tagged"] + summary["kept"]:
        raise typer.Exit(1)


@app.command(context_settings=PASS_THROUGH)
def synth(context: typer.Context) -> None:
    """Make training data from marked images: the same as python -m data_gen."""
    _run_sibling("data_gen.__main__", context)


@app.command(context_settings=PASS_THROUGH)
def mix(context: typer.Context) -> None:
    """Mix training files with weights: the same as python -m data_gen.mix."""
    _run_sibling("data_gen.mix", context)


@app.command(context_settings=PASS_THROUGH)
def train(context: typer.Context) -> None:
    """Train a model: the same as python -m train."""
    _run_sibling("train.__main__", context)


@app.command("eval", context_settings=PASS_THROUGH)
def evaluate(context: typer.Context) -> None:
    """Measure a model on benchmarks: the same as python -m eval."""
    _run_sibling("eval.__main__", context)


@app.command(
    epilog="Example: llava-som chat llava-hf/llava-1.5-7b-hf --image photo.jpg --intervention '{type: var, rho: 0.5}'"
)
def chat(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub name: ours, llava-hf, LLaVA-1.5 or DocOwl.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image(s) of the first question.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 512,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attn_implementation: Attention = "auto",
    pruning: Pruning = None,
    intervention: Annotated[
        str | None,
        typer.Option(help="Edit attention: var, '{type: var, rho: 0.5}', or a list of these. /table shows the effect."),
    ] = None,
) -> None:
    """Talk to a model about images; the answer appears as it is written."""
    from llava_som.chat import chat as run
    from llava_som.inference import load_assistant

    chosen = None if intervention is None else _yaml("intervention", intervention)
    assistant = load_assistant(model, device, dtype, attn_implementation, _plug_in("pruning", pruning), chosen)
    run(assistant, list(image or []), max_new_tokens)


@app.command(
    epilog="Example: llava-som show som_val/ | llava-som show som_val/ -o page.html | "
    "llava-som show data.json --model outputs/model | llava-som show page.png --tiles --kept | "
    "llava-som show scans/ --tiles --kept --model outputs/model --pruning token_correlation -o figures/ | "
    "llava-som show photo.jpg --attention --model outputs/model --question 'List the tags.' --intervention var"
)
def show(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Data or tagged images (a folder), a data file, a .marks.json; with --tiles, pages; with --attention, "
            "an image."
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="Checkpoint. Of data, print samples as it reads them; of pages, what it sees.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="For a data file: folder of its images.")] = None,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="How many: of a page's records (24), of samples (3).")
    ] = None,
    clean_image: Annotated[Path | None, typer.Option(help="For a sidecar: redraw its marks on this image.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a page (or that image, or a folder) here; serve nothing.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another one lets others look.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8642,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser at it.")] = False,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Draw how pages are cut into tiles; writes a picture.")
    ] = False,
    kept: Annotated[bool, typer.Option("--kept", help="Draw which tokens pruning drops; writes a picture.")] = False,
    pruning: Annotated[
        str | None,
        typer.Option(
            help="With --kept, --attention: a pruner, as for chat. Default: the checkpoint's, or blank_patch."
        ),
    ] = None,
    grids: Annotated[str | None, typer.Option(help="Pages without --model: family of grids (grid_9).")] = None,
    tile_size: Annotated[int | None, typer.Option(help="The same: side of a tile in pixels (448).")] = None,
    patch_size: Annotated[int | None, typer.Option(help="The same: side of a patch in pixels (14).")] = None,
    projector: Annotated[str | None, typer.Option(help="The same: what makes tokens of patches (h_reducer).")] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Draw what an answer attends to; needs --model and --question.")
    ] = False,
    question: Annotated[str | None, typer.Option(help="With --attention: what the model is asked.")] = None,
    intervention: Annotated[
        str | None, typer.Option(help="The same: compare with one, a name or '{type: var, rho: 0.5}'.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="The same: 10-12, or several as 0-3,10-12. Default: early, middle, late.")
    ] = None,
    sink_dims: Annotated[
        str | None,
        typer.Option(help="The same: sink dimensions, 1415,2533, or auto. Default: known ones, or by column."),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="The same: of the answer (128).")] = None,
) -> None:
    """Show a dataset in the browser, what a model is trained on token by token, or the marks of a sidecar.

    With --tiles or --kept: draw page images in the tiles a model reads, veil the tokens that pruning drops, and print
    the numbers. Without --model no weights are needed.

    With --attention: ask about an image, and draw what question and answer attend to, by layer range and token, as a
    page (-o x.html, the default), a picture (.png, .jpg) or a folder of all.
    """
    from llava_som import show as views

    asked = {"intervention": intervention, "layers": layers, "sink_dims": sink_dims, "max_new_tokens": max_new_tokens}
    sizes = {"grids": grids, "tile_size": tile_size, "patch_size": patch_size, "projector": projector}
    sizes = {key: value for key, value in sizes.items() if value is not None}
    if attention:
        _refuse("attention", tiles=tiles or None, kept=kept or None, clean_image=clean_image, image_root=image_root)
        _refuse("attention", count=count, open=open_browser or None, **sizes)
        _show_attention(paths, model, question, pruning, out, asked)
        return
    _refuse("this; add --attention", question=question, **asked)
    if tiles or kept:
        _refuse("a page", image_root=image_root, count=count, clean_image=clean_image, open=open_browser or None)
        files = views.page_files(paths, out)
        views.show_pages(files, _page_reader(model, kept, pruning, sizes), tiles, kept)
        return
    _refuse("data; add --tiles, --kept or both", pruning=pruning, **sizes)
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} paths: only pages may be several; add --tiles, --kept or both.")
    [path] = paths
    if path.name.endswith(".marks.json"):
        views.show_marks(path, clean_image, out)
    elif model is not None:
        _refuse("samples, which are printed", out=out)
        views.show_samples(path, model, image_root, count or 3)
    else:
        views.show_dataset(path, image_root, count or 24, out, host, port, open_browser)


def _show_attention(
    paths: list[Path], model: str | None, question: str | None, pruning: str | None, out: Path | None, asked: Any
) -> None:
    from llava_som import show as views
    from llava_som.attention import build_intervention

    if model is None or question is None:
        raise ValueError("--attention needs a checkpoint and a question: add --model and --question.")
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} paths: attention is drawn of one image at a time.")
    dims = asked.pop("sink_dims")
    if dims is not None and dims != "auto":
        dims = _yaml("sink-dims", f"[{dims}]")
        if not all(isinstance(number, int) for number in dims):
            raise ValueError(f"--sink-dims {dims}: write numbers, such as 1415,2533, or auto.")
    asked["intervention"] = build_intervention(_plug_in("intervention", asked["intervention"]))
    options = {key: value for key, value in {**asked, "sink_dims": dims}.items() if value is not None}
    views.show_attention(paths[0], model, question, _plug_in("pruning", pruning), out, **options)


def _page_reader(model: str | None, kept: bool, pruning: str | None, sizes: dict[str, Any]) -> Any:
    """What makes the token maps of pages, as the options of `show` say."""
    from llava_som.page_readers import ModelReader, PixelReader
    from llava_som.tiling import Tiling

    if not kept:
        _refuse("tiles alone; add --kept", pruning=pruning)
    if model is not None:
        from llava_som.inference import load_assistant

        _refuse("a checkpoint, whose config decides", **sizes)
        return ModelReader(load_assistant(model, pruning=_plug_in("pruning", pruning)), kept)
    options = {key: value for key, value in sizes.items() if key in ("tile_size", "patch_size")}
    if "grids" in sizes:
        options["tiling"] = Tiling.parse({"grids": _yaml("grids", sizes["grids"])})
    if "projector" in sizes:
        options["projector"] = _plug_in("projector", sizes["projector"])
    return PixelReader(pruning=_plug_in("pruning", pruning or "blank_patch") if kept else None, **options)


def _refuse(what: str, **given: Any) -> None:
    """A ValueError for an option that would do nothing."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} does nothing for {what}.")


def _yaml(key: str, text: str) -> Any:
    from llava_som.config_file import read_options

    return read_options([f"{key}={text}"])[key]


def _plug_in(key: str, text: str | None) -> Any:
    """A name, or a mapping with `type` and options; None where nothing is given."""
    if text is None:
        return None
    value = _yaml(key, text)
    if not (isinstance(value, str) or (isinstance(value, dict) and "type" in value)):
        raise ValueError(f"--{key} {text}: write a name, or '{{type: NAME, OPTION: VALUE}}'.")
    return value


@app.command(epilog="Example: llava-som convert liuhaotian/llava-v1.5-7b outputs/llava-7b --to llava")
def convert(
    source: Annotated[str, typer.Argument(help="Folder or hub name: ours, llava-hf, LLaVA-1.5 or DocOwl.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="llava_som, or llava: transformers loads it without us.")] = "llava_som",
    vision_tower: Annotated[str | None, typer.Option(help="Vision encoder of an original LLaVA-1.5, if moved.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the written weights.")] = "bfloat16",
) -> None:
    """Convert a checkpoint between formats; every weight is accounted for."""
    from llava_som.checkpoints import convert_checkpoint

    convert_checkpoint(source, target, to, dtype, vision_tower)
    print(f"{source} -> {target} ({to}, {dtype})")


@app.command(
    epilog="Example: llava-som calibrate llava-hf/llava-1.5-7b-hf held_out.jsonl -o heads/ --layers 10-20 | then "
    "llava-som chat llava-hf/llava-1.5-7b-hf --intervention '{type: act, heads: heads/heads.json}'"
)
def calibrate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub name; also a decoder of text alone.")],
    examples: Annotated[
        Path, typer.Argument(help="JSON lines: prompt or messages (and images), choices, answer, dataset.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of calibration.jsonl and heads.json.")],
    layers: Annotated[str | None, typer.Option(help="Of the heads to try: 2,5,8-12. Default: as in the paper.")] = None,
    beta: Annotated[float, typer.Option(help="Share of their attention that sinks keep.")] = 0.4,
    alpha: Annotated[float, typer.Option(help="A sink gets more than alpha / N of the attention.")] = 5.0,
    threshold: Annotated[float | None, typer.Option(help="A constant instead of alpha / N.")] = None,
    confidence: Annotated[
        float, typer.Option(help="Of a paired bootstrap that a head raises the score; 0: its mean decides.")
    ] = 0.95,
    datasets: Annotated[int, typer.Option(help="At least so many datasets have to gain.")] = 1,
    per_dataset: Annotated[int | None, typer.Option(min=1, help="Draw so many examples of each dataset.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images; default: that of the file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples read at once.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the draw and the bootstrap.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attn_implementation: Attention = "auto",
) -> None:
    """Find the heads that the intervention act should edit in a model: each is tried alone on held-out examples.

    An example is {"messages": [{"role": "user", "content": "<image>Is it red?"}], "image": "a.jpg", "choices":
    ["Yes", "No"], "answer": "Yes"}; with "prompt" in place of messages, a text is read as it stands. The likeliest
    first token counts. Many heads are tried, so some gain by chance: judge the kept ones on other examples.

    A run that was stopped goes on where it was.
    """
    from llava_som.attention.act import ACT
    from llava_som.attention.calibrate import Rule, load_model
    from llava_som.attention.calibrate import calibrate as run
    from llava_som.attention.choices import read_examples
    from llava_som.interrupts import orderly_stop

    numbers = None if layers is None else _numbers("layers", layers)
    act = ACT(beta=beta, alpha=alpha, threshold=threshold, layers=numbers)
    rule = Rule(confidence=confidence, datasets=datasets)
    questions = read_examples(examples, image_root)
    loaded = load_model(model, device, dtype, attn_implementation)
    options: dict[str, Any] = {"per_dataset": per_dataset, "batch_size": batch_size, "seed": seed}
    try:
        with orderly_stop():
            found = run(*loaded, questions, out, act=act, name=model, rule=rule, show_progress=True, **options)
    except KeyboardInterrupt as stop:
        print("Stopped. What was tried is kept; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit((*stop.args, 130)[0]) from None
    print(found.summary())


def _numbers(key: str, text: str) -> list[int]:
    """`2,5,8-12` as numbers."""
    try:
        ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
        return [number for low, *high in ends for number in range(low, (high or [low])[0] + 1)]
    except ValueError:
        raise ValueError(f"--{key} {text}: write numbers and ranges, such as 2,5,8-12.") from None


@app.command(epilog="Example: llava-som doctor")
def doctor() -> None:
    """Say what this machine can run, and the pip line for what is missing."""
    from llava_som.doctor import print_report

    print_report()


def _run_sibling(module: str, context: typer.Context) -> None:
    """Hand all words to the `main` of a module in a sibling package, and its exit status back."""
    raise typer.Exit(importlib.import_module(module).main(context.args) or 0)


def main(argv: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend is printed without a traceback."""
    try:
        app(argv)
    except (ValueError, ImportError, OSError) as error:
        if os.environ.get("LLAVA_SOM_TRACEBACK"):
            raise
        sys.exit(f"error: {error}\n(LLAVA_SOM_TRACEBACK=1 shows where.)")


if __name__ == "__main__":
    main()
