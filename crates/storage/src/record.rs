//! How opaque bytes lie in sled: one record, its header, cut into items.
//!
//! ```text
//! header  version u8 | length u32 | crc32 u32 | before u32     big-endian
//! items   key = index u64 | part u16, big-endian; value = the next ITEM_BYTES of header + payload
//! ```
//! The checksum covers index, length, `before` and payload; `before` is the checksum of the record one index lower, so that
//! the log is a chain: a page that falls back to an older state breaks it, although every record in it is whole.
//!
//! It does not know sled. It keeps true: a record comes back whole and unchanged under its own index, or not at all.

use bytes::{BufMut, Bytes, BytesMut};

/// The largest item. sled writes a page above a quarter segment to a separate file that it never syncs; a leaf holds up
/// to 17 items, and 17 x 24 KiB stays below a quarter of 2 MiB.
pub(crate) const ITEM_BYTES: usize = 24 * 1024;

/// The first byte of every record.
pub(crate) const VERSION: u8 = 1;

/// version, length, checksum, checksum of the record before.
pub(crate) const HEADER_BYTES: usize = 1 + 4 + 4 + 4;

/// What stands for "the record before" where there is none.
pub(crate) const NONE_BEFORE: u32 = 0;

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) payload: Bytes,
    /// Its own checksum.
    pub(crate) checksum: u32,
    /// The checksum of the record one index lower.
    pub(crate) before: u32,
}

const KEY_BYTES: usize = 8 + 2;

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Shorter than its header says.
    #[error("it ends early")]
    Torn,
    /// Longer than its header says.
    #[error("it goes on after its end")]
    TooLong,
    /// Its checksum differs.
    #[error("its checksum is wrong")]
    Checksum,
    /// A later version wrote it.
    #[error("its version is {0}, this program reads 1")]
    Version(u8),
}

/// The key of one item.
pub(crate) fn key(index: u64, part: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The index and part of a key; `None` if it is not one of ours.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part.try_into().ok()?)))
}

/// Header and payload as one piece, to be cut with [`items`].
pub(crate) fn encode(index: u64, before: u32, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("records are limited far below 4 GiB before they come here");
    let mut record = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    record.put_u8(VERSION);
    record.put_u32(length);
    record.put_u32(checksum(index, length, before, payload));
    record.put_u32(before);
    record.put_slice(payload);
    record.freeze()
}

/// The checksum that the beginning of a record carries, unchecked.
pub(crate) fn checksum_of(record: &[u8]) -> Option<u32> {
    let header = record.first_chunk::<HEADER_BYTES>()?;
    Some(u32::from_be_bytes([header[5], header[6], header[7], header[8]]))
}

/// The items of an encoded record with their part numbers; at least one.
pub(crate) fn items(record: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    record.chunks(ITEM_BYTES).enumerate().map(|(part, item)| {
        let part = u16::try_from(part).expect("records are limited far below 65,536 items before they come here");
        (part, item)
    })
}

/// Checks an assembled record and takes it apart.
pub(crate) fn decode(index: u64, record: Bytes) -> Result<Record, RecordError> {
    let Some((header, payload)) = record.split_first_chunk::<HEADER_BYTES>() else { return Err(RecordError::Torn) };
    if header[0] != VERSION {
        return Err(RecordError::Version(header[0]));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (length, expected, before) = (number(1), number(5), number(9));
    match payload.len().cmp(&(length as usize)) {
        std::cmp::Ordering::Less => return Err(RecordError::Torn),
        std::cmp::Ordering::Greater => return Err(RecordError::TooLong),
        std::cmp::Ordering::Equal => {}
    }
    if checksum(index, length, before, payload) != expected {
        return Err(RecordError::Checksum);
    }
    Ok(Record { payload: record.slice(HEADER_BYTES..), checksum: expected, before })
}

fn checksum(index: u64, length: u32, before: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_be_bytes());
    hasher.update(&length.to_be_bytes());
    hasher.update(&before.to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_only_unchanged_and_under_its_own_index() {
        let payload = vec![7; 3 * ITEM_BYTES];
        let record = encode(5, 77, &payload);
        let read = decode(5, record.clone()).expect("it is whole");
        assert_eq!((read.payload, read.before), (Bytes::from(payload), 77));
        assert_eq!(checksum_of(&record), Some(read.checksum));
        assert_eq!(decode(6, record.clone()), Err(RecordError::Checksum), "under another index");
        assert_eq!(decode(5, record.slice(..record.len() - 1)), Err(RecordError::Torn));
        let mut longer = record.to_vec();
        longer.push(0);
        assert_eq!(decode(5, longer.into()), Err(RecordError::TooLong));
        for at in [1, 6, 10, HEADER_BYTES, record.len() - 1] {
            let mut flipped = record.to_vec();
            flipped[at] ^= 1;
            assert!(decode(5, flipped.into()).is_err(), "a flipped bit in byte {at}");
        }
        let mut newer = record.to_vec();
        newer[0] = 2;
        assert_eq!(decode(5, newer.into()), Err(RecordError::Version(2)));
    }

    #[test]
    fn a_record_is_cut_so_that_no_item_passes_the_limit() {
        for (payload, expected) in
            [(0, 1), (ITEM_BYTES - HEADER_BYTES, 1), (ITEM_BYTES - HEADER_BYTES + 1, 2), (3 * ITEM_BYTES, 4)]
        {
            let record = encode(1, NONE_BEFORE, &vec![1; payload]);
            assert_eq!(items(&record).count(), expected, "{payload} bytes");
            assert!(items(&record).all(|(_, item)| item.len() <= ITEM_BYTES));
        }
    }

    #[test]
    fn keys_sort_like_their_indexes() {
        assert!(key(1, 65_535) < key(2, 0));
        assert!(key(255, 0) < key(256, 0));
        assert_eq!(parse_key(&key(300, 7)), Some((300, 7)));
        assert_eq!(parse_key(b"short"), None);
    }
}
