//! Numerics only: nothing here knows of files, matrices or R.

pub mod log1p;
