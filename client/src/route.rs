//! Which partition holds a key. Every client must agree, whatever its language.

/// Position of a key in the list of partitions ordered by id: FNV-1a (32 bits) modulo their count.
///
/// # Panics
/// When there are no partitions.
pub fn position(key: &[u8], partitions: usize) -> usize {
    assert!(partitions > 0, "a key is placed among at least one partition");
    fnv1a(key) as usize % partitions
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_equal_those_of_other_clients() {
        for (key, expected) in [("", 1), ("a", 1), ("foo", 0), ("counter-1", 1)] {
            assert_eq!(position(key.as_bytes(), 3), expected, "key {key:?}");
        }
    }

    #[test]
    fn hash_equals_the_published_vectors() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut counts = [0; 16];
        for key in 0..1600 {
            counts[position(format!("key-{key}").as_bytes(), 16)] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
    }
}
