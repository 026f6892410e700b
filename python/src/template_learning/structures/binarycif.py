"""BinaryCIF read: its column encodings undone, and the tables of atoms and assemblies as CIF.

The format is that of Sehnal et al. 2020 (PLoS Computational Biology 16, e1008247): each column is an array under a list of
encodings, undone from the last to the first, and perhaps a mask (1 for ``.``, 2 for ``?``).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import gemmi
import msgpack
import numpy as np
from numpy.typing import NDArray

NEEDED = ("_atom_site", "_pdbx_struct_assembly", "_pdbx_struct_assembly_gen", "_pdbx_struct_oper_list", "_struct_asym")
_TYPES = {1: "<i1", 2: "<i2", 3: "<i4", 4: "<u1", 5: "<u2", 6: "<u4", 32: "<f4", 33: "<f8"}


def is_binary_cif(content: bytes) -> bool:
    """Whether the bytes begin as BinaryCIF does: a MessagePack map that names its encoder, version or blocks."""
    return content[:1] in (b"\x83", b"\xde", b"\xdf") and any(
        word in content[:200] for word in (b"encoder", b"version", b"dataBlocks")
    )


def read_binary_cif(content: bytes) -> gemmi.cif.Document:
    """The categories ``NEEDED`` of every block, as CIF.  Raises ValueError where the bytes are not BinaryCIF."""
    try:
        whole = msgpack.unpackb(content)
        document = gemmi.cif.Document()
        for number, block in enumerate(whole["dataBlocks"]):
            target = document.add_new_block(block["header"] or f"block{number}")
            for category in block["categories"]:
                name = "_" + category["name"].lstrip("_")
                if name in NEEDED and category["columns"]:
                    columns = [column["name"] for column in category["columns"]]
                    values = [_text(column) for column in category["columns"]]
                    target.init_loop(name + ".", columns).set_all_values(values)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"broken BinaryCIF: {type(error).__name__} {error}") from None
    return document


def _text(column: Mapping[str, Any]) -> list[str]:
    """A column's cells as CIF writes them."""
    values = decoded(column["data"]["data"], column["data"]["encoding"])
    if values.dtype.kind == "U":
        known = {text: gemmi.cif.quote(text) if text else "." for text in np.unique(values).tolist()}
        cells = [known[text] for text in values.tolist()]
    elif values.dtype.kind == "f":
        cells = [f"{value:.6g}" if abs(value) < 1e3 else f"{value:.3f}" for value in values.tolist()]
    else:
        cells = [str(value) for value in values.tolist()]
    if column.get("mask"):
        mask = decoded(column["mask"]["data"], column["mask"]["encoding"])
        for i in np.flatnonzero(mask).tolist():
            cells[i] = "." if mask[i] == 1 else "?"
    return cells


def decoded(data: bytes | NDArray[Any], encodings: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
    """The values under a list of encodings.  Raises ValueError for an encoding that is not known."""
    values: Any = data
    for encoding in reversed(encodings):
        kind = encoding["kind"]
        if kind == "ByteArray":
            values = np.frombuffer(values, dtype=_TYPES[encoding["type"]])
        elif kind == "FixedPoint":
            values = values / float(encoding["factor"])
        elif kind == "IntervalQuantization":
            step = (encoding["max"] - encoding["min"]) / (encoding["numSteps"] - 1)
            values = encoding["min"] + values * step
        elif kind == "RunLength":
            values = np.repeat(values[::2], values[1::2])
        elif kind == "Delta":
            values = np.cumsum(values, dtype=np.int64) + encoding["origin"]
        elif kind == "IntegerPacking":
            values = _unpacked_integers(values, encoding)
        elif kind == "StringArray":
            where = decoded(encoding["offsets"], encoding["offsetEncoding"])
            text = encoding["stringData"]
            words = [text[a:b] for a, b in pairwise(where.tolist())] + [""]  # index -1 is the empty one
            values = np.array(words)[decoded(values, encoding["dataEncoding"])]
        else:
            raise ValueError(f"BinaryCIF with an unknown encoding {kind!r}")
    return np.asarray(values)


def _unpacked_integers(values: NDArray[Any], encoding: Mapping[str, Any]) -> NDArray[np.int64]:
    """Small integers of which those at the type's limits are added to what follows."""
    high = (1 << (8 * encoding["byteCount"] - (0 if encoding["isUnsigned"] else 1))) - 1
    low = -1 if encoding["isUnsigned"] else -high - 1
    whole = values.astype(np.int64)
    ends = np.flatnonzero((whole != high) & (whole != low))
    return np.diff(np.concatenate([[0], np.cumsum(whole)[ends]]))
