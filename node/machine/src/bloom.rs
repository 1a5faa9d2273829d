//! The Bloom filter by which a client names its open calls: JSON `{"m":M,"k":K,"b":"…"}` as the Go
//! library bits-and-blooms/bloom v3 writes it. `b` is base64 (URL-safe, padded) of an 8-byte
//! big-endian bit count and the words of the bit set, big-endian, least significant bit first.

use crate::limits::{FILTER_BYTES_MAX, FILTER_HASHES_MAX};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Number of bits that hashes are reduced to; at least 1.
    size: u64,
    hashes: u64,
    /// Bits that the set really has: none when the filter has no members.
    count: u64,
    words: Vec<u64>,
}

impl Filter {
    pub fn decode(json: &[u8]) -> Result<Self, String> {
        if json.len() > FILTER_BYTES_MAX {
            return Err(format!("longer than {FILTER_BYTES_MAX} bytes"));
        }
        let fields = Fields::parse(json)?;
        if fields.size == 0 {
            return Err("m must be at least 1".into());
        }
        let bytes = decode_base64(fields.bits)?;
        let mut words = Vec::with_capacity(bytes.len() / 8);
        for chunk in bytes.chunks(8) {
            let word = chunk.try_into().map_err(|_| "b is not made of 8-byte words")?;
            words.push(u64::from_be_bytes(word));
        }
        if words.is_empty() {
            return Err("b has no bit count".into());
        }
        let count = words.remove(0);
        if count.div_ceil(64) != words.len() as u64 {
            return Err(format!("b counts {count} bits but has {} words", words.len()));
        }
        let hashes = fields.hashes.min(FILTER_HASHES_MAX);
        Ok(Self { size: fields.size, hashes, count, words })
    }

    /// No number is a member.
    pub fn is_empty(&self) -> bool {
        self.hashes > 0 && self.words.iter().all(|word| *word == 0)
    }

    /// True for every member, and for about one in twenty others.
    pub fn contains(&self, number: u64) -> bool {
        let hashes = base_hashes(number);
        (0..self.hashes).all(|i| self.bit(location(&hashes, i) % self.size))
    }

    fn bit(&self, index: u64) -> bool {
        index < self.count && self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }
}

fn location(hashes: &[u64; 4], i: u64) -> u64 {
    let step = hashes[2 + (((i + i % 2) % 4) / 2) as usize];
    hashes[(i % 2) as usize].wrapping_add(i.wrapping_mul(step))
}

fn base_hashes(number: u64) -> [u64; 4] {
    let mut member = [1; 9];
    member[..8].copy_from_slice(&number.to_be_bytes());
    let [first, second] = murmur3(&member[..8]);
    let [third, fourth] = murmur3(&member);
    [first, second, third, fourth]
}

/// MurmurHash3 x64-128 with seed 0, for inputs shorter than one 16-byte block.
fn murmur3(input: &[u8]) -> [u64; 2] {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    assert!(input.len() < 16, "only tails are needed");
    let mut tail = [0; 16];
    tail[..input.len()].copy_from_slice(input);
    let low = u64::from_le_bytes(tail[..8].try_into().expect("8 bytes"));
    let high = u64::from_le_bytes(tail[8..].try_into().expect("8 bytes"));
    let mut h1 = low.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mut h2 = high.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h1 ^= input.len() as u64;
    h2 ^= input.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = mix(h1);
    h2 = mix(h2);
    h1 = h1.wrapping_add(h2);
    [h1, h2.wrapping_add(h1)]
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The three members of the JSON object. A parser for just this shape: the pure crates take no
/// dependency for one object.
struct Fields<'a> {
    size: u64,
    hashes: u64,
    bits: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(json).map_err(|_| "not UTF-8")?.trim();
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let (mut size, mut hashes, mut bits) = (None, None, None);
        // No value holds a comma or a colon: numbers do not, nor does base64.
        for member in inner.ok_or("not a JSON object")?.split(',') {
            let (name, value) = member.split_once(':').ok_or("member without value")?;
            let value = value.trim();
            match name.trim() {
                "\"m\"" => size = Some(parse_number(value)?),
                "\"k\"" => hashes = Some(parse_number(value)?),
                "\"b\"" => bits = Some(parse_string(value)?),
                _ => return Err("unknown member".into()),
            }
        }
        Ok(Self {
            size: size.ok_or("m is absent")?,
            hashes: hashes.ok_or("k is absent")?,
            bits: bits.ok_or("b is absent")?,
        })
    }
}

fn parse_number(text: &str) -> Result<u64, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("m and k must be unsigned integers".into());
    }
    text.parse().map_err(|_| "m and k must fit 64 bits".into())
}

fn parse_string(text: &str) -> Result<&str, String> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.ok_or_else(|| "b must be a string".into())
}

fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(4) {
        return Err("b is not padded base64".into());
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return Err("b is not padded base64".into());
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        held = held << 6 | u32::from(base64_value(digit).ok_or("b is not URL-safe base64")?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Ok(bytes)
}

fn base64_value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the Go library for these members.
    const VECTORS: [(&str, &[u64]); 5] = [
        (r#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#, &[1]),
        (r#"{"m":13,"k":5,"b":"AAAAAAAAAA0AAAAAAAAZFA=="}"#, &[1, 2]),
        (r#"{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAYgtQ=="}"#, &[1, 2, 3]),
        (r#"{"m":25,"k":5,"b":"AAAAAAAAABkAAAAAAQh5Pw=="}"#, &[5, 7, 9, 11]),
        (r#"{"m":63,"k":5,"b":"AAAAAAAAAD9Wo9Km_1XHSQ=="}"#, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ];

    fn members(json: &str, upto: u64) -> Vec<u64> {
        let filter = Filter::decode(json.as_bytes()).unwrap();
        (1..=upto).filter(|number| filter.contains(*number)).collect()
    }

    #[test]
    fn members_written_by_the_go_library_are_found() {
        for (json, expected) in VECTORS {
            let found = members(json, 200);
            assert!(expected.iter().all(|number| found.contains(number)), "{json}");
            assert!(found.len() < expected.len() + 40, "{json} finds {}", found.len());
        }
        let hundreds = members(r#"{"m":125,"k":5,"b":"AAAAAAAAAH3JS8tvdHOYfx2J0nT5oHkG"}"#, 119);
        assert!((100..=119).all(|number| hundreds.contains(&number)));
    }

    #[test]
    fn the_known_false_positive_is_the_first() {
        assert_eq!(members(VECTORS[0].0, 8), [1, 8]);
    }

    #[test]
    fn locations_are_those_of_the_go_library() {
        let hashes = base_hashes(1);
        let locations: Vec<u64> = (0..5).map(|i| location(&hashes, i)).collect();
        let expected = [
            6_292_367_497_774_912_474,
            2_987_710_853_698_389_571,
            12_149_333_047_131_112_884,
            14_633_928_017_247_729_253,
            1_129_641_983_798_763_502,
        ];
        assert_eq!(locations, expected);
    }

    #[test]
    fn a_filter_without_members_contains_nothing_on_any_architecture() {
        for hashes in ["9223372036854775808", "1"] {
            let json = format!(r#"{{"m":1,"k":{hashes},"b":"AAAAAAAAAAA="}}"#);
            let filter = Filter::decode(json.as_bytes()).unwrap();
            assert!(filter.is_empty());
            assert!((0..1000).all(|number| !filter.contains(number)));
        }
    }

    #[test]
    fn malformed_filters_are_refused() {
        let malformed = [
            "",
            "{}",
            "null",
            "[1]",
            r#"{"m":0,"k":5,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":-1,"k":5,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":7,"k":99999999999999999999,"b":"AAAAAAAAAAA="}"#,
            r#"{"m":7,"k":5}"#,
            r#"{"m":7,"k":5,"b":""}"#,
            r#"{"m":7,"k":5,"b":"AAAA"}"#,
            r#"{"m":7,"k":5,"b":"AAAAAAAAAAc="}"#,
            r#"{"m":7,"k":5,"b":"//////////8="}"#,
            r#"{"m":7,"k":5,"b":"_____________w=="}"#,
            "\u{1}{\"m\":7",
        ];
        for json in malformed {
            assert!(Filter::decode(json.as_bytes()).is_err(), "{json}");
        }
        assert!(Filter::decode(&[0xff, 0xfe]).is_err());
        assert!(Filter::decode(&vec![b' '; FILTER_BYTES_MAX + 1]).is_err());
    }
}
