"""The functions of an ELF file, by names that stay the same from one build to the next."""

import collections
import re
import subprocess

from elftools.elf.elffile import ELFFile

# c++filt writes a crate's hash behind its name: `core[c1f1a4ba060b9bfa]::fmt::write`.
_CRATE_HASH = re.compile(r"(?<=\w)\[[0-9a-f]+\]")


def functions(path):
    """Returns the symbols of the functions that an ELF file defines."""
    with open(path, "rb") as file:
        return [
            symbol.name
            for table in ELFFile(file).iter_sections(type="SHT_SYMTAB")
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
        ]


def names(symbols):
    """Returns symbols with their names: a Rust function's path without hashes, any other symbol as it is.

    Copies of a function have one name.

    >>> names(["_RNvMNtCs7BliBxkEZsN_4core3stre20eq_ignore_ascii_case.llvm.77", "memcpy"])
    {'_RNvMNtCs7BliBxkEZsN_4core3stre20eq_ignore_ascii_case.llvm.77': '<str>::eq_ignore_ascii_case', 'memcpy': 'memcpy'}
    >>> names(["_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeSdECsjMaewn57Afh_1t"]).popitem()[1]
    'core::ptr::drop_in_place::<[f64]>'
    """
    symbols = list(symbols)
    # The compiler marks copies with a suffix.
    originals = [symbol.partition(".")[0] if symbol.startswith("_R") else symbol for symbol in symbols]
    command = ["c++filt", "--format=rust"]
    demangled = subprocess.run(command, input="\n".join(originals), check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(zip(symbols, (_CRATE_HASH.sub("", name) for name in demangled.splitlines()), strict=True))
