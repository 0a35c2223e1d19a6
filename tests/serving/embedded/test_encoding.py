"""Tensors as bytes and as JSON values, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanocv_cli.engine.signature import NUMPY_TYPES, to_bytes
from nanocv_cli.serving.embedded.encoding import DATATYPES, from_bytes, from_values, parse_object, to_values
from nanocv_cli.serving.embedded.faults import Fault

NUMBERS = sorted(set(NUMPY_TYPES) - {"BYTES"})


@given(st.sampled_from(NUMBERS).flatmap(lambda kind: hnp.arrays(NUMPY_TYPES[kind], hnp.array_shapes(min_side=0))))
def test_bytes_round_trip(array: np.ndarray) -> None:
    back = from_bytes(to_bytes(array), DATATYPES[array.dtype], array.shape)
    assert back is not None
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_texts_round_trip(texts: list[bytes]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    back = from_bytes(to_bytes(array), "BYTES", (len(texts),))
    assert back is not None
    assert back.tolist() == texts


@given(st.binary(max_size=40), st.integers(0, 2**62))
def test_rubbish_texts_are_noticed(content: bytes, count: int) -> None:
    found = from_bytes(content, "BYTES", (count,))
    assert found is None or to_bytes(found) == content


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_length_that_does_not_fit_is_noticed(length: int) -> None:
    assert from_bytes(bytes(length), "UINT8", (2, 2)) is None


@pytest.mark.parametrize("datatype", ["UINT8", "FP64", "BYTES"])
@pytest.mark.parametrize("shape", [(0, 1 << 40, 1 << 40), (1 << 62, 0), (1, 0, 1 << 61)])
def test_no_array_has_such_a_shape_even_without_values(datatype: str, shape: tuple[int, ...]) -> None:
    assert from_bytes(b"", datatype, shape) is None
    with pytest.raises(Fault, match="Shape does not match"):
        from_values([], datatype, shape, "x")


@given(st.sampled_from(["UINT8", "INT64", "FP32", "BOOL"]).flatmap(
    lambda kind: hnp.arrays(NUMPY_TYPES[kind], hnp.array_shapes(max_dims=3, max_side=4),
                            elements={"allow_nan": False, "allow_infinity": False} if kind == "FP32" else None)
))  # fmt: skip
def test_values_round_trip_nested_or_flat(array: np.ndarray) -> None:
    kind = DATATYPES[array.dtype]
    for values in (array.tolist(), to_values(array)):
        np.testing.assert_array_equal(from_values(values, kind, array.shape, "x"), array)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "UINT8"),
        ([1, 300], "UINT8"),
        ([1, -1], "UINT8"),
        ([1, 2.5], "INT32"),
        ([1, "2"], "INT32"),
        ([True, 1], "BOOL"),
        ([1, True], "INT32"),
        ([1, None], "FP32"),
        ({"a": 1}, "FP32"),
        ([1, 2], "BYTES"),
        ([[[1]], 2], "INT32"),
    ],
)
def test_values_that_are_not_of_the_type_are_refused(values: object, kind: str) -> None:
    with pytest.raises(Fault, match="Unable to parse 'data'"):
        from_values(values, kind, (2,), "x")


@pytest.mark.parametrize("value", ["1e999", "-1e999", "1" + "0" * 400])
@pytest.mark.parametrize("kind", ["FP32", "FP64"])
def test_an_infinity_of_json_is_one_only_where_it_is_called_so(kind: str, value: str) -> None:
    data = parse_object(f'{{"data": [Infinity, -Infinity, NaN, {value}]}}'.encode())["data"]
    np.testing.assert_array_equal(from_values(data[:3], kind, (3,), "x"), [np.inf, -np.inf, np.nan])
    with pytest.raises(Fault, match=f"beyond {kind}"):
        from_values(data, kind, (4,), "x")


def test_deep_nesting_is_refused() -> None:
    values: list[object] = [1]
    for _ in range(100):
        values = [values]
    with pytest.raises(Fault, match="nested"):
        from_values(values, "INT32", (1,), "x")


def test_values_that_json_lacks_are_refused() -> None:
    with pytest.raises(Fault, match="NaN"):
        to_values(np.array([np.nan], np.float32))
