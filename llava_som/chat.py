"""A conversation in the terminal: text, images by command, answers as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TextStreamer

from llava_som.images import ImageError, open_image
from llava_som.inference import Assistant

HELP = """/image FILE   put an image before the next question (again for more images)
/reset        forget the conversation
/help         this
/quit         leave (so does Ctrl-D)"""


class Chat:
    """The state of one conversation: its messages, and the images waiting for the next question."""

    def __init__(self, assistant: Assistant, max_new_tokens: int, console: Console) -> None:
        self.assistant = assistant
        self.max_new_tokens = max_new_tokens
        self.console = console
        self.messages: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []

    def add_image(self, file: str | Path) -> None:
        """Load an image for the next question; an ImageError for a file that cannot be read."""
        image = open_image(file)
        self.waiting.append({"type": "image", "image": image})
        self.console.print(f"{file}: {image.width} x {image.height}, goes with the next question.", style="dim")

    def ask(self, question: str) -> str:
        """Put the question with its images, print the answer while it is generated, remember both."""
        content = [*self.waiting, {"type": "text", "text": question}]
        messages = [*self.messages, {"role": "user", "content": content}]
        tokenizer: Any = self.assistant.processor.tokenizer
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        answer = self.assistant.answer([messages], self.max_new_tokens, streamer=streamer)[0]
        self.messages = [*messages, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        self.waiting = []
        return answer

    def reset(self) -> None:
        """Forget the conversation and the waiting images."""
        self.messages, self.waiting = [], []

    def handle(self, line: str) -> bool:
        """One line of input; False ends the conversation."""
        command, _, argument = line.strip().partition(" ")
        match command:
            case "":
                pass
            case "/quit" | "/exit":
                return False
            case "/image":
                self._add_or_complain(Path(argument.strip()).expanduser())
            case "/reset":
                self.reset()
            case _ if command.startswith("/"):
                self.console.print(HELP, style="dim")
            case _:
                self._ask_or_complain(line.strip())
        return True

    def _add_or_complain(self, file: Path) -> None:
        """A file that cannot be read is reported and changes nothing."""
        try:
            self.add_image(file)
        except ImageError as error:
            self._complain(error)

    def _ask_or_complain(self, question: str) -> None:
        """A question the model cannot take, such as one that spells out `<image>`, does not end the conversation."""
        try:
            self.ask(question)
        except ValueError as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self.console.print(str(error), style="red", markup=False)


def chat(assistant: Assistant, images: list[Path], max_new_tokens: int) -> None:
    """Read lines until the user leaves.

    Raises:
        ImageError: one of `images` cannot be read; an answer without it would be another question's.
    """
    console = Console()
    session = Chat(assistant, max_new_tokens, console)
    console.print(HELP, style="dim")
    for file in images:
        session.add_image(file)
    try:
        while session.handle(console.input("[bold]> [/bold]")):
            pass
    except (EOFError, KeyboardInterrupt):
        console.print()
