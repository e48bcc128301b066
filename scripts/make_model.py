#!/usr/bin/env python3
"""Make a small llama model with random weights, its tokenizer, and training data.

The data has the format of ``mlx_lm.lora``: texts of random words, of lengths up to the sequence
length.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VOCABULARY = 512


def make_model(folder: Path, *, hidden: int = 128, layers: int = 4, seed: int = 0) -> Path:
    """Write a bf16 llama model and its tokenizer to the new ``folder``. Return the folder."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 3 * hidden,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": max(1, hidden // 64),
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.set_dtype(mx.bfloat16)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    make_tokenizer(folder)
    return folder


def make_preset(folder: Path, name: str) -> Path:
    """Write a preset's model with synthetic 4-bit weights to the new ``folder``. Return it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import make_shards

    from worker import weights
    from worker.protocol.configuration import Configuration
    from worker.protocol.requests import ModelSource
    from your_ai.models import presets

    folder.mkdir(parents=True)
    config = presets.all_presets()[name].config
    model = weights.plan(ModelSource(config), Configuration(quantization_bits=4))
    weights.materialize(model, synthesize=True)
    shards = make_shards(dict(tree_flatten(model.parameters())))
    for number, shard in enumerate(shards, start=1):
        file = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        mx.save_safetensors(str(file), shard, {"format": "mlx"})
    stored = {**config, "quantization": {"bits": 4, "group_size": 64}}
    (folder / "config.json").write_text(json.dumps(stored))
    make_tokenizer(folder)
    return folder


def quantize(folder: Path, target: Path, bits: int) -> Path:
    """Quantize the model in ``folder`` with ``mlx_lm.convert``. Return the folder ``target``."""
    options = ["--hf-path", str(folder), "--mlx-path", str(target), "-q", "--q-bits", str(bits)]
    subprocess.run(
        [sys.executable, "-m", "mlx_lm", "convert", *options], check=True, stdout=sys.stderr
    )
    return target


def make_text(
    folder: Path, *, longest: int, shortest: int = 8, valid: int = 8, seed: int = 0
) -> Path:
    """Write training, validation and test sets to the new ``folder``. Return the folder.

    Each text has between ``shortest`` and ``longest`` tokens.
    """
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for name, count in (("train", 100), ("valid", valid), ("test", 8)):
        # The last two have full length, so that there is a batch with no shorter text.
        lengths = [draw.randint(shortest, longest) for _ in range(count - 2)] + [longest, longest]
        write_text(folder / f"{name}.jsonl", draw, lengths)
    return folder


def write_text(file: Path, draw: random.Random, lengths: Sequence[int]) -> None:
    """Write texts of these lengths to the new ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": _words(draw, length)}) for length in lengths)
    file.write_text("\n".join(lines) + "\n")


def _words(draw: random.Random, count: int) -> str:
    return " ".join(f"w{draw.randrange(2, VOCABULARY)}" for _ in range(count))


def make_tokenizer(folder: Path) -> None:
    """Write a tokenizer with one token per word: ``w2`` to ``w511``, unknown word, end of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "</s>", *(f"w{index}" for index in range(2, VOCABULARY))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "eos_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder in which to create model/ and data/")
    parser.add_argument(
        "--seq-length", type=int, default=256, help="tokens in the longest text [default: 256]"
    )
    arguments = parser.parse_args()
    print(make_model(arguments.folder / "model"))
    print(make_text(arguments.folder / "data", longest=arguments.seq_length))
