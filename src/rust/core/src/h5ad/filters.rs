//! Undoing HDF5's chunk filters outside libhdf5, so that every worker inflates
//! its own chunks.
//!
//! Covered: gzip (libdeflate), shuffle, fletcher32 (verified), lzf, zstd, lz4.
//! A chunk's filter mask says which filters the writer skipped for that chunk.
//! Memory: one or two buffers of a chunk's decoded size per worker.

use std::io::Read;

use libdeflater::Decompressor;

/// The registered number of h5py's lzf.
pub const LZF: i32 = 32000;
/// The registered number of lz4.
pub const LZ4: i32 = 32004;
/// The registered number of zstd.
pub const ZSTD: i32 = 32015;

/// One filter of a dataset's pipeline, as stored in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterSpec {
    /// HDF5's registered number.
    pub id: i32,
    /// The filter's client data.
    pub parameters: Vec<u32>,
}

impl FilterSpec {
    /// The name people know the filter by.
    #[must_use]
    pub fn name(&self) -> String {
        match self.id {
            1 => "gzip".into(),
            2 => "shuffle".into(),
            3 => "fletcher32".into(),
            4 => "szip".into(),
            5 => "nbit".into(),
            6 => "scaleoffset".into(),
            307 => "bzip2".into(),
            32000 => "lzf".into(),
            32001 => "blosc".into(),
            32004 => "lz4".into(),
            32008 => "bitshuffle".into(),
            32013 => "zfp".into(),
            32015 => "zstd".into(),
            32026 => "blosc2".into(),
            other => format!("filter {other}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Deflate,
    Shuffle,
    Fletcher32,
    Lzf,
    Lz4,
    Zstd,
}

/// A dataset's filters in the order in which they were applied.
#[derive(Debug, Clone)]
pub struct Pipeline {
    codecs: Vec<Codec>,
    element_bytes: usize,
    chunk_bytes: usize,
}

/// A worker's reusable buffers and decompressors.
pub struct Inflater {
    deflate: Decompressor,
    spare: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater { deflate: Decompressor::new(), spare: Vec::new() }
    }
}

impl Pipeline {
    /// The pipeline for chunks of `chunk_bytes` made of elements of
    /// `element_bytes`, or `None` when a filter among `specs` is not known here.
    #[must_use]
    pub fn new(specs: &[FilterSpec], element_bytes: usize, chunk_bytes: usize) -> Option<Self> {
        let codecs = specs
            .iter()
            .map(|spec| match spec.id {
                1 => Some(Codec::Deflate),
                2 => Some(Codec::Shuffle),
                3 => Some(Codec::Fletcher32),
                LZF => Some(Codec::Lzf),
                LZ4 => Some(Codec::Lz4),
                ZSTD => Some(Codec::Zstd),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Pipeline { codecs, element_bytes, chunk_bytes })
    }

    /// Decodes one chunk into `out`, which becomes exactly a chunk long.
    /// `mask` has bit `i` set where filter `i` was skipped for this chunk.
    ///
    /// # Errors
    /// A sentence about what is wrong with the bytes.
    pub fn decode(
        &self,
        raw: &[u8],
        mask: u32,
        inflater: &mut Inflater,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let steps: Vec<Codec> = self
            .codecs
            .iter()
            .enumerate()
            .rev()
            .filter(|(i, _)| mask & (1 << i) == 0)
            .map(|(_, codec)| *codec)
            .collect();
        let mut spare = std::mem::take(&mut inflater.spare);
        let outcome = self.run(&steps, raw, inflater, &mut spare, out);
        inflater.spare = spare;
        outcome?;
        if out.len() != self.chunk_bytes {
            return Err(format!("a chunk of {} bytes holds {}", self.chunk_bytes, out.len()));
        }
        Ok(())
    }

    fn run(
        &self,
        steps: &[Codec],
        raw: &[u8],
        inflater: &mut Inflater,
        spare: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Some((first, rest)) = steps.split_first() else {
            out.clear();
            out.extend_from_slice(raw);
            return Ok(());
        };
        self.step(*first, raw, inflater, out)?;
        for codec in rest {
            std::mem::swap(out, spare);
            self.step(*codec, spare, inflater, out)?;
        }
        Ok(())
    }

    fn step(
        &self,
        codec: Codec,
        from: &[u8],
        inflater: &mut Inflater,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        // fletcher32 may sit before or behind the compressor, so a decoded
        // stage can be longer than a chunk by its checksum.
        let room = self.chunk_bytes + 4;
        match codec {
            Codec::Deflate => {
                out.resize(room, 0);
                let n = inflater
                    .deflate
                    .zlib_decompress(from, out)
                    .map_err(|e| format!("gzip: {e}"))?;
                out.truncate(n);
            }
            Codec::Shuffle => unshuffle(from, self.element_bytes, out),
            Codec::Fletcher32 => {
                let body = verified_body(from)?;
                out.clear();
                out.extend_from_slice(body);
            }
            Codec::Lzf => {
                out.clear();
                lzf_decode(from, room, out)?;
            }
            Codec::Lz4 => lz4_decode(from, room, out)?,
            Codec::Zstd => {
                out.resize(room, 0);
                let n = zstd::bulk::decompress_to_buffer(from, out.as_mut_slice())
                    .map_err(|e| format!("zstd: {e}"))?;
                out.truncate(n);
            }
        }
        Ok(())
    }
}

/// Decodes one stream of the filters lzf, lz4 and zstd, outside of a pipeline and
/// without knowing how long it becomes.
///
/// # Errors
/// A sentence about what is wrong with the bytes.
pub(crate) fn decode_stream(id: i32, parameters: &[u32], from: &[u8]) -> Result<Vec<u8>, String> {
    // A chunk has less than 4 GiB, and one byte of an lzf copy makes 264 at most.
    let longest = u32::MAX as usize;
    let mut out = Vec::new();
    match id {
        LZF => {
            let stated = parameters.get(2).map_or(0, |&n| n as usize);
            let room = if stated > 0 { stated } else { longest };
            lzf_decode(from, room, &mut out)?;
        }
        LZ4 => lz4_decode(from, longest, &mut out)?,
        ZSTD => {
            let limited = zstd::stream::read::Decoder::new(from)
                .map(|decoder| decoder.take(longest as u64))
                .and_then(|mut decoder| decoder.read_to_end(&mut out));
            limited.map_err(|e| format!("zstd: {e}"))?;
        }
        other => return Err(format!("filter {other} is not known here")),
    }
    Ok(out)
}

/// Brings the bytes of each element together again; a tail that is no whole
/// element is kept as it is, as HDF5 does.
fn unshuffle(from: &[u8], width: usize, out: &mut Vec<u8>) {
    let n = from.len() / width.max(1);
    out.clear();
    out.resize(from.len(), 0);
    if width <= 1 || n <= 1 {
        out.copy_from_slice(from);
        return;
    }
    match width {
        2 => unshuffle_fixed::<2>(from, n, out),
        4 => unshuffle_fixed::<4>(from, n, out),
        8 => unshuffle_fixed::<8>(from, n, out),
        _ => {
            for byte in 0..width {
                for (i, &b) in from[byte * n..(byte + 1) * n].iter().enumerate() {
                    out[i * width + byte] = b;
                }
            }
        }
    }
    let whole = n * width;
    out[whole..].copy_from_slice(&from[whole..]);
}

fn unshuffle_fixed<const W: usize>(from: &[u8], n: usize, out: &mut [u8]) {
    let planes: [&[u8]; W] = std::array::from_fn(|b| &from[b * n..(b + 1) * n]);
    for (i, element) in out.chunks_exact_mut(W).take(n).enumerate() {
        for b in 0..W {
            element[b] = planes[b][i];
        }
    }
}

/// The bytes before the trailing checksum, after comparing it.
fn verified_body(from: &[u8]) -> Result<&[u8], String> {
    let Some(split) = from.len().checked_sub(4) else {
        return Err("fletcher32: no checksum".into());
    };
    let (body, tail) = from.split_at(split);
    let stored = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let sum = fletcher32(body);
    // Files written by HDF5 before 1.6.3 on little-endian machines hold the
    // checksum with the bytes of each half swapped.
    let swapped = ((sum & 0x00ff_00ff) << 8) | ((sum >> 8) & 0x00ff_00ff);
    if stored == sum || stored == swapped {
        Ok(body)
    } else {
        Err("fletcher32: the checksum does not match".into())
    }
}

/// HDF5's Fletcher checksum over big-endian 16-bit words.
fn fletcher32(data: &[u8]) -> u32 {
    let (mut sum1, mut sum2) = (0u32, 0u32);
    let words = data.chunks_exact(2);
    let odd = words.remainder().first().copied();
    let mut count = 0;
    for word in words {
        sum1 += u32::from(u16::from_be_bytes([word[0], word[1]]));
        sum2 += sum1;
        count += 1;
        if count == 360 {
            count = 0;
            sum1 = (sum1 & 0xffff) + (sum1 >> 16);
            sum2 = (sum2 & 0xffff) + (sum2 >> 16);
        }
    }
    if let Some(byte) = odd {
        sum1 += u32::from(byte) << 8;
        sum2 += sum1;
    }
    for _ in 0..2 {
        sum1 = (sum1 & 0xffff) + (sum1 >> 16);
        sum2 = (sum2 & 0xffff) + (sum2 >> 16);
    }
    (sum2 << 16) | sum1
}

/// Marc Lehmann's LZF, as h5py's filter writes it.
fn lzf_decode(from: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let bad = || "lzf: the stream is damaged".to_owned();
    let mut i = 0;
    while i < from.len() {
        let control = from[i] as usize;
        i += 1;
        if control < 32 {
            let run = from.get(i..=i + control).ok_or_else(bad)?;
            out.extend_from_slice(run);
            i += control + 1;
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += *from.get(i).ok_or_else(bad)? as usize;
                i += 1;
            }
            length += 2;
            let low = *from.get(i).ok_or_else(bad)? as usize;
            i += 1;
            let distance = ((control & 0x1f) << 8) + low + 1;
            let start = out.len().checked_sub(distance).ok_or_else(bad)?;
            if distance >= length {
                out.extend_from_within(start..start + length);
            } else {
                for k in 0..length {
                    out.push(out[start + k]);
                }
            }
        }
        if out.len() > room {
            return Err(bad());
        }
    }
    Ok(())
}

/// The registered LZ4 filter's framing: big-endian total and block sizes, then
/// blocks, each with its compressed size; a block that did not shrink is stored.
fn lz4_decode(from: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let bad = || "lz4: the stream is damaged".to_owned();
    let total = from.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let block = from.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let (Some(total), Some(block)) = (total, block) else {
        return Err(bad());
    };
    let (total, block) = (usize::try_from(total).map_err(|_| bad())?, block as usize);
    if total > room || block == 0 {
        return Err(bad());
    }
    out.clear();
    out.resize(total, 0);
    let (mut at, mut done) = (12, 0);
    while done < total {
        let length = block.min(total - done);
        let packed = from
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or_else(bad)? as usize;
        let bytes = from.get(at + 4..at + 4 + packed).ok_or_else(bad)?;
        let into = &mut out[done..done + length];
        if packed == length {
            into.copy_from_slice(bytes);
        } else {
            let n =
                lz4_flex::block::decompress_into(bytes, into).map_err(|e| format!("lz4: {e}"))?;
            if n != length {
                return Err(bad());
            }
        }
        at += 4 + packed;
        done += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: i32) -> FilterSpec {
        FilterSpec { id, parameters: vec![] }
    }

    fn decode(
        ids: &[i32],
        raw: &[u8],
        mask: u32,
        width: usize,
        n: usize,
    ) -> Result<Vec<u8>, String> {
        let specs: Vec<_> = ids.iter().map(|id| spec(*id)).collect();
        let pipeline = Pipeline::new(&specs, width, n).expect("known filters");
        let mut out = Vec::new();
        pipeline.decode(raw, mask, &mut Inflater::default(), &mut out).map(|()| out)
    }

    #[test]
    fn unshuffle_restores_elements_of_any_width() {
        for width in [1, 2, 3, 4, 8] {
            let n = 5;
            let plain: Vec<u8> = (0..(n * width) as u8).collect();
            let mut shuffled = vec![0; plain.len()];
            for i in 0..n {
                for b in 0..width {
                    shuffled[b * n + i] = plain[i * width + b];
                }
            }
            assert_eq!(decode(&[2], &shuffled, 0, width, plain.len()).unwrap(), plain);
        }
    }

    #[test]
    fn a_skipped_filter_is_not_undone() {
        let plain = [1u8, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(decode(&[2, 1], &plain, 0b11, 4, 8).unwrap(), plain);
    }

    #[test]
    fn fletcher32_is_verified() {
        let mut stored = vec![1u8, 2, 3, 4, 5];
        let sum = fletcher32(&stored);
        stored.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&[3], &stored, 0, 1, 5).unwrap(), [1, 2, 3, 4, 5]);
        stored[0] ^= 1;
        assert!(decode(&[3], &stored, 0, 1, 5).is_err());
    }

    #[test]
    fn lzf_copies_runs_and_back_references() {
        // "abc" literally, then 6 bytes from 3 back, overlapping itself.
        let stream = [2, b'a', b'b', b'c', 4 << 5, 2];
        assert_eq!(decode(&[32000], &stream, 0, 1, 9).unwrap(), b"abcabcabc");
        assert!(decode(&[32000], &stream[..5], 0, 1, 9).is_err());
    }

    #[test]
    fn damaged_streams_are_errors() {
        for id in [1, 32000, 32004, 32015] {
            assert!(decode(&[id], &[0xff; 7], 0, 4, 64).is_err(), "filter {id}");
        }
    }

    #[test]
    fn unknown_filters_are_left_to_the_library() {
        assert!(Pipeline::new(&[spec(32001)], 4, 64).is_none());
        assert_eq!(spec(32001).name(), "blosc");
    }
}
