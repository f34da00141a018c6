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


@app.command(epilog="Example: llava-som chat llava-hf/llava-1.5-7b-hf --image photo.jpg")
def chat(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub name: ours, llava-hf, LLaVA-1.5 or DocOwl.")],
    image: Annotated[list[Path] | None, typer.Option(help="Image(s) of the first question.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 512,
    device: Device = "auto",
    dtype: Dtype = "auto",
    attn_implementation: Attention = "auto",
    pruning: Pruning = None,
) -> None:
    """Talk to a model about images; the answer appears as it is written."""
    from llava_som.chat import chat as run
    from llava_som.inference import load_assistant

    assistant = load_assistant(model, device, dtype, attn_implementation, _plug_in("pruning", pruning))
    run(assistant, list(image or []), max_new_tokens)


@app.command(
    epilog="Example: llava-som show som_val/ | llava-som show som_val/ -o page.html | "
    "llava-som show data.json --model outputs/model | llava-som show page.png --tiles --kept | "
    "llava-som show scans/ --tiles --kept --model outputs/model --pruning token_correlation -o figures/"
)
def show(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Data or tagged images (a folder), a data file, a .marks.json; with --tiles, pages."),
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
        typer.Option(help="With --kept: a pruner, as for chat. Default: the checkpoint's, or blank_patch."),
    ] = None,
    grids: Annotated[str | None, typer.Option(help="Pages without --model: family of grids (grid_9).")] = None,
    tile_size: Annotated[int | None, typer.Option(help="The same: side of a tile in pixels (448).")] = None,
    patch_size: Annotated[int | None, typer.Option(help="The same: side of a patch in pixels (14).")] = None,
    projector: Annotated[str | None, typer.Option(help="The same: what makes tokens of patches (h_reducer).")] = None,
) -> None:
    """Show a dataset in the browser, what a model is trained on token by token, or the marks of a sidecar.

    With --tiles or --kept: draw page images in the tiles a model reads, veil the tokens that pruning drops, and print
    the numbers. Without --model no weights are needed.
    """
    from llava_som import show as views

    sizes = {"grids": grids, "tile_size": tile_size, "patch_size": patch_size, "projector": projector}
    sizes = {key: value for key, value in sizes.items() if value is not None}
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
