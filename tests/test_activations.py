"""The table of activations and the ways to name one."""

import copy
import math
import pickle

import pytest

from depthwise.activations import ACTIVATIONS, Activation, normalise

ALIASES = {"swish": "silu", "hard_silu": "hard_swish"}

# What the compiled core calls them: a number that has been released must keep its meaning.
CODES = {
    "linear": 0,
    "relu": 1,
    "relu6": 2,
    "leaky_relu": 3,
    "elu": 4,
    "silu": 5,
    "hard_swish": 6,
    "hard_sigmoid": 7,
    "sigmoid": 8,
    "tanh": 9,
    "gelu": 10,
    "gelu_tanh": 11,
    "softplus": 12,
}


def test_codes_are_those_of_the_compiled_core() -> None:
    assert {name: info.code for name, info in ACTIVATIONS.items()} == CODES


def test_aliases_are_complete_and_shadow_no_name() -> None:
    assert {alias: name for name, info in ACTIVATIONS.items() for alias in info.aliases} == ALIASES
    assert not ALIASES.keys() & ACTIVATIONS.keys()


def test_alpha_belongs_to_the_formulas_that_name_it() -> None:
    assert {name: info.default_alpha for name, info in ACTIVATIONS.items() if "alpha" in info.formula} == {
        "leaky_relu": 0.2,
        "elu": 1.0,
    }
    assert all(info.default_alpha is None for info in ACTIVATIONS.values() if "alpha" not in info.formula)


def test_the_derivatives_that_need_the_preactivation_are_those_of_functions_that_fold_back() -> None:
    # silu and its relatives are not monotonic, so the output does not tell which input it came from.
    assert {name for name, info in ACTIVATIONS.items() if info.needs_preactivation} == {
        "silu",
        "hard_swish",
        "gelu",
        "gelu_tanh",
    }


def test_every_activation_is_described() -> None:
    for name, info in ACTIVATIONS.items():
        assert "x" in info.formula, name
        assert info.help.endswith("."), name


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ACTIVATIONS["mine"] = ACTIVATIONS["relu"]  # type: ignore[index]


def test_none_means_linear() -> None:
    assert normalise(None) == Activation("linear")


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("spell", [str, str.upper, str.title], ids=["lower", "upper", "title"])
def test_names_are_accepted_in_any_case(name: str, spell: type[str]) -> None:
    assert normalise(spell(name)) == Activation(name)
    assert normalise(spell(name)).name == name


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_become_the_name_they_stand_for(alias: str, name: str) -> None:
    assert normalise(alias) == normalise(alias.upper()) == Activation(name)
    assert Activation(alias).name == name


def test_an_activation_normalises_to_itself() -> None:
    activation = Activation("elu", 0.5)
    assert normalise(activation) is activation


@pytest.mark.parametrize(("name", "default"), [("leaky_relu", 0.2), ("elu", 1.0), ("relu", 0.0), (None, 0.0)])
def test_alpha_has_a_default(name: str | None, default: float) -> None:
    assert normalise(name).alpha == default


def test_alpha_comes_with_the_name_in_a_pair() -> None:
    assert normalise(("Leaky_ReLU", 0.01)) == Activation("leaky_relu", 0.01)
    assert normalise(("leaky_relu", 0)) == Activation("leaky_relu", 0.0)
    assert normalise(["elu", 2]) == Activation("elu", 2.0)  # type: ignore[arg-type]  # as read from JSON
    assert normalise(("relu", 0.0)) == Activation("relu")


def test_a_negative_zero_becomes_zero() -> None:
    assert math.copysign(1.0, Activation("leaky_relu", -0.0).alpha) == 1.0


def test_equal_activations_hash_equal_and_different_ones_differ() -> None:
    assert len({Activation("silu"), Activation("swish"), Activation("SWISH"), Activation("silu", 0.0)}) == 1
    assert Activation("leaky_relu", 0.1) != Activation("leaky_relu", 0.3)


def test_activations_survive_pickling_and_copying_and_cannot_be_changed() -> None:
    activation = Activation("leaky_relu", 0.1)
    assert pickle.loads(pickle.dumps(activation)) == activation
    assert copy.deepcopy(activation) == activation
    with pytest.raises(AttributeError):
        activation.alpha = 0.3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("activation", "error", "words"),
    [
        ("rleu", ValueError, "expected one of elu, gelu, .*swish, tanh, got 'rleu'"),
        ("", ValueError, "got ''"),
        (3, TypeError, r"expected None, a name, a pair \(name, alpha\) or an Activation, got 3 of type int"),
        (max, TypeError, "got <built-in function max> of type builtin_function_or_method"),
        ((None, 0.1), TypeError, "got None of type NoneType"),
        (("leaky_relu",), ValueError, r"expected a pair \(name, alpha\), got \('leaky_relu',\)"),
        (("leaky_relu", 0.1, 0.2), ValueError, r"expected a pair \(name, alpha\)"),
        (("leaky_relu", -0.1), ValueError, "expected a finite alpha of at least 0 for leaky_relu, got -0.1"),
        (("elu", -1), ValueError, "expected a finite alpha of at least 0 for elu, got -1"),
        (("elu", math.nan), ValueError, "got nan"),
        (("elu", math.inf), ValueError, "got inf"),
        (("elu", 10**400), ValueError, "got 1000"),
        (("elu", "1.0"), TypeError, "expected a number for the alpha of elu, got '1.0' of type str"),
        (("elu", True), TypeError, "expected a number for the alpha of elu, got True of type bool"),
        (("elu", [1.0]), TypeError, r"got \[1.0\] of type list"),
        (("relu", 0.1), ValueError, "relu has no alpha: expected none, got 0.1"),
    ],
)
def test_what_is_no_activation_is_refused(activation: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^activation: .*{words}"):
        normalise(activation)  # type: ignore[arg-type]
