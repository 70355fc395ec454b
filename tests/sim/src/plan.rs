//! What a seed means.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Everything that a run is made of, drawn from its seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How long faults come.
    pub faults_for: Duration,
    /// Pause between two faults, at most.
    pub fault_every: Duration,
    /// How long one lasts, at most.
    pub fault_lasts: Duration,
    /// Clients.
    pub clients: usize,
    /// The slowest message of a healthy network.
    pub latency: Duration,
    /// One visit to a healthy disk.
    pub disk: Duration,
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
    /// Bytes of entries kept in memory.
    pub tail_cache_bytes: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut random = stream(seed, "plan");
        let millis = |random: &mut StdRng, range| Duration::from_millis(random.random_range(range));
        Plan {
            seed,
            faults_for: millis(&mut random, 4_000..8_000),
            fault_every: millis(&mut random, 100..900),
            fault_lasts: millis(&mut random, 200..3_000),
            clients: random.random_range(2..=4),
            latency: millis(&mut random, 2..20),
            disk: Duration::from_micros(random.random_range(100..6_000)),
            segment_bytes: [16 << 10, 32 << 10, 256 << 10][random.random_range(0..3)],
            tail_cache_bytes: [0, 4 << 10, 1 << 20][random.random_range(0..3)],
        }
    }
}

/// An independent source of randomness for one purpose.
pub fn stream(seed: u64, purpose: &str) -> StdRng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    StdRng::from_seed(*hasher.finalize().as_bytes())
}
