"""What both examples train: text that every Python brings along, and a model that a laptop trains in seconds."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig

CONTEXT = 64


def domains() -> dict[str, np.ndarray]:
    """Domain -> its bytes: the standard library's source, prose of installed packages' metadata, and numbers at random."""
    code = b"\n".join(path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60])
    packages = sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info/METADATA"))[:60]
    prose = b"\n".join(path.read_bytes().partition(b"\n\n")[2] for path in packages)
    noise = np.random.default_rng(0).integers(48, 58, 100_000, dtype=np.uint8)
    return {"code": np.frombuffer(code, np.uint8), "prose": np.frombuffer(prose, np.uint8), "digits": noise}


def draw(text: dict[str, np.ndarray], counts_K: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """(sum of counts, CONTEXT + 1) tokens: so many sequences of each domain, domains in order."""
    rows = [
        tokens[start : start + CONTEXT + 1]
        for tokens, count in zip(text.values(), counts_K, strict=True)
        for start in rng.integers(0, len(tokens) - CONTEXT - 1, count)
    ]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def small_model() -> torch.nn.Module:
    config = GPTNeoXConfig(
        vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
        max_position_embeddings=CONTEXT, use_cache=False,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)
