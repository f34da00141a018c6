import io

from rich.console import Console

from llava_som.chat import Chat
from llava_som.inference import Assistant
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
