"""What is used of the libraries' private interfaces: each is there, does what it stands for, and is used in one place alone."""

from __future__ import annotations

import ast
import logging
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import nn

from acodm_core.lm.kernels import attention, compat
from acodm_core.lm.model import build_model

ROOT = Path(__file__).parents[3]
HOLDERS = {"acodm_core/lm/kernels/compat.py", "acodm_core/downstream/compat.py"}
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

# Library, where its private name is found, the name.
USED = [
    ("torch", "torch", "_softmax_backward_data"),
    ("torch", "torch._subclasses.fake_tensor", "FakeTensorMode"),
    ("torch", "torch.ops.aten", "_scaled_dot_product_flash_attention_for_cpu"),
    ("torch", "torch.ops.aten", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    ("transformers", "transformers.GPTNeoXConfig()", "_attn_implementation"),
    ("transformers", "transformers.GPTNeoXForCausalLM", "_no_split_modules"),
    ("torch", "torch.nn.Identity()", "_forward_hooks"),
    ("lm-eval", "lm_eval.models.huggingface.HFLM", "_encode_pair"),
    ("lm-eval", "lm_eval.models.huggingface.HFLM", "_loglikelihood_tokens"),
    ("lm-eval", "lm_eval.api.task", "tqdm"),
    ("lm-eval", "lm_eval.utils.env", "from_string"),
]


def found(where: str) -> object:
    """What a dotted name stands for; an instance of it where the name ends in ()."""
    thing = pkgutil.resolve_name(where.removesuffix("()"))
    return thing() if where.endswith("()") else thing


@pytest.mark.parametrize(("library", "where", "name"), USED)
def test_a_private_name_is_still_there(library: str, where: str, name: str) -> None:
    assert hasattr(found(where), name), (
        f"{library} {version(library)} has no {where}.{name}: mend compat.py, or bound {library} in pyproject.toml"
    )


def test_the_gradient_through_a_softmax_is_autograds() -> None:
    logits, by_weights = torch.randn(2, 3, 5, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 3, 5, 5)
    weights = logits.softmax(-1)
    weights.backward(by_weights.double())
    assert torch.allclose(compat.softmax_backward(by_weights.double(), weights.detach()), logits.grad)


def test_a_models_attention_and_layers_are_named() -> None:
    model = build_model({"model_type": "gpt_neox", **SHAPE}, vocab_size=32, context=8, seed=0)
    assert compat.attention_of(model.config) == attention.NAME
    model.set_attn_implementation("sdpa")
    assert compat.attention_of(model.config) == "sdpa"
    repeated = [module for module in model.modules() if type(module).__name__ in compat.repeated_layers(model)]
    assert len(repeated) == SHAPE["num_hidden_layers"]
    assert compat.repeated_layers(nn.Linear(1, 1)) == frozenset()


def test_tensors_without_numbers_take_no_memory_and_know_the_cpus_attention() -> None:
    with compat.WithoutNumbers():
        huge = torch.empty(1 << 40)
        q = torch.empty(1, 1, 8, 4, requires_grad=True)
        out = nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    assert (huge.device.type, huge.numel()) == ("cpu", 1 << 40)
    assert "FlashAttentionForCpu" in type(out.grad_fn).__name__


def test_a_forward_is_replaced_for_a_while_and_seen_to_be() -> None:
    layer = nn.Linear(2, 2)
    plain = layer(torch.ones(2))
    with compat.in_place_of_forward(layer, lambda x: x + 1):
        assert compat.is_watched(layer)
        with compat.in_place_of_forward(layer, lambda x: x + 2):
            assert layer(torch.ones(2)).tolist() == [3, 3]
        assert layer(torch.ones(2)).tolist() == [2, 2]
    assert layer(torch.ones(2)).equal(plain) and not compat.is_watched(layer)
    with pytest.raises(ZeroDivisionError), compat.in_place_of_forward(layer, lambda x: 1 / 0):
        layer(torch.ones(2))
    assert layer(torch.ones(2)).equal(plain)
    handle = layer.register_forward_hook(lambda *_: None)
    assert compat.is_watched(layer)
    handle.remove()
    assert not compat.is_watched(layer)


def test_lm_eval_is_calm_for_a_while_and_then_itself_again() -> None:
    import lm_eval.api.task
    from lm_eval.utils import env

    from acodm_core.downstream import harness  # importing it changes nothing
    from acodm_core.downstream.compat import calmed

    assert issubclass(harness.Model, lm_eval.models.huggingface.HFLM)
    logger, made = logging.getLogger("lm_eval"), lm_eval.api.task.tqdm
    level, text = logger.level, "{{ question }}?"
    assert env.from_string(text) is not env.from_string(text)
    with calmed():
        assert lm_eval.api.task.tqdm(range(1)).disable
        assert logger.level == logging.ERROR
        assert env.from_string(text) is env.from_string(text)
    assert (lm_eval.api.task.tqdm, logger.level) == (made, level)
    assert env.from_string(text) is not env.from_string(text)


# -- nowhere else ------------------------------------------------------------------------------------------------------

PUBLIC = {"_replace", "_fields", "_asdict", "_exit", "_base_executable"}  # of named tuples and of Python itself


THEIRS = {name for *_, name in USED if name.startswith("_")}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_value_"  # an enum's, and documented


def is_ours_or_pythons(node: ast.Import | ast.ImportFrom) -> bool:
    top = (getattr(node, "module", None) or node.names[0].name).partition(".")[0]
    return bool(getattr(node, "level", 0)) or top.startswith("acodm_") or top in sys.stdlib_module_names


def sources() -> list[Path]:
    folders = ("acodm_core", "baselines", "analysis", "benchmarks", "workflow")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def own_names(trees: list[ast.AST]) -> set[str]:
    """What our own code defines: functions, classes, variables, attributes of ``self``, arguments."""
    found = set(PUBLIC)
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.arg(arg=name):
                found.add(name)
    return found


def trespasses(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Private names of others, and what is put in the place of others' functions."""
    imported = set()
    for node in (nodes := [*ast.walk(tree)]):
        if isinstance(node, ast.Import | ast.ImportFrom) and not is_ours_or_pythons(node):
            imported |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            names = [getattr(node, "module", ""), *(alias.name for alias in node.names)]
            if any(map(is_private, ".".join(names).split("."))):
                yield ast.unparse(node)
        match node:
            case ast.FunctionDef(name=name) if name in THEIRS:
                yield f"def {name} (in a library's place)"
            case ast.Attribute(attr=name) if is_private(name) and name not in own:
                yield ast.unparse(node)
            case ast.Attribute(attr="__class__" | "forward" as name, ctx=ast.Store() | ast.Del()):
                yield f"{ast.unparse(node)} = (in another's place)"
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(str(name)), *_]
            ) if is_private(name) and name not in own:
                yield ast.unparse(node)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in imported:
                yield f"{ast.unparse(node)} = (in a library's place)"


def test_private_names_stand_in_one_place() -> None:
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in sources()}
    own = own_names([*trees.values()])
    found = {path: [*trespasses(tree, own)] for path, tree in trees.items() if path not in HOLDERS}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import torch\ntorch._foreach_norm([])",
        "import numpy as np\nnp._core.multiarray.scalar",
        "from torch._subclasses.fake_tensor import FakeTensorMode",
        "import torch._dynamo",
        "from torch import _foreach_sub",
        "module.__class__ = Other",
        "head.forward = mine",
        "del head.forward",
        "getattr(model, '_no_split_modules', None)",
        "import lm_eval.api.task\nlm_eval.api.task.tqdm = quiet",
        "from lm_eval.utils import env\nenv.from_string = cached",
        "config._attn_implementation",
        "class Model(HFLM):\n    def _encode_pair(self, context, continuation): pass",
    ],
)
def test_a_private_name_elsewhere_is_noticed(line: str) -> None:
    assert [*trespasses(ast.parse(line), set(PUBLIC))]
    assert not [*trespasses(ast.parse("self._mine = 1\ndef _f(): return self._mine\nx._f()"), {"_mine", "_f"})]
