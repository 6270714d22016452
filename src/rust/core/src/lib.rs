//! Single-cell analysis out of memory.
