//! Damage: what a bad disk, a broken sender or an enemy makes of bytes that were right.

use fastrand::Rng;

/// Inputs do not grow over this: large ones find nothing that small ones do not.
const BYTES_MAX: usize = 8 << 10;

/// Lengths, counts and numbers where arithmetic goes wrong.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 62,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// One of the inputs, damaged in one to four ways.
pub fn mutate(rng: &mut Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(inputs).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=4) {
        damage(rng, &mut bytes, inputs);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    let end = rng.usize(at..=bytes.len());
    match rng.u8(..9) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        6 => overwrite(rng, bytes, at),
        7 => drop(bytes.splice(at..(at + 1).min(bytes.len()), varint(extreme(rng)))),
        _ => {
            let other = rng.choice(inputs).map_or(&[][..], Vec::as_slice);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
    }
}

fn extreme(rng: &mut Rng) -> u64 {
    EXTREMES[rng.usize(..EXTREMES.len())]
}

/// A number of 1 to 8 bytes, in either order.
fn overwrite(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let width = 1 << rng.usize(..4);
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let number = extreme(rng).to_le_bytes();
    field.copy_from_slice(&number[..width]);
    if rng.bool() {
        field.reverse();
    }
}

/// As protobuf writes numbers and lengths.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
