"""What each argument may be, what it becomes, and the words that refuse it."""

import dataclasses
import inspect
import json
import re
from typing import Any

import numpy as np
import pytest

from depthwise.activations import Activation
from depthwise.arguments import ARGUMENTS, Argument
from depthwise.spec import Spec

PAIRS = ["kernel_size", "strides", "dilation_rate"]
LARGEST = 2**31 - 1


def make(**arguments: Any) -> Spec:
    return Spec(**({"kernel_size": 3} | arguments))


# What is accepted, and what it becomes


def test_defaults_are_those_of_keras() -> None:
    spec = Spec(3)
    assert dataclasses.asdict(spec) == {
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "padding": "valid",
        "depth_multiplier": 1,
        "data_format": "channels_last",
        "dilation_rate": (1, 1),
        "activation": {"name": "linear", "alpha": 0.0},
        "use_bias": True,
    }


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("value", "pair"),
    [
        (2, (2, 2)),
        ((2, 3), (2, 3)),
        ([2, 3], (2, 3)),
        (np.int64(2), (2, 2)),
        ((np.int32(2), np.uint8(3)), (2, 3)),
        (np.array(2), (2, 2)),
        (np.array([2, 3]), (2, 3)),
        (range(2, 4), (2, 3)),
        (LARGEST, (LARGEST, LARGEST)),
    ],
    ids=str,
)
def test_an_integer_or_a_pair_becomes_a_pair_of_plain_ints(name: str, value: object, pair: object) -> None:
    result = getattr(make(**{name: value}), name)
    assert result == pair
    assert [type(item) for item in result] == [int, int]


@pytest.mark.parametrize(
    ("padding", "normal"),
    [
        ("valid", "valid"),
        ("VALID", "valid"),
        ("Same", "same"),
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        (np.int16(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], [3, 4]], ((1, 2), (3, 4))),
        (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
    ],
    ids=str,
)
def test_padding_becomes_a_rule_or_the_zeros_on_each_side(padding: Any, normal: object) -> None:
    assert Spec(3, padding=padding).padding == normal


@pytest.mark.parametrize("name", ["channels_last", "CHANNELS_LAST", "Channels_First", "channels_first"])
def test_data_format_is_accepted_in_any_case(name: str) -> None:
    assert Spec(3, data_format=name).data_format == name.lower()


@pytest.mark.parametrize(
    ("activation", "normal"),
    [
        (None, Activation("linear")),
        ("ReLU", Activation("relu")),
        ("swish", Activation("silu")),
        (("leaky_relu", 0.1), Activation("leaky_relu", 0.1)),
        (Activation("elu"), Activation("elu", 1.0)),
    ],
)
def test_activation_is_normalised(activation: Any, normal: Activation) -> None:
    assert Spec(3, activation=activation).activation == normal


# What is refused, and in which words

POSITIVE = "expected a positive integer or a pair (height, width) of them"
PADDING = (
    "expected 'valid', 'same', a non-negative integer, a pair (height, width) of them "
    "or ((top, bottom), (left, right))"
)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, f"{POSITIVE}, got 0"),
        ((0, 1), ValueError, f"{POSITIVE}, got (0, 1)"),
        ((1, -2), ValueError, f"{POSITIVE}, got (1, -2)"),
        ((1, 2, 3), ValueError, f"{POSITIVE}, got (1, 2, 3)"),
        ((1,), ValueError, f"{POSITIVE}, got (1,)"),
        ((), ValueError, f"{POSITIVE}, got ()"),
        (2**31, ValueError, f"{POSITIVE}, at most 2147483647, got 2147483648"),
        ((1, 2**80), ValueError, f"{POSITIVE}, at most 2147483647, got (1, {2**80})"),
        (1.5, TypeError, f"{POSITIVE}, got 1.5 of type float"),
        (2.0, TypeError, f"{POSITIVE}, got 2.0 of type float"),
        (True, TypeError, f"{POSITIVE}, got True of type bool"),
        (None, TypeError, f"{POSITIVE}, got None of type NoneType"),
        ("3", TypeError, f"{POSITIVE}, got '3' of type str"),
        (b"33", TypeError, f"{POSITIVE}, got b'33' of type bytes"),
        ({1: 2, 3: 4}, TypeError, f"{POSITIVE}, got {{1: 2, 3: 4}} of type dict"),
        ({1, 2}, TypeError, f"{POSITIVE}, got {{1, 2}} of type set"),
        ((1, 2.0), TypeError, f"{POSITIVE}, got (1, 2.0), with 2.0 of type float"),
        ((True, 1), TypeError, f"{POSITIVE}, got (True, 1), with True of type bool"),
        (((1, 1), (1, 1)), TypeError, f"{POSITIVE}, got ((1, 1), (1, 1)), with (1, 1) of type tuple"),
    ],
    ids=str,
)
def test_what_is_no_pair_of_positive_integers_is_refused(
    name: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'{name}: {message}')}$"):
        make(**{name: value})


@pytest.mark.parametrize(
    "value", [np.float32(2), np.array(2.0), np.array([1.0, 2.0]), np.bool_(True)], ids=repr
)
def test_numpy_floats_and_bools_are_not_taken_for_integers(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^strides: "):
        Spec(3, strides=value)


@pytest.mark.parametrize(
    ("value", "error", "received"),
    [
        ("causal", ValueError, "'causal'"),
        ("", ValueError, "''"),
        (-1, ValueError, "-1"),
        ((1, -1), ValueError, "(1, -1)"),
        (((0, 0), (0, -1)), ValueError, "((0, 0), (0, -1))"),
        ((1, 2, 3), ValueError, "(1, 2, 3)"),
        (((1, 2), 3), ValueError, "((1, 2), 3)"),
        (((1, 2), (3, 4, 5)), ValueError, "((1, 2), (3, 4, 5))"),
        (((0, 0), (1, 1), (1, 1), (0, 0)), ValueError, "((0, 0), (1, 1), (1, 1), (0, 0))"),
        (None, TypeError, "None of type NoneType"),
        (0.5, TypeError, "0.5 of type float"),
        (False, TypeError, "False of type bool"),
        (("same", "valid"), TypeError, "('same', 'valid'), with 'same' of type str"),
        (((1, 2), (3, 4.0)), TypeError, "((1, 2), (3, 4.0)), with 4.0 of type float"),
    ],
    ids=str,
)
def test_what_is_no_padding_is_refused(value: Any, error: type[Exception], received: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'padding: {PADDING}, got {received}')}$"):
        Spec(3, padding=value)


def test_huge_padding_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^padding: .* at most 2147483647, got \(\(0, 0\), \(0, 2147483648\)\)$"
    ):
        Spec(3, padding=((0, 0), (0, 2**31)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth_multiplier": 0}, ValueError, "depth_multiplier: expected a positive integer, got 0"),
        (
            {"depth_multiplier": 1.0},
            TypeError,
            "depth_multiplier: expected a positive integer, got 1.0 of type float",
        ),
        (
            {"depth_multiplier": (1, 1)},
            TypeError,
            "depth_multiplier: expected a positive integer, got (1, 1) of",
        ),
        (
            {"data_format": "NHWC"},
            ValueError,
            "data_format: expected 'channels_last' or 'channels_first', got 'NHWC'",
        ),
        (
            {"data_format": None},
            TypeError,
            "data_format: expected 'channels_last' or 'channels_first', got None of",
        ),
        ({"activation": "rleu"}, ValueError, "activation: expected one of elu, "),
        ({"activation": 1}, TypeError, "activation: expected None, a name, "),
        ({"use_bias": 1}, TypeError, "use_bias: expected True or False, got 1 of type int"),
        ({"use_bias": None}, TypeError, "use_bias: expected True or False, got None of type NoneType"),
    ],
    ids=str,
)
def test_other_wrong_arguments_are_refused(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        make(**arguments)


# The arguments as data


def test_the_arguments_are_those_of_the_signature() -> None:
    parameters = inspect.signature(Spec).parameters.values()
    assert [argument.name for argument in ARGUMENTS] == [parameter.name for parameter in parameters]
    assert [argument.required for argument in ARGUMENTS] == [
        parameter.default is inspect.Parameter.empty for parameter in parameters
    ]
    assert [argument.name for argument in ARGUMENTS] == [field.name for field in dataclasses.fields(Spec)]


def test_the_defaults_are_those_of_the_signature() -> None:
    defaults: Any = {argument.name: argument.default for argument in ARGUMENTS if not argument.required}
    assert Spec(3, **defaults) == Spec(3)


@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda argument: argument.name)
def test_the_ranges_and_choices_are_those_that_are_enforced(argument: Argument) -> None:
    for bound, step in ((argument.minimum, -1), (argument.maximum, 1)):
        if bound is not None:
            make(**{argument.name: bound})
            with pytest.raises(ValueError, match=f"^{argument.name}: "):
                make(**{argument.name: bound + step})
    for choice in argument.choices:
        value = getattr(make(**{argument.name: choice}), argument.name)
        assert choice == (value.name if isinstance(value, Activation) else value)


def test_the_arguments_can_be_written_as_json() -> None:
    written = json.loads(json.dumps([dataclasses.asdict(argument) for argument in ARGUMENTS]))
    assert [entry["name"] for entry in written] == [argument.name for argument in ARGUMENTS]
    assert all(entry["help"].endswith(".") and entry["type"] for entry in written)
