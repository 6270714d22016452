//! Times the engine on one file. Compare CPU seconds (`time`) on a busy machine.
//! usage: passes FILE {inflate|h5dread|decode|qc|qc-top|log1p|linear|moments} [threads]
//! `inflate` is the unit: the same chunks read, inflated and thrown away;
//! `h5dread` lets libhdf5 read them, on one thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::error::{Error, Result};
use scoom_core::h5ad::filters::Inflater;
use scoom_core::h5ad::raw::RawArray;
use scoom_core::matrix::{RowBlock, open_matrix};
use scoom_core::pass::{Pass, run};
use scoom_core::qc::{GeneSets, QcPass};
use scoom_core::summary::ColumnSummary;
use scoom_core::transform::{Chain, Op, View};

fn bare_inflate(path: &str, threads: usize) -> Result<u64> {
    let file = hdf5_metno::File::open(path).map_err(|_| Error::NotHdf5 { path: path.into() })?;
    let mut total = 0;
    for element in ["X/data", "X/indices"] {
        let array = RawArray::open(&file, Path::new(path), element)?;
        let (Some(pipeline), Some(&[chunk])) = (array.pipeline(), array.chunk.as_deref()) else {
            return Err(array.corrupt("it is not chunked".into()));
        };
        total += std::thread::scope(|scope| -> Result<u64> {
            let (queues, workers): (Vec<_>, Vec<_>) = (0..threads)
                .map(|_| {
                    let (send, receive) = sync_channel::<(Vec<u8>, u32)>(4);
                    let worker = scope.spawn(move || {
                        let (mut inflater, mut out) = (Inflater::default(), Vec::new());
                        let mut bytes = 0u64;
                        for (raw, mask) in receive {
                            pipeline.decode(&raw, mask, &mut inflater, &mut out).expect("a chunk");
                            bytes += out.len() as u64;
                        }
                        bytes
                    });
                    (send, worker)
                })
                .unzip();
            let n_chunks = array.dims[0].div_ceil(chunk);
            for (index, queue) in (0..n_chunks).zip(queues.iter().cycle()) {
                let mut raw = Vec::new();
                if let Some(mask) = array.read_chunk(&[index * chunk], &mut raw)? {
                    queue.send((raw, mask)).expect("a worker");
                }
            }
            drop(queues);
            Ok(workers.into_iter().map(|worker| worker.join().expect("a worker")).sum())
        })?;
    }
    Ok(total)
}

/// Takes the rows and forgets them.
struct Nothing;

impl Pass for Nothing {
    type Partial = u64;
    fn empty(&self) -> u64 {
        0
    }
    fn fold(&self, block: &RowBlock, partial: &mut u64) -> Result<()> {
        *partial += std::hint::black_box(block.nnz()) as u64;
        Ok(())
    }
    fn merge(&self, into: &mut u64, from: u64) {
        *into += from;
    }
}

fn library_read(path: &str) -> Result<u64> {
    const SLICE: u64 = 4 << 20;
    let file = hdf5_metno::File::open(path).map_err(|_| Error::NotHdf5 { path: path.into() })?;
    let (mut total, mut bytes) = (0, Vec::new());
    for element in ["X/data", "X/indices"] {
        let array = RawArray::open(&file, Path::new(path), element)?;
        let n = array.dims[0];
        let mut start = 0;
        while start < n {
            let count = SLICE.min(n - start);
            array.read_slab(&[start], &[count], &mut bytes)?;
            total += bytes.len() as u64;
            start += count;
        }
    }
    Ok(total)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a file");
    let mode = args.next().expect("a mode");
    let threads = args.next().map_or(2, |t| t.parse().expect("a number of threads"));
    let start = Instant::now();
    if mode == "inflate" {
        let bytes = bare_inflate(&path, threads)?;
        println!("inflate: {bytes} bytes, {:.3} s", start.elapsed().as_secs_f64());
        return Ok(());
    }
    if mode == "h5dread" {
        let bytes = library_read(&path)?;
        println!("h5dread: {bytes} bytes, {:.3} s", start.elapsed().as_secs_f64());
        return Ok(());
    }
    let at = path.clone();
    let open = Arc::new(move || {
        hdf5_metno::File::open(&at).map_err(|_| Error::NotHdf5 { path: (&at).into() })
    });
    let source = open_matrix(Path::new(&path), "X", open)?;
    let ctx = Ctx::new(threads, 2 << 30, std::env::temp_dir(), &Silent);
    let (n, m) = (source.n_obs(), source.n_vars());
    let mut ops = vec![];
    if !["decode", "qc", "qc-top"].contains(&mode.as_str()) {
        ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
    }
    let mut view = View::new(n, m, None, &Chain { ops, stored_log: None })?;
    if mode == "linear" || mode == "moments" {
        view = view.with_linear();
    }
    match mode.as_str() {
        "qc" | "qc-top" => {
            let sets = GeneSets::new(m, &[(0..m.min(13)).collect()])?;
            let tops = if mode == "qc" { vec![] } else { vec![50, 100, 200, 500] };
            let pass = QcPass::new(m, sets, tops)?;
            let partial = run(source.as_ref(), &view, &ctx, &mode, &pass)?;
            std::hint::black_box(pass.finish(&partial, n)?);
        }
        "moments" => {
            let (pass, view) = ColumnSummary::new(&view).with_linear().over(&view);
            let partial = run(source.as_ref(), &view, &ctx, &mode, &pass)?;
            std::hint::black_box(pass.finish(&partial)?);
        }
        _ => {
            run(source.as_ref(), &view, &ctx, &mode, &Nothing)?;
        }
    }
    println!("{mode}: {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
