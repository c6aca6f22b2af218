//! Fuzzing on the stable toolchain: inputs grow from recorded ones by chance and are held against a
//! property, and one that leads somewhere new is kept and grown further. What is new is what the
//! property says it saw, since the stable compiler counts no branches. It never decides what is
//! right: that is the property's to say, by panicking.
//!
//! The suite tries a fixed number of inputs from a fixed seed. `tests/fuzz/run SECONDS` goes on for
//! so long, from another seed each time; `INTERLOCK_FUZZ_SEED` names the seed of a run that found
//! something.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::{RngExt as _, SeedableRng as _};

/// How many inputs the suite tries.
const INPUTS: u64 = 1_500;
/// Inputs that are kept at the most; beyond that a new one takes the place of an old one.
const KEPT: usize = 4_096;
/// Inputs do not grow beyond this.
const LONGEST: usize = 16_384;
/// Tries to make an input smaller that breaks the property.
const SHRINKING: usize = 2_000;

/// Something to fuzz.
#[derive(Debug)]
pub struct Fuzz {
    /// What is printed.
    pub name: &'static str,
    /// Good inputs to begin with.
    pub seeds: Vec<Vec<u8>>,
    /// Pieces that chance alone would not find.
    pub words: &'static [&'static str],
}

/// What a property saw, for telling new from known.
pub fn saw(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Fuzz {
    /// Tries inputs until their number or the time is used up. Fails with the smallest input found
    /// that breaks the property.
    pub fn run(mut self, mut property: impl FnMut(&[u8]) -> u64) {
        let seconds = variable("INTERLOCK_FUZZ_SECONDS");
        let seed = variable("INTERLOCK_FUZZ_SEED").unwrap_or(1);
        let mut chance = Rng::seed_from_u64(seed);
        let began = Instant::now();
        let mut known = HashSet::new();
        for input in self.seeds.clone() {
            known.insert(self.hold(&mut property, &input, seed));
        }
        let mut tried = 0_u64;

        while seconds.map_or(tried < INPUTS, |s| began.elapsed() < Duration::from_secs(s)) {
            let input = self.grown(&mut chance);
            tried += 1;
            if known.insert(self.hold(&mut property, &input, seed)) {
                self.keep(input, &mut chance);
            }
        }

        let (name, kept, took) = (self.name, self.seeds.len(), began.elapsed().as_secs());
        println!(
            "fuzz {name}: {tried} inputs in {took} s from seed {seed}, {kept} kept, 0 findings"
        );
    }

    fn keep(&mut self, input: Vec<u8>, chance: &mut Rng) {
        if self.seeds.len() < KEPT {
            self.seeds.push(input);
        } else {
            let place = chance.random_range(0..KEPT);
            self.seeds[place] = input;
        }
    }

    /// What the property saw in an input.
    fn hold(&self, property: &mut impl FnMut(&[u8]) -> u64, input: &[u8], seed: u64) -> u64 {
        let panic = match catch_unwind(AssertUnwindSafe(|| property(input))) {
            Ok(seen) => return seen,
            Err(panic) => panic,
        };

        // Every smaller input would print its own panic.
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let mut chance = Rng::seed_from_u64(seed);
        let mut smallest = input.to_vec();

        for _ in 0..SHRINKING {
            let mut smaller = smallest.clone();
            cut(&mut smaller, &mut chance);
            if smaller.len() < smallest.len()
                && catch_unwind(AssertUnwindSafe(|| property(&smaller))).is_err()
            {
                smallest = smaller;
            }
        }

        std::panic::set_hook(loud);
        println!(
            "fuzz {}, seed {seed}: broken by {:?}",
            self.name,
            String::from_utf8_lossy(&smallest)
        );

        resume_unwind(panic)
    }

    /// A kept input with some changes.
    fn grown(&self, chance: &mut Rng) -> Vec<u8> {
        let mut input = self.seeds[chance.random_range(0..self.seeds.len())].clone();
        for _ in 0..chance.random_range(1..=4) {
            self.change(&mut input, chance);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&self, input: &mut Vec<u8>, chance: &mut Rng) {
        let at = chance.random_range(0..=input.len());

        match chance.random_range(0..11) {
            0 => cut(input, chance),
            1 => input.insert(at, chance.random::<u8>()),
            2 if at < input.len() => input[at] ^= 1 << chance.random_range(0..8),
            3 if at < input.len() => input[at] = b"0&=%+{}[]\"\\,:\n"[chance.random_range(0..14)],
            4 if !self.words.is_empty() => {
                let word = self.words[chance.random_range(0..self.words.len())];
                input.splice(at..at, word.bytes());
            }
            5 => {
                let end = (at + chance.random_range(1..=64)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = chance.random_range(0..=input.len());
                input.splice(to..to, piece);
            }
            6 => {
                let other = &self.seeds[chance.random_range(0..self.seeds.len())];
                let from = chance.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 if at < input.len() => {
                let escaped = format!("%{:02X}", input[at]);
                input.splice(at..=at, escaped.bytes());
            }
            8 => move_a_field(input, chance),
            9 => join_two_fields(input, chance),
            _ => {
                if let Some(digit) = (at..input.len()).find(|at| input[*at].is_ascii_digit()) {
                    input[digit] = chance.random_range(b'0'..=b'9');
                }
            }
        }
    }
}

/// Takes a piece out.
fn cut(input: &mut Vec<u8>, chance: &mut Rng) {
    let from = chance.random_range(0..=input.len());
    let to = (from + chance.random_range(1..=48)).min(input.len());
    input.drain(from..to);
}

/// One field of a form comes to another place.
fn move_a_field(input: &mut Vec<u8>, chance: &mut Rng) {
    let mut fields: Vec<Vec<u8>> = input.split(|b| *b == b'&').map(<[u8]>::to_vec).collect();
    let field = fields.remove(chance.random_range(0..fields.len()));
    fields.insert(chance.random_range(0..=fields.len()), field);
    *input = fields.join(&b'&');
}

/// One field of a form swallows the one that follows it by name: the text that is signed may stay
/// the same.
fn join_two_fields(input: &mut Vec<u8>, chance: &mut Rng) {
    let mut fields: Vec<Vec<u8>> = input.split(|b| *b == b'&').map(<[u8]>::to_vec).collect();
    fields.sort_unstable();
    if fields.len() > 1 {
        let second = fields.remove(chance.random_range(1..fields.len()));
        let first = fields
            .iter()
            .rposition(|field| *field < second)
            .unwrap_or(0);
        fields[first].extend_from_slice(b"%26");
        fields[first].extend_from_slice(&second);
    }
    *input = fields.join(&b'&');
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number"))
    })
}
