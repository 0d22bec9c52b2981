"""`depthwise.accelerate` on PyTorch modules: what is replaced, folded and left, and that all else stays."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from depthwise.accelerate import accelerate
from depthwise.activations import Activation
from depthwise.replacements import Replacement
from depthwise.torch import DepthwiseConv2d
from tests.torch.tensors import draw


class Block(nn.Module):  # type: ignore[misc]
    """An inverted residual, as networks have them."""

    def __init__(self, channels: int = 8, activation: Any = nn.ReLU6, padding: Any = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(
            2 * channels, 2 * channels, 3, padding=padding, groups=2 * channels, bias=False
        )
        self.norm = nn.BatchNorm2d(2 * channels)
        self.act = activation()
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Any) -> Any:
        return x + self.project(self.act(self.norm(self.depthwise(self.expand(x)))))


class Branching(Block):
    """What lies between is read twice."""

    def forward(self, x: Any) -> Any:
        y = self.depthwise(self.expand(x))
        return self.project(self.act(self.norm(y)) + y)


class Deciding(Block):
    """Cannot be traced."""

    def forward(self, x: Any) -> Any:
        if x.sum() > 1e9:
            return x
        return super().forward(x)


def run_in(model: Any, channels: int = 8, size: int = 9) -> Any:
    """The model after some steps of training, so that its statistics are not the first ones, in evaluation mode."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for seed in range(3):
            model.train()(draw(4, channels, size, size, dtype=torch.float32, seed=seed))
    return model.eval()


def image(channels: int = 8, size: int = 9) -> Any:
    return draw(2, channels, size, size, dtype=torch.float32, seed=9)


def accelerated(model: Any, *, inference: bool = False) -> dict[str, tuple[str, str]]:
    """Accelerates the model and returns the report."""
    replacements: list[Replacement] = []
    assert accelerate(model, inference=inference, report=replacements.extend) is model
    assert len({r.name for r in replacements}) == len(replacements)
    return {name: (action, reason) for name, action, reason in replacements}


def check(
    model: Any, channels: int = 8, size: int = 9, *, inference: bool = False
) -> dict[str, tuple[str, str]]:
    """Accelerates the model; it computes the same as before."""
    x = image(channels, size)
    with torch.no_grad():
        expected = model(x)
        report = accelerated(model, inference=inference)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    return report


def test_replaces_what_is_depthwise_and_nothing_else() -> None:
    model = run_in(
        nn.Sequential(Block(), nn.Sequential(nn.Conv2d(8, 16, 3, groups=4), nn.Conv2d(16, 32, 3, groups=16)))
    )
    assert check(model) == {"0.depthwise": ("replaced", ""), "1.1": ("replaced", "")}
    assert type(model[1][1]) is DepthwiseConv2d
    assert model[1][1].depth_multiplier == 2
    assert type(model[1][0]) is type(model[0].expand) is nn.Conv2d


def test_replaces_a_model_that_is_a_convolution() -> None:
    model = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
    assert check(model) == {"Conv2d": ("replaced", "")}
    assert type(model) is DepthwiseConv2d


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["same", "valid", (2, 1)])
def test_replaces_every_kind_of_padding(padding: Any, padding_mode: str) -> None:
    model = nn.Conv2d(8, 16, (3, 5), 1, padding, (2, 1), groups=8, padding_mode=padding_mode)
    assert list(check(model).values()) == [("replaced", "")]


def test_keeps_parameters_hooks_flags_and_sharing() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.Conv2d(8, 8, 3, groups=8))}).train()
    model["b"][1].weight = shared.weight
    shared.bias.requires_grad_(False)
    shared.eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    calls: list[str] = []
    shared.register_forward_pre_hook(lambda *_: calls.append("before"))
    handle = shared.register_forward_hook(lambda *_: calls.append("after"))
    shared.register_full_backward_hook(lambda *_: calls.append("backward"))
    parameters = dict(model.named_parameters())

    assert accelerated(model) == {"a": ("replaced", ""), "b.1": ("replaced", "")}
    assert model["a"] is model["b"][0]
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert model["b"][1].weight is shared.weight
    assert not shared.training
    assert model["b"][1].training
    assert not shared.bias.requires_grad
    before = shared.weight.detach().clone()
    model["a"](image().requires_grad_()).sum().backward()
    optimizer.step()
    assert not torch.equal(shared.weight, before)
    handle.remove()
    model["a"](image())
    assert calls == ["before", "after", "backward", "before"]


def test_a_second_time_there_is_nothing_to_do() -> None:
    model = run_in(Block())
    accelerated(model)
    assert accelerated(model) == {}
    assert check(model, inference=True) == {
        "norm": ("folded", "into depthwise"),
        "act": ("folded", "into depthwise"),
    }
    assert check(model, inference=True) == {}


@pytest.mark.parametrize("inference", [False, True])
def test_the_model_can_be_copied_pickled_and_trained(inference: bool) -> None:
    model = run_in(Block())
    check(model, inference=inference)
    x = image()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_parametrized_weights_stay_parametrized() -> None:
    class Doubled(nn.Module):  # type: ignore[misc]
        def forward(self, weight: Any) -> Any:
            return 2 * weight

    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8)).eval()
    parametrize.register_parametrization(model[0], "weight", Doubled())
    assert check(model, inference=True) == {"0": ("replaced", "")}
    assert isinstance(model[0], DepthwiseConv2d)
    assert torch.equal(model[0].weight, 2 * model[0].parametrizations.weight.original)
    parametrize.remove_parametrizations(model[0], "weight")
    assert type(model[0]) is DepthwiseConv2d
    check(model)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_weights_made_by_hooks_stay_so() -> None:
    model = nn.utils.weight_norm(nn.Conv2d(8, 8, 3, groups=8))
    assert check(model) == {"Conv2d": ("replaced", "")}
    assert {name for name, _ in model.named_parameters()} == {"bias", "weight_g", "weight_v"}


class Standardised(nn.Conv2d):  # type: ignore[misc]
    """A subclass that computes something else."""

    def forward(self, input: Any) -> Any:  # noqa: A002
        return functional.conv2d(input, self.weight - self.weight.mean(), groups=self.groups)


def test_says_what_was_left_and_why() -> None:
    replaced = nn.Conv2d(8, 8, 3, groups=8)
    replaced.forward = replaced.forward
    model = nn.ModuleDict(
        {
            "subclass": Standardised(8, 8, 3, groups=8),
            "complex": nn.Conv2d(8, 8, 3, groups=8, dtype=torch.cfloat),
            "lazy": nn.LazyConv2d(8, 3, groups=8),
            "patched": replaced,
            "ordinary": nn.Conv2d(1, 8, 3),
            "subclass of no interest": Standardised(8, 8, 3, groups=2),
        }
    )
    report = accelerated(model)
    assert {name: action for name, (action, _) in report.items()} == dict.fromkeys(list(model)[:4], "left")
    assert "test_torch_accelerate.Standardised" in report["subclass"][1]
    assert "complex64" in report["complex"][1]
    assert "not known yet" in report["lazy"][1]
    assert "forward method" in report["patched"][1]
    assert not any(isinstance(module, DepthwiseConv2d) for module in model.modules())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_leaves_what_is_compiled_to_torchscript() -> None:
    model = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)))
    (report,) = check(model).values()
    assert report == ("left", "it is compiled to TorchScript")


ACTIVATIONS: dict[Any, Any] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: ("leaky_relu", 0.01),
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Hardswish: "hard_swish",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.GELU: "gelu",
    nn.Softplus: "softplus",
}


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_folds_normalization_and_activation(kind: Any) -> None:
    model = run_in(Block(activation=kind))
    weight = model.depthwise.weight
    kept = weight.detach().clone()
    assert check(model, inference=True) == {
        "depthwise": ("replaced", ""),
        "norm": ("folded", "into depthwise"),
        "act": ("folded", "into depthwise"),
    }
    named = ACTIVATIONS[kind]
    assert model.depthwise.activation == (
        Activation(*named) if isinstance(named, tuple) else Activation(named)
    )
    assert type(model.norm) is type(model.act) is nn.Identity
    assert torch.equal(weight, kept), "others may have it, too"


def test_folds_along_a_sequential_that_is_inside_of_what_cannot_be_traced() -> None:
    class Outer(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(8, 8, 3, groups=8),
                nn.Identity(),
                nn.BatchNorm2d(8, affine=False),
                nn.GELU("tanh"),
                Deciding(),
            )

        def forward(self, x: Any) -> Any:
            return self.layers(x) if x.mean() < 1e9 else x

    report = check(run_in(Outer()), inference=True)
    assert {name for name, (action, _) in report.items() if action == "folded"} == {"layers.2", "layers.3"}
    assert report["layers.4.depthwise"] == ("replaced", "")  # and not folded: who reads it is not known


def test_does_not_fold_what_is_read_twice() -> None:
    assert check(run_in(Branching()), inference=True) == {"depthwise": ("replaced", "")}


def test_does_not_fold_what_runs_twice() -> None:
    class Twice(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(8, 8, 3, groups=8)
            self.second = nn.Conv2d(8, 8, 3, groups=8)
            self.act = nn.ReLU()
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            x = self.act(self.norm(self.first(x)))
            return self.act(self.norm(self.second(x)))

    assert check(run_in(Twice()), inference=True) == {"first": ("replaced", ""), "second": ("replaced", "")}


def test_does_not_fold_what_is_registered_twice() -> None:
    norm = nn.BatchNorm2d(8)
    model = nn.ModuleList([nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), norm), nn.Sequential(norm)])
    model.forward = model[0].forward
    assert check(run_in(model), inference=True) == {"0.0": ("replaced", "")}
    assert model[1][0] is norm


def test_does_not_fold_what_a_hook_looks_at() -> None:
    model = run_in(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()))
    model[1].register_forward_hook(lambda *_: None)
    report = check(model, inference=True)
    assert report["1"] == ("left", "not folded: it has hooks")
    model = run_in(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()))
    model[0].register_forward_hook(lambda *_: None)
    assert set(check(model, inference=True)) == {"0"}


def test_does_not_fold_what_a_hook_on_a_module_around_looks_at() -> None:
    """Neither what a block puts out nor what goes into one; and no hook is called while it is found out."""
    seen: list[Any] = []

    def watch(*arguments: Any) -> None:
        seen.append(arguments)

    def folded(model: Any) -> list[str]:
        report = accelerated(model, inference=True)
        return [name for name, (action, _) in report.items() if action == "folded"]

    convolution, norm, act = nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()
    model = run_in(nn.Sequential(nn.Sequential(convolution, norm), act))
    model[0].register_forward_hook(watch)
    assert folded(model) == ["0.1"]
    assert not seen

    convolution, norm, act = nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()
    model = run_in(nn.Sequential(convolution, nn.Sequential(norm, act)))
    model[1].register_forward_pre_hook(watch)
    assert folded(model) == []
    assert not seen

    model = run_in(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Identity(), nn.BatchNorm2d(8)))
    model[1].register_forward_hook(watch)
    assert folded(model) == []
    assert not seen


def test_does_not_fold_statistics_of_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8, track_running_stats=False))
    assert check(model, inference=True)["1"] == (
        "left",
        "not folded: it takes its statistics from each batch",
    )


def test_folds_an_activation_without_normalization_but_not_one_with_another_formula() -> None:
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Softplus(beta=2)
    )
    assert set(check(model, inference=True)) == {"0", "1", "2"}
    assert type(model[3]) is nn.Softplus


def test_puts_the_model_into_evaluation_mode_for_inference_only() -> None:
    assert accelerate(Block().train(), report=None).training
    assert not accelerate(Block().train(), inference=True, report=None).training


def test_tracing_leaves_nothing_in_the_model() -> None:
    class Remembering(Block):
        def forward(self, x: Any) -> Any:
            self.last = super().forward(x)
            return self.last

    model = run_in(Remembering())
    accelerate(model, inference=True, report=None)
    assert isinstance(model.last, torch.Tensor)


@pytest.mark.filterwarnings("ignore")  # of other packages, on import
@pytest.mark.parametrize("name", ["mobilenetv2_050", "tf_efficientnet_b0", "convnext_atto"])
def test_networks_of_timm(name: str) -> None:
    try:
        import timm
    except Exception as error:  # it needs a torchvision that fits the PyTorch at hand
        pytest.skip(f"timm cannot be imported: {error}")
    model = run_in(timm.create_model(name, pretrained=False), 3, 64)
    depthwise = sum(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in model.modules())
    report = check(model, 3, 64)
    assert [action for action, _ in report.values()] == ["replaced"] * depthwise
    folded = check(model, 3, 64, inference=True)
    assert len(folded) == (0 if name.startswith("convnext") else depthwise)
