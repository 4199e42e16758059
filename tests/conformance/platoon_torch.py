"""The few calls of `torch` and `tinker` that the authors' credit functions make, in plain Python.

Vectors of float32 (every element is rounded when it is stored, as PyTorch's kernels do), of integers and of truth values, and numbers as
vectors of one. Sums are exact before they are rounded; PyTorch adds in float32, so sums of fractions differ by an ulp or so. Used where
PyTorch is not installed; `platoon_credit.py --torch both` compares the two.
"""

import math
import sys
import types
from array import array

float32, long, bool_ = "float32", "long", "bool"
Dtype = str


def _stored(values, dtype: Dtype):
    if dtype == float32:
        return array("f", values)
    return [bool(value) if dtype == bool_ else int(value) for value in values]


def _divide(above: float, below: float) -> float:
    if below:
        return above / below
    return math.nan if above == 0 or math.isnan(above) else math.copysign(math.inf, above)


class Tensor:
    __slots__ = ("values", "dtype", "scalar")
    __hash__ = None

    def __init__(self, values, dtype: Dtype, scalar: bool = False) -> None:
        self.values, self.dtype, self.scalar = _stored(values, dtype), dtype, scalar

    def _with(self, other, operation, dtype: Dtype | None = None) -> "Tensor":
        dtype = dtype or float32
        if not isinstance(other, Tensor):
            # PyTorch, too, rounds a number to the type of the tensor.
            other = Tensor([other], self.dtype if self.dtype == float32 else long, True)
        if other.scalar:
            right = other.values[0]
            return Tensor([operation(left, right) for left in self.values], dtype, self.scalar)
        if self.scalar:
            left = self.values[0]
            return Tensor([operation(left, right) for right in other.values], dtype)
        return Tensor([operation(left, right) for left, right in zip(self.values, other.values, strict=True)], dtype)

    def __eq__(self, other):
        return self._with(other, lambda a, b: a == b, bool_)

    def __gt__(self, other):
        return self._with(other, lambda a, b: a > b, bool_)

    def __le__(self, other):
        return self._with(other, lambda a, b: a <= b, bool_)

    def __sub__(self, other):
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other):
        return self._with(other, lambda a, b: a * b)

    def __truediv__(self, other):
        return self._with(other, _divide)

    def __rtruediv__(self, other):
        return Tensor([other], float32, True)._with(self, _divide)

    def __pow__(self, other):
        return self._with(other, lambda a, b: a**b)

    def __getitem__(self, index):
        if isinstance(index, Tensor):
            return Tensor([value for value, kept in zip(self.values, index.values, strict=True) if kept], self.dtype)
        return Tensor([self.values[index]], self.dtype, True)

    def __setitem__(self, index: int, value: "Tensor") -> None:
        self.values[index] = value.item()

    def __iter__(self):
        return (Tensor([value], self.dtype, True) for value in self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __bool__(self) -> bool:
        return bool(self.item())

    def item(self):
        (value,) = self.values
        return value

    def sum(self) -> "Tensor":
        return Tensor([math.fsum(self.values)], float32 if self.dtype == float32 else long, True)

    def max(self) -> "Tensor":
        return Tensor([max(self.values)], self.dtype, True)

    def any(self) -> "Tensor":
        return Tensor([any(self.values)], bool_, True)

    def tolist(self) -> list:
        return list(self.values)


def tensor(data, dtype: Dtype = float32) -> Tensor:
    return Tensor(data, dtype) if isinstance(data, list) else Tensor([data], dtype, True)


def zeros(count: int, dtype: Dtype = float32) -> Tensor:
    return Tensor([0] * count, dtype)


def zeros_like(other: Tensor) -> Tensor:
    return zeros(len(other), other.dtype)


def where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    chosen = (a if which else b for which, a, b in zip(condition.values, yes.values, no.values, strict=True))
    return Tensor(chosen, yes.dtype)


class TensorData:
    """Stands for `tinker.TensorData`, which carries a tensor over the network: here it keeps it as it is."""

    def __init__(self, tensor) -> None:
        self._tensor = tensor

    @classmethod
    def from_torch(cls, tensor) -> "TensorData":
        return cls(tensor)

    def to_torch(self):
        return self._tensor


class Datum:
    """Stands for `tinker.Datum`: one training sequence."""

    def __init__(self, loss_fn_inputs: dict[str, TensorData]) -> None:
        self.loss_fn_inputs = loss_fn_inputs


def tinker() -> types.ModuleType:
    """A module to import in the place of `tinker`."""
    module = types.ModuleType("tinker")
    module.Datum, module.TensorData = Datum, TensorData
    return module


def torch() -> types.ModuleType:
    """This file, to import in the place of `torch`."""
    return sys.modules[__name__]
