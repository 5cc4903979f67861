"""What `layer/link` does with the tables by which a panic finds its way."""

import pathlib
import struct
import sys

_EH_FRAME_HEADER = 0x6474E550
# In the header: no count, no table.
_OMITTED = 0xFF
# Version, encodings, and where the entries are.
_FIXED = 8


def drop_index(path):
    """Empties the index of `.eh_frame`, of a program in the form of ELF, of 64 bits and little-endian.

    It is of no use but to find an entry by halving, and its addresses are a fiftieth of the zip, since deflate finds nothing in
    them. Without it the entries are gone through one by one, by every unwinder, since the header says that there is none: a
    panic takes some ten milliseconds instead of one.
    """
    program = bytearray(pathlib.Path(path).read_bytes())
    (headers_at,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    headers = (struct.unpack_from("<IIQQQQ", program, headers_at + number * size) for number in range(count))
    index = next(((start, length) for kind, _, start, _, _, length in headers if kind == _EH_FRAME_HEADER), None)
    if index is None:
        sys.exit(f"layer/link: {path} has no index for unwinding; if the linker makes none now, drop_index has no use any more")
    start, length = index
    program[start + 2 : start + 4] = bytes([_OMITTED, _OMITTED])
    program[start + _FIXED : start + length] = bytes(length - _FIXED)
    pathlib.Path(path).write_bytes(program)
