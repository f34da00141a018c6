"""A conversation in the terminal: text, images by command, answers as they are written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TextStreamer

from llava_som.images import ImageError, open_image
from llava_som.inference import Assistant

HELP = """/image FILE   put an image before the next question (again for more images)
/reset        forget the conversation
/table        what the intervention did in the last answer, by layer
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
        self._said: set[str] = set()

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
        with warnings.catch_warnings(record=True) as caught:
            answer = self.assistant.answer([messages], self.max_new_tokens, streamer=streamer)[0]
        self._say_once(caught)
        self.messages = [*messages, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        self.waiting = []
        return answer

    def reset(self) -> None:
        """Forget the conversation and the waiting images."""
        self.messages, self.waiting = [], []

    def show_table(self) -> None:
        """Print what the intervention did in the last answer."""
        if self.assistant.intervention is None:
            self._note("No intervention is on. Start chat with --intervention NAME for one.")
        elif self.assistant.run is None:
            self._note("Nothing was asked yet.")
        else:
            self._note(self.assistant.run.table())

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
            case "/table":
                self.show_table()
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

    def _say_once(self, caught: list[warnings.WarningMessage]) -> None:
        """Warnings after the answer instead of in its middle, each once in a conversation."""
        for message in dict.fromkeys(str(warning.message) for warning in caught):
            if message not in self._said:
                self._said.add(message)
                self.console.print(message, style="yellow", markup=False, highlight=False)

    def _note(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)  # columns stay columns

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
    if (intervention := assistant.intervention) is not None:
        console.print(f"With {intervention.name}.", style="dim", markup=False)  # type: ignore[union-attr]
    for file in images:
        session.add_image(file)
    try:
        while session.handle(console.input("[bold]> [/bold]")):
            pass
    except (EOFError, KeyboardInterrupt):
        console.print()
