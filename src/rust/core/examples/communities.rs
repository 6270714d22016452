//! Times communities of a graph of nearest neighbours.
//! usage: communities CELLS ring|FILE [leiden|stable|louvain] [resolution] [seed] [neighbours]
//! `ring` has neighbours at random distances along a ring, around twenty places of it, as quick
//! to make as to read. A file has the int32 offsets of a symmetric matrix of CELLS nodes, its int32
//! columns, then its float64 values.

use std::path::PathBuf;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::graph::{
    Kernel, Method, Neighbors, Network, Objective, communities, connectivities, modularity,
};
use scoom_core::stats::random::Rng;

/// Seconds of processor time so far, in steps of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|x| x.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A number of bytes in /proc/self/status.
fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|x| x.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// Offsets, columns and values.
type Parts = (Vec<u32>, Vec<u32>, Vec<f64>);

/// Each node has `k` others of its region, most of them near, in random order of nodes.
fn ring(n: usize, k: usize, ctx: &Ctx) -> Parts {
    let mut rng = Rng::new(1, 1);
    let mut name: Vec<u32> = (0..n as u32).collect();
    for at in (1..n).rev() {
        name.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let (mut index, mut distance) = (vec![0; n * k], vec![0.0; n * k]);
    for place in 0..n {
        let cell = name[place] as usize;
        let mut own: Vec<(f64, usize)> = Vec::new();
        while own.len() < k {
            let far = 1.0 + 3.0 * k as f64 * (rng.uniform() + rng.uniform()).powi(8) / 16.0;
            let step = far as usize % n.max(2);
            let other = if rng.below(2) == 0 { place + step } else { place + n - step } % n;
            if other != place && own.iter().all(|&(_, o)| o != other) {
                own.push((far, other));
            }
        }
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, (far, other)) in own.into_iter().enumerate() {
            index[cell * k + at] = name[other];
            distance[cell * k + at] = far;
        }
    }
    let graph = connectivities(&Neighbors { k, index, distance }, Kernel::Umap, ctx);
    let graph = graph.expect("nothing stops it");
    let offsets = graph.offsets.iter().map(|&at| at as u32).collect();
    (offsets, graph.columns, graph.values)
}

fn read(file: &str, n: usize) -> Parts {
    let bytes = std::fs::read(file).expect("the file can be read");
    let whole = |at: &[u8]| u32::from_le_bytes(at.try_into().expect("four bytes"));
    let value = |at: &[u8]| f64::from_le_bytes(at.try_into().expect("eight bytes"));
    let (offsets, rest) = bytes.split_at(4 * (n + 1));
    let offsets: Vec<u32> = offsets.chunks_exact(4).map(whole).collect();
    let (columns, values) = rest.split_at(4 * offsets[n] as usize);
    (
        offsets,
        columns.chunks_exact(4).map(whole).collect(),
        values.chunks_exact(8).map(value).collect(),
    )
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let text = |at: usize, or: &str| args.get(at).map_or(or, String::as_str).to_owned();
    let n: usize = text(1, "100000").parse().expect("a number of cells");
    let k = text(6, "14").parse().expect("a number of neighbours");
    let ctx = Ctx::new(2, 1 << 30, PathBuf::new(), &Silent);
    let (offsets, columns, values) = match text(2, "ring").as_str() {
        "ring" => ring(n, k, &ctx),
        file => read(file, n),
    };
    let method = match text(3, "leiden").as_str() {
        "louvain" => Method::Louvain,
        "stable" => Method::Leiden { n_iterations: None, beta: 0.01 },
        _ => Method::Leiden { n_iterations: Some(2), beta: 0.01 },
    };
    let resolution = text(4, "1").parse().expect("a resolution");
    let seed = text(5, "0").parse().expect("a seed");
    // From here on the peak is counted anew, where the system lets it.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (held, start, used) = (status("VmRSS"), Instant::now(), cpu());
    let graph = Network::new(&offsets, &columns, &values, Objective::Modularity);
    let graph = graph.expect("symmetric weights");
    let of = communities(&graph, method, resolution, seed, &ctx).expect("nothing stops it");
    let seconds = start.elapsed().as_secs_f64();
    let peak = (status("VmHWM") - held) / n as f64;
    let check = of.iter().fold(0_u64, |sum, &c| sum.wrapping_mul(31).wrapping_add(u64::from(c)));
    println!(
        "{n} nodes, {} entries: {} communities, modularity {:.6}, {seconds:.2} s, {:.2} s of processor \
         time, {peak:.0} bytes a node, check {check:x}",
        columns.len(),
        of.iter().max().map_or(0, |&last| last + 1),
        modularity(&graph, &of),
        cpu() - used,
    );
}
