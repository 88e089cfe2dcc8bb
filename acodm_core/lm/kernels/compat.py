"""What the trainer uses of torch and transformers that they do not promise to keep: here, and in no other module of ``lm``.

Each stands here because no public interface does it, or none as fast. tests/unit/lm/test_compat.py names each one and fails where a
new version lacks it; pyproject.toml bounds both libraries to the versions that were tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig

# Tensors made inside have a device and a shape and hold no numbers. On torch's public meta device attention would be computed,
# and counted, by another kernel than the CPU's.
WithoutNumbers = FakeTensorMode
# The kernels that torch's public scaled_dot_product_attention takes on a CPU; its FLOP counter knows those of GPUs alone.
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
CPU_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def softmax_backward(by_weights: Tensor, weights: Tensor) -> Tensor:
    """The gradient by the logits of ``weights``, a softmax over the last dimension, from the gradient by the weights.

    By hand it is ``weights * (by_weights - (by_weights * weights).sum(-1, True))``: four passes where this kernel makes one.
    """
    return torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)


def attention_of(config: PretrainedConfig) -> str:
    """The name of the attention that a model of this config uses now; transformers has a public way to set it alone."""
    return config._attn_implementation


def repeated_layers(model: torch.nn.Module) -> frozenset[str]:
    """Class names of the layers that a transformers model repeats, which its author says belong together; empty if unknown."""
    return frozenset(getattr(model, "_no_split_modules", None) or ())


def is_watched(module: torch.nn.Module) -> bool:
    """Whether something hangs on the module's forward pass and must see its real input and output."""
    return bool("forward" in vars(module) or module._forward_hooks)


@contextmanager
def in_place_of_forward(module: torch.nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Have calls of ``module`` run ``forward`` inside. A hook sees the output and cannot keep it from being computed.

    The module keeps its class, name and parameters, so that wrappers (DDP, FSDP) do their part around the call.
    """
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
