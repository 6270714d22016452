//! Getting the blocks of a view through the workers.

use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, SendTimeoutError, bounded};

use crate::ctx::{Ctx, POLL};
use crate::error::{Error, Result};
use crate::matrix::{Fetched, RowBlock, Scratch, Source};
use crate::transform::{View, ViewScratch};

/// Sends the blocks of `view` among `blocks` through `consume`, on the worker
/// threads, as they are decoded: in no particular order, each once. The calling
/// thread reads the file and polls the monitor.
///
/// `consume` gets the block's number in the grid and may take the block's
/// buffers, leaving others to be reused.
///
/// # Errors
/// The first error of reading, decoding or consuming, or an interruption.
pub fn stream<F>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    blocks: impl Iterator<Item = usize>,
    consume: F,
) -> Result<()>
where
    F: Fn(usize, &mut RowBlock) -> Result<()> + Sync,
{
    let grid = source.grid();
    let wanted: Vec<usize> = blocks.filter(|&b| view.touches(&grid.rows(b))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut reader = source.reader(ctx)?;
    let (send, receive) = bounded::<(usize, Box<dyn Fetched + '_>)>(ctx.threads());
    ctx.with_workers(
        |_, stop| {
            let (mut scratch, mut spare) = (Scratch::default(), ViewScratch::default());
            let mut block = RowBlock::default();
            while !stop.is_raised() {
                match receive.recv_timeout(POLL) {
                    Ok((number, fetched)) => {
                        fetched.decode(&mut scratch, &mut block)?;
                        view.apply(&mut block, &mut spare);
                        consume(number, &mut block)?;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            // Jobs that will not run release those who wait for their chunks.
            if stop.is_raised() {
                while receive.try_recv().is_ok() {}
            }
            Ok(())
        },
        move |stop| {
            let total = wanted.len() as u64;
            let mut polled = Instant::now();
            for (done, &number) in wanted.iter().enumerate() {
                let mut job = (number, reader.fetch(number)?);
                loop {
                    if stop.is_raised() {
                        return Err(Error::Interrupted);
                    }
                    match send.send_timeout(job, POLL) {
                        Ok(()) => break,
                        Err(SendTimeoutError::Timeout(back)) => job = back,
                        Err(SendTimeoutError::Disconnected(_)) => return Err(Error::Interrupted),
                    }
                    ctx.poll(stage, done as u64, total)?;
                    polled = Instant::now();
                }
                if polled.elapsed() > POLL {
                    ctx.poll(stage, done as u64, total)?;
                    polled = Instant::now();
                }
            }
            drop(send);
            while stop.running() > 0 {
                stop.wait(POLL);
                ctx.poll(stage, total, total)?;
            }
            Ok(())
        },
    )
}
