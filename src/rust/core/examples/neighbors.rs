//! Times exact nearest neighbours.
//! usage: neighbors CELLS blob|groups|FILE [threads] [neighbours] [dimensions]
//! `blob` is one normal cloud whose variances decay, the worst case; `groups` has twelve
//! of them. A file has float64 values, one dimension after the other.

use std::path::PathBuf;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::graph::{Metric, Points, exact_neighbors};
use scoom_core::stats::random::Rng;

/// Seconds of processor time that all threads used so far, in steps of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|x| x.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Most memory held so far, in MB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|x| x.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Sums of uniform numbers around the middles of groups.
fn cloud(n: usize, d: usize, groups: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, 1);
    let mut normal = move || (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0;
    let middles: Vec<f64> = (0..groups * d).map(|_| normal()).collect();
    let between = if groups > 1 { 8.0 } else { 0.0 };
    let mut values = Vec::with_capacity(n * d);
    for j in 0..d {
        let spread = 1.0 / (1.0 + j as f64).sqrt();
        for i in 0..n {
            let middle = middles[(i % groups) * d + j] * between * spread;
            values.push(middle + (1.0 + 3.0 * spread) * normal());
        }
    }
    values
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, or: usize| args.get(at).and_then(|x| x.parse().ok()).unwrap_or(or);
    let (n, threads, k, d) = (number(1, 10_000), number(3, 2), number(4, 15), number(5, 50));
    let columns = match args.get(2).map_or("groups", String::as_str) {
        "blob" => cloud(n, d, 1),
        "groups" => cloud(n, d, 12),
        file => {
            let bytes = std::fs::read(file).expect("the file can be read");
            let value = |at: &[u8]| f64::from_le_bytes(at.try_into().expect("eight bytes"));
            bytes.chunks_exact(8).map(value).collect()
        }
    };
    let points = Points::from_columns(columns, n, Metric::Euclidean).expect("finite points");
    let ctx = Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent);
    let (start, used) = (Instant::now(), cpu());
    let found = exact_neighbors(&points, k, &ctx).expect("enough points");
    let sum = found.distance.iter().map(|x| x.to_bits()).fold(0_u64, u64::wrapping_add);
    let ids = found.index.iter().fold(0_u64, |s, &j| s.wrapping_mul(31).wrapping_add(j as u64));
    println!(
        "{n} points of {d} dimensions: {:.1} s, {:.1} s of processor time, peak {:.0} MB, check {:x}",
        start.elapsed().as_secs_f64(),
        cpu() - used,
        peak(),
        sum ^ ids
    );
}
