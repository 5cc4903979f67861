"""What `layer/link` does with the code by which the standard library prints backtraces."""

import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import symbols

# What the standard library's own hook for panics prints them by, and the only way to all the rest in a program that makes no
# `Backtrace`. The extension has a hook that prints none (`src/edge/logging.rs`).
_PRINTER = "_RNvXNvMNtNtCs_3std3sys9backtraceNtB5_13BacktraceLock5printNtB2_16DisplayBacktraceNtNtCs_4core3fmt7Display3fmt"
# Machine code that returns `Ok(())`.
_AMD64 = bytes.fromhex("31c0 c3")
_ARM64 = struct.pack("<II", 0x52800000, 0xD65F03C0)


def drop(objects, folder, linker):
    """The objects to link instead, one of them new in the folder: in it a backtrace is printed as nothing, and the linker leaves
    out what reads a program's symbols, line tables and compressed sections for it.

    A program without symbols has nothing there to print but addresses; a panic's message, with its place, is printed as ever.
    """
    for number, path in enumerate(objects):
        for symbol, size in symbols.functions(path):
            if symbols.without_hashes(symbol) == _PRINTER:
                target = pathlib.Path(folder) / "without-backtraces.o"
                _replace(path, target, symbol, size, linker)
                return [*objects[:number], str(target), *objects[number + 1 :]]
    sys.exit(
        f"layer/link: {_PRINTER} is in no object; see what prints backtraces in this Rust's std::sys::backtrace, and write its "
        "symbol into layer/backtraces.py"
    )


def _replace(path, target, symbol, size, linker):
    # The tables for unwinding tell its size.
    code = (_AMD64 if symbols.is_of_amd64(path) else _ARM64).ljust(size, b"\0")
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        # Rust's own lies beside its linker, and finds its library where rustc does.
        objcopy = pathlib.Path(linker).with_name("rust-objcopy")
        if not objcopy.exists():
            sys.exit(f"layer/link: {objcopy} is not there; use a Rust from rustup, whose rustc comes with it")
        libraries = [str(objcopy.parents[3]), os.environ.get("LD_LIBRARY_PATH", "")]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, libraries))}
        options = [f"--update-section=.text.{symbol}={file.name}", f"--remove-section=.rela.text.{symbol}"]
        if subprocess.run([objcopy, *options, path, target], env=environment).returncode != 0:
            sys.exit(
                f"layer/link: {objcopy} cannot replace what prints backtraces; if its symbol has no section of its own any more, "
                "layer/backtraces.py needs another way"
            )
