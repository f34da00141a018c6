"""HF Trainer with a learning rate for projector and compressor, quiet frozen parts, length groups and a NaN stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.data import Dataset, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from llava_som import LlavaSomForConditionalGeneration
from llava_som.data.dataset import IGNORE_INDEX, ConversationDataset
from train.stages import quiet_frozen_parts


class SomTrainer(Trainer):
    """Trains a LlavaSom model on a `ConversationDataset`.

    Args:
        projector_learning_rate: of projector and compressor, when it is not that of the rest.
        **options: those of `transformers.Trainer`.
    """

    model: LlavaSomForConditionalGeneration
    train_dataset: ConversationDataset

    def __init__(self, *, projector_learning_rate: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.projector_learning_rate = projector_learning_rate
        self._trained_tokens: torch.Tensor | int = 0  # tensors stay on the device until they are logged
        self._all_tokens: torch.Tensor | int = 0
        self._waited = 0.0
        self._last_log = time.perf_counter()

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Optimizer:
        """The Trainer's optimizer; projector and compressor have groups of their own for a learning rate of theirs."""
        optimizer = super().create_optimizer(model)
        if self.projector_learning_rate is None:
            return optimizer
        parts = (self.model.multi_modal_projector, self.model.compressor)
        projector = {id(parameter) for part in parts for parameter in part.parameters()}
        for group in list(optimizer.param_groups):
            own = [parameter for parameter in group["params"] if id(parameter) in projector]
            if own:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in projector]
                optimizer.add_param_group({**group, "params": own, "lr": self.projector_learning_rate})
        return optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's loss.

        Raises:
            ValueError: it is not finite; the message names the samples of the batch.
        """
        sample_ids = inputs.pop("sample_ids")
        quiet_frozen_parts(self.model)
        self._trained_tokens += (inputs["labels"] != IGNORE_INDEX).sum()
        self._all_tokens += inputs["attention_mask"].sum()
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss is {loss.item()} at step {self.state.global_step} on rank {self.args.process_index}, "
                f"samples {', '.join(sample_ids)}. Look at these samples; a lower learning_rate, bf16 instead of fp16 "
                "and max_grad_norm are the usual remedies."
            )
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The next batches; the wait for them is measured."""
        start = time.perf_counter()
        batches = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._waited += time.perf_counter() - start
        return batches

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add this rank's share of tokens that are trained and share of time spent waiting for data."""
        if "loss" in logs and self._all_tokens:
            now = time.perf_counter()
            logs["trained_token_share"] = round(float(self._trained_tokens / self._all_tokens), 4)
            logs["data_wait_share"] = round(self._waited / (now - self._last_log), 4)
            self._trained_tokens, self._all_tokens, self._waited, self._last_log = 0, 0, 0.0, now
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Group by estimated length: the Trainer would open every image to learn the real ones."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(batch_size, lengths=self.train_dataset.estimated_lengths())
