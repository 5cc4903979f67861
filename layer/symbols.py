"""What `layer/record` and `layer/link` know of symbols."""

import pathlib
import re
import struct

# In the symbols of Rust, what differs from one compiler or target to the next: of a function, of a crate, of a copy.
_HASHES = re.compile(r"17h[0-9a-f]{16}(?=E$)|(?<=Cs)[0-9A-Za-z]+(?=_)")
_COPY = re.compile(r"(\.llvm)?\.\d+$")
_SYMBOL_TABLE = 2
_FUNCTION = 2


def without_hashes(symbol):
    symbol = _COPY.sub("", symbol)
    return _HASHES.sub("", symbol) if symbol.startswith(("_ZN", "_R")) else symbol


def functions(path):
    """The functions that a file in the form of ELF defines, of 64 bits and little-endian: symbol and bytes."""
    data = pathlib.Path(path).read_bytes()
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    if count == 0:
        # There are more than that field can tell.
        (count,) = struct.unpack_from("<Q", data, sections_at + 32)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + number * size) for number in range(count)]
    for _, kind, _, _, start, length, strings, _, _, entry in sections:
        if kind != _SYMBOL_TABLE:
            continue
        names_at = sections[strings][4]
        for at in range(start, start + length, entry):
            name, info, _, section, _, size = struct.unpack_from("<IBBHQQ", data, at)
            if info & 0xF == _FUNCTION and section != 0:
                end = data.index(b"\0", names_at + name)
                yield data[names_at + name : end].decode(), size
