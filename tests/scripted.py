"""A double for the model, nothing else: an lmms-eval chat model that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms


def scripted_model(reply: Callable[[dict[str, Any], int], str]) -> lmms:
    """It answers `reply(document, its number)`."""
    from lmms_eval.api.model import lmms

    class Scripted(lmms):
        is_simple = False

        def generate_until(self, requests):
            asked = [request.args[-3:] for request in requests]
            return [reply(self.task_dict[task][split][number], number) for number, task, split in asked]

        def generate_until_multi_round(self, requests):
            raise NotImplementedError

        loglikelihood = generate_until_multi_round

    return Scripted()
