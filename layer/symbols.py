"""What `layer/record` and `layer/link` know of symbols."""

import pathlib
import re
import struct

# In the symbols of Rust, what differs from one compiler or target to the next: of a function, of a crate, of a copy.
_HASHES = re.compile(r"17h[0-9a-f]{16}(?=E$)|(?<=Cs)[0-9A-Za-z]+(?=_)")
_COPY = re.compile(r"(\.llvm)?\.\d+$")
_AMD64 = 62
_SYMBOL_TABLE = 2
_FUNCTION = 2


def is_hashed(symbol):
    """Whether it is Rust's."""
    return symbol.startswith(("_ZN", "_R"))


def without_hashes(symbol):
    """
    >>> without_hashes("_ZN4core3fmt5write17h0123456789abcdefE.llvm.77")
    '_ZN4core3fmt5writeE'
    >>> without_hashes("_RNvMNtCs7BliBxkEZsN_4core3stre20eq_ignore_ascii_case.2807")
    '_RNvMNtCs_4core3stre20eq_ignore_ascii_case'
    >>> without_hashes("memcpy")
    'memcpy'
    """
    symbol = _COPY.sub("", symbol)
    return _HASHES.sub("", symbol) if is_hashed(symbol) else symbol


def instances(line, defined):
    """The symbols that a line of the list stands for: those of its size, if it has one. None, if the program is not so.

    >>> defined = {"_ZN3oneE": [("_ZN3one17h00E", 8), ("_ZN3one17h01E", 16)]}
    >>> instances("_ZN3oneE 16", defined)
    ['_ZN3one17h01E']
    >>> instances("_ZN3oneE 64", defined)
    []
    >>> instances("_ZN3oneE", defined)
    ['_ZN3one17h00E', '_ZN3one17h01E']
    >>> instances("_ZN5otherE", defined)
    []
    >>> instances("memcpy", defined)
    ['memcpy']
    """
    name, *size = line.split()
    if not is_hashed(name):
        # It may lie in an archive.
        return [name]
    return [symbol for symbol, length in sorted(defined.get(name, [])) if not size or size == [str(length)]]


def is_of_amd64(path):
    """Whether a file in the form of ELF is."""
    (machine,) = struct.unpack_from("<H", pathlib.Path(path).read_bytes(), 18)
    return machine == _AMD64


def functions(path):
    """The functions that a file in the form of ELF defines, of 64 bits and little-endian: symbol and bytes."""
    for symbol, _, size in _functions(path):
        yield symbol, size


def places(path):
    """The same, and where each is."""
    for symbol, place, _ in _functions(path):
        yield symbol, place


def _functions(path):
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
            name, info, _, section, place, size = struct.unpack_from("<IBBHQQ", data, at)
            if info & 0xF == _FUNCTION and section != 0:
                end = data.index(b"\0", names_at + name)
                yield data[names_at + name : end].decode(), place, size
