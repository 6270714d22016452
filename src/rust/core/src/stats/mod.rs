//! Numerics only: nothing here knows of files, matrices or R.
//!
//! Everything in this module is sequential and deterministic. The same input
//! gives the same bits on every machine, because sums are taken in the order of
//! their input, ranks and counts are integers, and elementary functions are not
//! the platform's. The exception is [`linalg`], whose kernels follow the
//! processor.

// Reference values are pasted as R prints them, and most results are exact.
#![cfg_attr(
    test,
    allow(
        clippy::approx_constant,
        clippy::unreadable_literal,
        clippy::excessive_precision,
        clippy::float_cmp
    )
)]

pub mod adjust;
pub mod binom;
pub mod dist;
pub mod dot;
pub mod draws;
pub mod glm;
mod lanczos;
pub mod linalg;
pub mod log1p;
pub mod logistic;
pub mod moments;
pub mod newton;
pub mod pairs;
pub mod powers;
pub mod random;
pub mod rank;
pub mod select;
mod student;
pub mod words;
