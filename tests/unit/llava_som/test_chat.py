import io

import pytest
from rich.console import Console

from llava_som.chat import Chat, chat
from llava_som.images import ImageError
from llava_som.inference import Assistant
from tests.decoders import tiny
from tests.tiny import drawn_image, tiny_model


def test_a_question_the_model_cannot_take_leaves_the_conversation_and_its_images_as_they_were(tmp_path):
    drawn_image(1).save(tmp_path / "photo.png")
    console = Console(file=io.StringIO(), width=200)
    session = Chat(Assistant(*tiny_model()), max_new_tokens=2, console=console)
    session.add_image(tmp_path / "photo.png")
    assert session.handle("What does <image> mean?")
    assert "2 <image> tokens" in console.file.getvalue()
    assert (len(session.messages), len(session.waiting)) == (0, 1)
    assert session.handle("What is this?")
    assert (len(session.messages), len(session.waiting)) == (2, 0)


def test_an_image_that_cannot_be_read_ends_the_command_but_not_a_conversation(tmp_path):
    assistant, console = Assistant(*tiny_model()), Console(file=io.StringIO(), width=200)
    with pytest.raises(ImageError, match="gone"):
        chat(assistant, [tmp_path / "gone.png"], max_new_tokens=2)
    session = Chat(assistant, max_new_tokens=2, console=console)
    assert session.handle(f"/image {tmp_path / 'gone.png'}")
    assert "gone.png" in console.file.getvalue() and not session.waiting


@pytest.mark.filterwarnings("default::UserWarning")
def test_an_intervention_that_does_nothing_is_said_once_and_its_table_is_shown_on_request(tmp_path):
    drawn_image(1).save(tmp_path / "photo.png")
    console = Console(file=io.StringIO(), width=60)
    var = {"type": "var", "sink_dims": [3, 11, 17], "tau_rel": 0.25, "rho": 0.2, "image_mass": 0.05}
    session = Chat(Assistant(tiny("ours"), tiny_model()[1], var), max_new_tokens=2, console=console)

    def said_by(line):
        console.file.seek(0)
        console.file.truncate()
        assert session.handle(line)
        return " ".join(console.file.getvalue().split())

    assert said_by("/table") == "Nothing was asked yet."
    assert "VAR changed nothing: there was no image in the prompt" in said_by("Hello?")
    assert said_by("Hello again?") == ""
    session.add_image(tmp_path / "photo.png")
    assert said_by("What is this?") == ""
    assert said_by("/table").startswith("intervention layer rows x heads changed moved in these")
    session.assistant = Assistant(session.assistant.model, session.assistant.processor)
    assert "--intervention NAME" in said_by("/table")
