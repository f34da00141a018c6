import json
import subprocess
import sys
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

import llava_som
from llava_som import cli
from llava_som.chat import Chat
from llava_som.doctor import examine
from llava_som.inference import Assistant, answer
from llava_som.marks import Region, mark_image
from tests.tiny import drawn_image, tiny_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    for part in tiny_model():
        part.save_pretrained(folder)
    return folder


def run(capsys, *words):
    """Exit status and everything printed by one command."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    code = end.value.code
    return (1, f"{printed.out}{code}") if isinstance(code, str) else (code or 0, printed.out + printed.err)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["synth", "--help"], ["train", "--help"], ["eval", "--help"], ["mix", "--help"], ["show", "--help"]],
)
def test_help_imports_no_framework(words):
    heavy = ["torch", "transformers", "datasets", "lmms_eval", "cv2", "skimage", "deepspeed"]
    program = (
        "import sys\nfrom llava_som.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example" in done.stdout.lower() or words == ["--help"]


def test_importing_the_package_imports_nothing_heavy():
    program = "import sys, llava_som; sys.exit(sum(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_tag_writes_the_image_and_its_sidecar(tmp_path, capsys):
    photo = tmp_path / "photo.png"
    drawn_image(1, (640, 640)).save(photo)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"photo.png": [{"bbox": [50, 60, 200, 100], "name": "cup"}]}))
    code, text = run(capsys, "tag", photo, "-o", tmp_path / "out", "--source", "boxes", "--annotations", boxes)
    assert (code, "1 image(s) tagged with 1 marks" in text) == (0, True), text
    marks = json.loads((tmp_path / "out" / "photo.marks.json").read_text())["marks"]
    assert [mark["category"] for mark in marks] == ["cup"]
    assert Image.open(tmp_path / "out" / "photo.png").size == (640, 640)


def test_tag_takes_every_option_as_key_value_too(tmp_path, capsys):
    drawn_image(1, (640, 640)).save(tmp_path / "photo.png")
    code, text = run(capsys, "tag", tmp_path / "photo.png", "-o", tmp_path / "out", "preset=ui", "seed=3", "workers=2")
    assert code == 0, text
    record = json.loads((tmp_path / "out" / "photo.marks.json").read_text())
    assert (record["preset"]["name"], record["seed"]) == ("ui", 3)
    for word, message in [("images=x", "is no option here"), ("out=x", "-o OUT"), ("draw=mark", "Unknown option")]:
        code, text = run(capsys, "tag", tmp_path / "photo.png", "-o", tmp_path / "out", word)
        assert (code, message in text) == (1, True), text


def test_errors_are_one_line_and_status_1(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"broken")
    code, text = run(capsys, "tag", tmp_path / "photos", "-o", tmp_path / "out")
    assert (code, "1 rejected: unusable image" in text) == (1, True), text  # nothing was tagged
    drawn_image(1, (64, 64)).save(tmp_path / "photo.png")
    (tmp_path / "file").write_text("no folder")
    code, text = run(capsys, "tag", tmp_path / "photo.png", "-o", tmp_path / "file" / "out")
    assert (code, "error: " in text) == (1, True), text
    code, text = run(capsys, "tag", tmp_path / "absent.png", "-o", tmp_path, "--source", "classicl")
    assert code == 1
    assert "Did you mean 'classical'?" in text
    assert "Traceback" not in text


def test_exit_status_of_a_sibling_is_passed_on(capsys):
    code, text = run(capsys, "synth", "source=scenes", "ouut=x")
    assert (code, "Did you mean 'out'?" in text) == (2, True), text


def test_version_and_where_to_read_on(capsys):
    assert run(capsys, "--version") == (0, f"llava-som {llava_som.__version__}\n")
    assert "llava-som synth --help" in run(capsys, "tag", "--help")[1]
    for command in ("tag", "chat", "show", "convert", "doctor"):
        assert "Example: llava-som" in run(capsys, command, "--help")[1]


def test_the_names_at_the_top_are_what_they_say():
    assert llava_som.Region is Region and llava_som.mark_image is mark_image
    assert set(dir(llava_som)) == {"__version__", *llava_som._EXPORTS}


def test_convert_to_plain_llava(model_folder, tmp_path, capsys):
    code, _ = run(capsys, "convert", model_folder, tmp_path / "plain", "--to", "llava", "--dtype", "float32")
    assert code == 0
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["model_type"] == "llava"
    question = {"image": drawn_image(1), "question": "What is 1?", "max_new_tokens": 6}
    assert answer(**question, model=tmp_path / "plain") == answer(**question, model=model_folder)
    code, text = run(capsys, "convert", model_folder, tmp_path / "x", "--to", "lava")
    assert (code, "Did you mean 'llava'?" in text) == (1, True)


def test_show_prints_what_would_be_trained(model_folder, tmp_path, capsys):
    drawn_image(1).save(tmp_path / "a.png")
    turns = [{"from": "human", "value": "<image>\nWhat is 1?"}, {"from": "gpt", "value": "A red circle."}]
    (tmp_path / "data.json").write_text(json.dumps([{"id": "a", "image": "a.png", "conversations": turns}]))
    code, text = run(capsys, "show", tmp_path / "data.json", "--model", model_folder)
    assert code == 0
    assert "[16 image tokens]" in text
    assert "A red circle.</s>" in text
    code, text = run(capsys, "show", tmp_path / "data.json", "--model", model_folder, "-o", tmp_path / "samples.html")
    assert code and "--out does nothing for samples" in text
    code, _ = run(capsys, "show", tmp_path / "data.json", "-o", tmp_path / "page.html")
    assert (code, (tmp_path / "page.html").exists()) == (0, True)


def test_show_lists_the_marks_of_a_sidecar_and_draws_them_again(tmp_path, capsys):
    photo = drawn_image(1, (640, 640))
    marked = mark_image(
        photo, [Region.from_box((100, 100, 200, 200), photo.size, name="cup [/red]")]
    )  # not rich's markup
    marked.record.save(tmp_path / "p.marks.json")
    photo.save(tmp_path / "p.png")
    code, text = run(
        capsys, "show", tmp_path / "p.marks.json", "--clean-image", tmp_path / "p.png", "-o", tmp_path / "again.png"
    )
    assert code == 0
    assert "cup [/red]" in text
    marked.save(tmp_path / "first.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "first.png").read_bytes()


def test_doctor_gives_the_pip_line_of_what_is_missing(monkeypatch):
    findings = {finding.topic: finding for finding in examine()}
    assert findings["torch"].fix == ""
    assert findings["attention sdpa"].found.startswith("usable")
    monkeypatch.setattr("llava_som.doctor.importlib.util.find_spec", lambda name: None)
    findings = {finding.topic: finding for finding in examine()}
    assert findings["lmms-eval"].fix == "pip install 'llava_som[eval]'"


def test_chat_remembers_the_conversation_and_survives_a_bad_image(tmp_path):
    output = StringIO()
    session = Chat(Assistant(*tiny_model()), max_new_tokens=4, console=Console(file=output))
    drawn_image(1).save(tmp_path / "a.png")
    assert session.handle("/image nowhere.png")
    assert "no such file" in output.getvalue()
    assert session.handle(f"/image {tmp_path / 'a.png'}")
    assert session.handle("What is 1?")
    assert [part["type"] for part in session.messages[0]["content"]] == ["image", "text"]
    assert session.handle("And 2?")
    assert [message["role"] for message in session.messages] == ["user", "assistant"] * 2
    assert session.waiting == []
    assert session.handle("/reset")
    assert session.messages == []
    assert not session.handle("/quit")


def test_chat_takes_a_name_options_or_a_list_of_interventions(model_folder, capsys, monkeypatch):
    def leave(*_):
        raise EOFError

    monkeypatch.setattr("builtins.input", leave)
    act = "{type: act, layers: [0, 1]}"
    assert "With ACT." in run(capsys, "chat", model_folder, "--device", "cpu", "--intervention", act)[1]
    code, text = run(
        capsys,
        "chat",
        model_folder,
        "--device",
        "cpu",
        "--intervention",
        f"[{act}, {{type: var, tau_rel: 0.2, sink_dims: [3]}}]",
    )
    assert (code, "With ACT + VAR." in text) == (0, True), text
    for wrong, message in [
        ("vra", "Did you mean 'var'"),
        ("{type: var, roh: 1}", "Did you mean 'rho'"),
        ("3", "no type"),
    ]:
        code, text = run(capsys, "chat", model_folder, "--intervention", wrong)
        assert (code, message in text) == (1, True), text
