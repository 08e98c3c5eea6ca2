//! What follows from a target's numbers: peak rates and the balances between them.

use super::Target;
use crate::isa::Dt;

/// Peak rates of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peaks {
    /// MACs a second of the array, by type.
    pub macs: Vec<(Dt, u64)>,
    /// Elements a second of VEC.
    pub vec_elements: u64,
    /// Elements a second of ACT: exponentials.
    pub act_elements: u64,
    /// Bytes a second that one core can move to and from DRAM: the least of its queues' rate and the DRAM's.
    pub dram_bytes: u64,
}

/// `numerator / denominator` with `scale` steps to a unit, rounded down.
fn ratio(numerator: u64, denominator: u64, scale: u64) -> u64 {
    let scaled = u128::from(numerator) * u128::from(scale) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

impl Peaks {
    /// The rates that this target's units reach when nothing waits.
    pub fn of(target: &Target) -> Self {
        let clock = |div: u64| target.base_clock_hz / div;
        let elements = target.partitions * target.partitions;
        let macs = [Dt::F32, Dt::Bf16, Dt::F8e4m3, Dt::I8].into_iter().map(|dt| {
            let rate = target.mxu_rate(dt).unwrap_or(0);
            (dt, ratio(elements * rate, 4, clock(target.mxu_clock_div)))
        });
        let queues = target.dma_queue_bytes_per_second.saturating_mul(target.dma_queues);
        Self {
            macs: macs.collect(),
            vec_elements: target.vec_lanes * clock(target.vec_clock_div),
            act_elements: target.act_lanes * clock(target.act_clock_div),
            dram_bytes: queues.min(target.dram_bytes_per_second),
        }
    }

    fn macs_of(&self, dt: Dt) -> u64 {
        self.macs.iter().find(|(other, _)| *other == dt).map_or(0, |(_, macs)| *macs)
    }

    /// MACs for each byte of DRAM at which array and memory are equally busy, in tenths.
    pub fn ridge_tenths(&self, dt: Dt) -> u64 {
        ratio(self.macs_of(dt), self.dram_bytes, 10)
    }

    /// The least head size of attention at which ACT keeps up with the array: one exponential for 2·d MACs.
    pub fn least_head(&self, dt: Dt) -> u64 {
        self.macs_of(dt).div_ceil(2 * self.act_elements.max(1))
    }

    /// How many times the exponentials that attention with heads of `d` needs ACT makes, in hundredths.
    pub fn exp_slack_hundredths(&self, dt: Dt, d: u64) -> u64 {
        ratio(self.act_elements.saturating_mul(2 * d), self.macs_of(dt), 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_has_the_published_peaks() {
        let core = Target::preset("core").unwrap();
        let peaks = Peaks::of(&core);
        // 128 x 128 x 2.4 GHz.
        assert_eq!(peaks.macs_of(Dt::Bf16), 39_321_600_000_000);
        assert_eq!(peaks.macs_of(Dt::F32), 9_830_400_000_000);
        assert_eq!(peaks.macs_of(Dt::F8e4m3), 78_643_200_000_000);
        // 16 queues of 27 GB/s are more than the share of 362 GB/s: 108.6 MACs a byte.
        assert_eq!((peaks.dram_bytes, peaks.ridge_tenths(Dt::Bf16)), (362_000_000_000, 1086));
        // 384 at 1.2 GHz: 39.3 T / (2 · 460.8 G) = 42.7.
        assert_eq!((peaks.least_head(Dt::Bf16), peaks.exp_slack_hundredths(Dt::Bf16, 64)), (43, 150));
        let trn2 = Peaks::of(&Target::preset("trn2").unwrap());
        assert_eq!((trn2.least_head(Dt::Bf16), trn2.exp_slack_hundredths(Dt::Bf16, 64)), (86, 75));
    }

    #[test]
    fn a_core_of_a_chip_is_bound_by_its_queues() {
        let peaks = Peaks::of(&Target::preset("chip").unwrap());
        assert_eq!(peaks.dram_bytes, 16 * 27_000_000_000);
    }
}
