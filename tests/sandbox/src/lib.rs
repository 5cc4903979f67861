//! An emulated Lambda execution environment.
