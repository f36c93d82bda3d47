"""Padded batches go in, the speed of transformers' Trainer on MarianMT of the same sizes comes out."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from common import serve
from transformers import MarianConfig, MarianMTModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

model: MarianMTModel
batches: list[dict[str, torch.Tensor]]
arguments: dict[str, Any]


def load(sizes: dict[str, Any], path: str, threads: int, precision: str) -> None:
    global model, batches, arguments
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pad, start = sizes["pad_id"], sizes["start_id"]
    config = MarianConfig(
        vocab_size=sizes["vocab_size"], d_model=sizes["d_model"], max_position_embeddings=sizes["max_len"],
        encoder_layers=sizes["n_layers"], decoder_layers=sizes["n_decoder_layers"],
        encoder_ffn_dim=sizes["d_ff"], decoder_ffn_dim=sizes["decoder_d_ff"],
        encoder_attention_heads=sizes["n_heads"], decoder_attention_heads=sizes["n_decoder_heads"],
        activation_function=sizes["activation"], scale_embedding=sizes["scaled"], dropout=sizes["dropout"],
        attention_dropout=sizes["attention_dropout"], activation_dropout=sizes["activation_dropout"],
        pad_token_id=pad, eos_token_id=sizes["eos_id"], decoder_start_token_id=start, use_cache=False,
    )  # fmt: skip
    model = MarianMTModel(config)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    batches = []
    for i in range(len(arrays) // 2):
        source, target = arrays[f"source{i}"], arrays[f"target{i}"]
        before = torch.cat((target.new_full((len(target), 1), start), target[:, :-1]), 1)
        labels = target.masked_fill(target == pad, -100)
        mask = (source != pad).long()
        batches.append({"input_ids": source, "attention_mask": mask, "decoder_input_ids": before, "labels": labels})
    arguments = {
        "use_cpu": True, "bf16": precision == "bf16", "per_device_train_batch_size": 1, "learning_rate": 1e-4,
        "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "adam_beta2": 0.98, "label_smoothing_factor": 0.1,
        "train_sampling_strategy": "sequential", "report_to": "none", "save_strategy": "no", "logging_strategy": "no",
        "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


class Stopwatch(TrainerCallback):
    """The moments at which the first step began and the last one ended: setting up and tearing down are not timed."""

    begun = ended = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.begun = self.begun or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ended = time.perf_counter()


def learn(count: int) -> dict[str, float]:
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, max_steps=count, **arguments),
            train_dataset=batches[:count],  # pyright: ignore[reportArgumentType]
            data_collator=lambda items: items[0],
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        loss = trainer.train().training_loss
    return {"seconds": watch.ended - watch.begun, "loss": loss}


if __name__ == "__main__":
    serve({"load": load, "learn": learn})
