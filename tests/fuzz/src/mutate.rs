//! A small mutator for every day; campaigns leave the choice to libFuzzer.

/// A stream of numbers from a seed (splitmix64): the same seed draws the same inputs.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

const TELLING: &[&[u8]] = &[
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff",
    b"\"",
    b"\\",
    b"\r\n",
    b"\n",
    b",",
    b"PAR1",
    b"\xc3\x28",
    b"%00",
    b"@",
    b"://",
];

/// Changes an input in a few places, or joins it with another.
pub fn mutate(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8], bytes_max: usize) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        match dice.below(7) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = dice.below(256) as u8,
            2 => input.insert(at, dice.below(256) as u8),
            3 if at < input.len() => {
                let end = (at + 1 + dice.below(16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let piece = TELLING[dice.below(TELLING.len())];
                let end = (at + piece.len() * dice.below(2)).min(input.len());
                input.splice(at..end, piece.iter().copied());
            }
            5 if !other.is_empty() => {
                let from = dice.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = (at + 1 + dice.below(32)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = dice.below(input.len() + 1);
                input.splice(to..to, piece);
            }
        }
    }
    input.truncate(bytes_max);
}
