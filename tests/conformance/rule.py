"""Numbers out of names: the one rule by which both sides of a comparison fill tensors, so that no weight file is needed.

`stream(name)` is SplitMix64 from the FNV-1a hash of the name. Everything else takes the top 24 bits of its numbers, which f32 holds
exactly; the Rust side is `backends/src/candle/reference.rs`. Needs numpy; the functions on models need PyTorch as well.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def fnv1a(name: str) -> int:
    hash_ = 0xCBF29CE484222325
    for byte in name.encode():
        hash_ = ((hash_ ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return hash_


def stream(name: str, count: int) -> np.ndarray:
    """[count] uint64: SplitMix64 (Steele, Lea and Flood 2014) whose state starts at the name's hash."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name: str, count: int, scale: float = 1.0) -> np.ndarray:
    """[count] float32 in scale * (-1/2 .. 1/2), exact where the scale is a power of two."""
    fraction = (stream(name, count) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return (fraction - np.float32(0.5)) * np.float32(scale)


def weight(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """float32: a matrix is `uniform` of the scale, a norm's gain (one dimension) 1 + `uniform` of 1/2, rounded once."""
    values = uniform(name, int(np.prod(shape)), scale if len(shape) > 1 else 0.5)
    return (values if len(shape) > 1 else np.float32(1) + values).reshape(shape)


def tokens(name: str, count: int, vocab: int) -> list[int]:
    return (stream(name, count) >> np.uint64(40)).astype(np.int64).__mod__(vocab).tolist()


def digest(name: str, values: np.ndarray, without: np.ndarray) -> dict:
    """What is kept of a tensor: its length, its product with a pattern of +1 and -1, and six of its elements; in f64.

    The pattern is the top bit of `stream("signs:" + name)` (1 is minus); the elements are those at `stream("elements:" + name)` modulo
    the size. Where `without` holds, an element counts as 0 and is not among the six.
    """
    without = without.ravel()
    values = np.where(without, 0.0, values.astype(np.float64).ravel())
    signs = 1.0 - 2.0 * (stream("signs:" + name, values.size) >> np.uint64(63)).astype(np.float64)
    places = (stream("elements:" + name, 100) % np.uint64(values.size)).astype(np.int64)
    places = [place for place in places if not without[place]][:6]
    left_out = {"left_out": np.flatnonzero(without).tolist()} if without.any() else {}
    return {
        "norm": significant(np.sqrt((values * values).sum())),
        "dot": significant((values * signs).sum()),
        "elements": [significant(values[place]) for place in places],
        **left_out,
    }


def significant(value: float) -> float:
    """Nine digits, as many as tell every f32 from its neighbours."""
    return float(f"{value:.9g}")


def fill(named_parameters, scale: float, rename=lambda name: name) -> None:
    """Fills the parameters of a PyTorch model in place. A tied matrix is listed, and so filled, once."""
    import torch

    with torch.no_grad():
        for name, parameter in named_parameters:
            parameter.copy_(torch.from_numpy(weight(rename(name), tuple(parameter.shape), scale)))


def adapter_name(name: str) -> str:
    """The name under which `adapter_model.safetensors` holds a parameter of a PEFT model."""
    return name.replace(".default.", ".")
