//! Which count subtask a word belongs to. The hash is our own and fixed for ever: a job that is taken up by another version
//! must send a word to the subtask that holds its count.

/// FNV-1a over the bytes, then the finaliser of MurmurHash3, because the low bits of FNV alone are poor for short words.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The subtask, below `parallelism`, that counts `word`.
pub fn partition(word: &[u8], parallelism: u32) -> u32 {
    debug_assert!(parallelism > 0, "a job has at least one subtask");
    let of = u64::from(parallelism.max(1));
    u32::try_from(stable_hash(word) % of).expect("the remainder is below a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(stable_hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(partition(b"", 1), 0);
        let spread: std::collections::BTreeSet<u32> =
            (0..64).map(|n| partition(format!("w{n}").as_bytes(), 4)).collect();
        assert_eq!(spread.len(), 4);
    }
}
