//! Targets: the numbers of one machine, as data.
//!
//! A target is a TOML file of flat keys; `base = "core"` starts from a preset and changes some. Every key stands
//! in one table here with its unit, bounds and the reason for them; unknown keys are refused. Values take units
//! (`24MiB`, `64K`, `1.2GHz`, `68GB/s`).

mod manual;
mod peaks;

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::isa::{Dt, Len, OFFSET_BITS, Parts};

/// Ticks of the base clock.
pub type Ticks = u64;

/// What is wrong with a target description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum TargetError {
    /// No preset of that name.
    #[error("no target `{name}`")]
    #[diagnostic(code(kiln::target::unknown), help("presets: {presets}; or give the path of a .toml file"))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        presets: String,
    },
    /// The file cannot be read.
    #[error("{path}: {message}")]
    #[diagnostic(code(kiln::target::read))]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        message: String,
    },
    /// Not TOML.
    #[error("{origin}: {message}")]
    #[diagnostic(code(kiln::target::toml))]
    Toml {
        /// The file.
        origin: String,
        /// What the parser says.
        message: String,
    },
    /// A key that no target has.
    #[error("no key `{key}`")]
    #[diagnostic(code(kiln::target::key), help("{nearest}"))]
    Key {
        /// The key.
        key: String,
        /// The nearest known key, as a hint.
        nearest: String,
    },
    /// A value out of bounds or of the wrong form.
    #[error("{key} = {value}: {message}")]
    #[diagnostic(code(kiln::target::value), help("{reason}"))]
    Value {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What is wrong.
        message: String,
        /// Why the bound is there, or what form is expected.
        reason: String,
    },
    /// Keys that are missing.
    #[error("missing keys: {keys}")]
    #[diagnostic(
        code(kiln::target::missing),
        help("start from a preset with `base = \"core\"` and change some keys")
    )]
    Missing {
        /// Their names.
        keys: String,
    },
    /// Keys that contradict one another.
    #[error("{message}")]
    #[diagnostic(code(kiln::target::contradiction))]
    Contradiction {
        /// Which, and why.
        message: String,
    },
}

/// What a value counts; decides the units it may be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Count,
    /// 0 or 1, `true` or `false`.
    Flag,
    /// Bytes: K, M, G, T are powers of 1024, as KiB, MiB, GiB, TiB.
    Bytes,
    /// Hz, kHz, MHz, GHz: powers of 1000.
    Hertz,
    /// B/s, kB/s, MB/s, GB/s, TB/s: powers of 1000.
    BytesPerSecond,
    /// Cycles of the named engine.
    Cycles,
    /// ns.
    Nanoseconds,
    /// fJ, pJ, nJ.
    Femtojoule,
    /// mW, W.
    Milliwatt,
}

/// One key of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name in TOML and for `set`.
    pub name: &'static str,
    /// Unit.
    pub unit: Unit,
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
    /// Why these bounds.
    pub reason: &'static str,
    /// What it is.
    pub doc: &'static str,
}

macro_rules! target_keys {
    ($($(#[doc = $doc:literal])* $name:ident: $unit:ident, $min:expr, $max:expr, $reason:literal;)*) => {
        /// The numbers of one machine. Fields are read freely; changes go through [`Target::set`], which checks.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Target {
            /// Name of the preset or of the file.
            pub name: String,
            $( $(#[doc = $doc])* pub $name: u64, )*
        }

        /// Every key in order.
        pub static KEYS: &[Key] = &[$(Key {
            name: stringify!($name), unit: Unit::$unit, min: $min, max: $max, reason: $reason, doc: concat!($($doc, "\n"),*),
        }),*];

        impl Target {
            pub(super) fn zero(name: &str) -> Self { Target { name: name.to_owned(), $($name: 0),* } }
            pub(super) fn slot(&mut self, key: &str) -> Option<&mut u64> {
                match key { $(stringify!($name) => Some(&mut self.$name),)* _ => None }
            }
            /// The value of a key; `None` if there is no such key.
            pub fn get(&self, key: &str) -> Option<u64> {
                match key { $(stringify!($name) => Some(self.$name),)* _ => None }
            }
        }
    };
}

#[rustfmt::skip] // a table
mod table { use super::*; target_keys! {
    /// Frequency of the base clock; every engine's clock is this divided by a whole number.
    base_clock_hz:            Hertz,          1_000_000, 100_000_000_000, "1 MHz to 100 GHz";
    /// MXU clock = base clock / this. `cycles` in reports are MXU cycles.
    mxu_clock_div:            Count,          1, 1000, "a whole divisor of the base clock";
    /// VEC clock = base clock / this.
    vec_clock_div:            Count,          1, 1000, "a whole divisor of the base clock";
    /// ACT clock = base clock / this.
    act_clock_div:            Count,          1, 1000, "a whole divisor of the base clock";
    /// Clock of the CTL and COL streams = base clock / this.
    ctl_clock_div:            Count,          1, 1000, "a whole divisor of the base clock";
    /// Clock of the DMA queues = base clock / this.
    dma_clock_div:            Count,          1, 1000, "a whole divisor of the base clock";

    /// Partitions of SPM and ACC = rows = columns of the array.
    partitions:               Count,          1, 256, "partition numbers are fields of 8 bits";
    /// Scratchpad, all partitions together.
    spm_bytes:                Bytes,          1024, 256 << OFFSET_BITS, "byte offsets in a partition are fields of 22 bits";
    /// Accumulators, all partitions and banks together.
    acc_bytes:                Bytes,          256, 256 << OFFSET_BITS, "byte offsets in a partition are fields of 22 bits";
    /// Banks of the accumulators; one MMA has at most a bank of columns.
    acc_banks:                Count,          1, 64, "one result is smaller than the whole memory";
    /// Row bands of the array, each with its own stationary operand and moving stream.
    row_groups:               Count,          1, 4, "bands of 1, 2 or 4";

    /// f32 MACs of one element of the array in 4 MXU cycles.
    mxu_f32_macs_per_4_cycles:  Count,        1, 64, "a rate as a rational of 4 cycles";
    /// bf16 and f16 MACs of one element of the array in 4 MXU cycles.
    mxu_bf16_macs_per_4_cycles: Count,        1, 64, "a rate as a rational of 4 cycles";
    /// f8 MACs of one element of the array in 4 MXU cycles.
    mxu_f8_macs_per_4_cycles:   Count,        1, 64, "a rate as a rational of 4 cycles";
    /// i8 and u8 MACs of one element of the array in 4 MXU cycles.
    mxu_i8_macs_per_4_cycles:   Count,        1, 64, "a rate as a rational of 4 cycles";
    /// Cycles an MXU instruction takes before its first row or column moves.
    mxu_startup_cycles:       Cycles,         0, 10_000, "a pipeline depth";
    /// Whether `ldwt` exists.
    has_ldwt:                 Flag,           0, 1, "a flag";
    /// Array rows that one row of a transposed stationary load takes.
    ldwt_factor:              Count,          1, 16, "a slowdown";
    /// Whether `mtrn` exists.
    has_mtrn:                 Flag,           0, 1, "a flag";
    /// Whether `mmax` exists.
    has_mmax:                 Flag,           0, 1, "a flag";

    /// Elements VEC processes in one of its cycles, over all partitions.
    vec_lanes:                Count,          1, 65536, "a rate";
    /// VEC cycles before the first element of an instruction.
    vec_startup_cycles:       Cycles,         0, 10_000, "a pipeline depth";
    /// How many times longer an element of div, mod, fmod takes.
    vec_div_factor:           Count,          1, 64, "a slowdown";
    /// How many times longer an element of pow takes.
    vec_pow_factor:           Count,          1, 64, "a slowdown";
    /// Elements ACT processes in one of its cycles, over all partitions.
    act_lanes:                Count,          1, 65536, "a rate";
    /// ACT cycles before the first element of an instruction.
    act_startup_cycles:       Cycles,         0, 10_000, "a pipeline depth";

    /// Cycles of its own clock that a control instruction takes in any stream.
    control_cycles:           Cycles,         1, 1000, "an instruction takes at least a cycle";
    /// Cycles of the CTL clock from a signal's cause to its being seen.
    sem_latency_cycles:       Cycles,         0, 10_000, "a wire delay";
    /// Number of semaphores.
    semaphores:               Count,          1, 256, "semaphore numbers are fields of 8 bits";

    /// Number of DMA queues.
    dma_queues:               Count,          1, 16, "there are 16 queue streams";
    /// Bytes a second that one queue moves to or from DRAM.
    dma_queue_bytes_per_second: BytesPerSecond, 1_000_000, 100_000_000_000_000, "a rate";
    /// Bytes a second that one queue moves to or from on-chip memory.
    dma_spm_bytes_per_second: BytesPerSecond, 1_000_000, 100_000_000_000_000, "a rate";
    /// DMA cycles that a queue takes to issue one transfer.
    dma_issue_cycles:         Cycles,         1, 100_000, "a descriptor takes at least a cycle";
    /// Time from issue of a transfer to its first byte.
    dma_latency_ns:           Nanoseconds,    0, 1_000_000, "a latency";
    /// How many times longer a transposing transfer takes on chip.
    dma_transpose_factor:     Count,          1, 64, "a slowdown";

    /// DRAM the device has.
    dram_bytes:               Bytes,          1 << 16, 1 << 48, "DRAM addresses are fields of 48 bits";
    /// Bytes a second of the whole DRAM, shared by all cores (of one core: its share).
    dram_bytes_per_second:    BytesPerSecond, 1_000_000, 100_000_000_000_000, "a rate";
    /// Bytes of one burst: every contiguous run costs whole bursts.
    dram_burst_bytes:         Bytes,          1, 4096, "a burst";

    /// Cores of the device.
    cores:                    Count,          1, 256, "core numbers are fields of 8 bits";
    /// Rows of the torus that links the cores, row by row.
    torus_rows:               Count,          1, 16, "cores are rows times columns";
    /// Bytes a second of one link between cores, each way.
    link_bytes_per_second:    BytesPerSecond, 1_000_000, 100_000_000_000_000, "a rate";
    /// Latency of one link: a hop.
    link_latency_ns:          Nanoseconds,    0, 1_000_000, "a latency";

    /// Energy of one f32 MAC.
    mac_f32_fj:               Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one bf16 or f16 MAC.
    mac_bf16_fj:              Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one 8-bit MAC.
    mac_8bit_fj:              Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one VEC element.
    vec_element_fj:           Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one ACT element.
    act_element_fj:           Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one byte read or written in SPM or ACC.
    spm_byte_fj:              Femtojoule,     0, 1_000_000_000, "an energy";
    /// Energy of one byte read or written in DRAM.
    dram_byte_fj:             Femtojoule,     0, 1_000_000_000, "an energy";
    /// Power drawn whatever happens.
    static_mw:                Milliwatt,      0, 1_000_000_000, "a power";
}}
pub use manual::manual;
pub use peaks::Peaks;
pub use table::{KEYS, Target};

/// The presets: name and TOML of every file in `targets/`, by name.
pub const PRESETS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

// Every field holds the largest value that the table permits.
const _: () = {
    assert!(Parts::MAX as u64 >= 256 && Len::MAX as u64 == 1 << 16);
    assert!(crate::isa::DRAM_ADDRESS_BITS == 48);
};

impl Target {
    /// A preset by name.
    ///
    /// # Errors
    /// No such preset.
    pub fn preset(name: &str) -> Result<Target, TargetError> {
        let Some((_, text)) = PRESETS.iter().find(|(n, _)| *n == name) else {
            let presets = PRESETS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
            return Err(TargetError::Unknown { name: name.to_owned(), presets });
        };
        Target::from_toml(name, text)
    }

    /// A preset by name, or a file by path (with `.toml` at its end).
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn load(name_or_path: &str) -> Result<Target, TargetError> {
        if name_or_path.ends_with(".toml") {
            Target::from_file(Path::new(name_or_path))
        } else {
            Target::preset(name_or_path)
        }
    }

    /// A target from a TOML file.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn from_file(path: &Path) -> Result<Target, TargetError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| TargetError::Read { path: path.display().to_string(), message: e.to_string() })?;
        let name = path.file_stem().map_or_else(|| "target".into(), |s| s.to_string_lossy().into_owned());
        Target::from_toml(&name, &text)
    }

    /// A target from TOML text; `name` is its name unless the text gives one.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn from_toml(name: &str, text: &str) -> Result<Target, TargetError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| TargetError::Toml {
            origin: name.to_owned(),
            message: e.to_string(),
        })?;
        let string = |key: &str, value: &toml::Value| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| bad(key, value, "not a string", "a name in quotes"))
        };
        let mut target = match table.get("base") {
            Some(base) => Target::preset(&string("base", base)?)?,
            None => Target::zero(name),
        };
        target.name = table.get("name").map_or_else(|| Ok(name.to_owned()), |n| string("name", n))?;
        let mut missing: Vec<&str> =
            if table.contains_key("base") { vec![] } else { KEYS.iter().map(|k| k.name).collect() };
        for (key, value) in &table {
            if key == "base" || key == "name" {
                continue;
            }
            let text = match value {
                toml::Value::String(s) => s.clone(),
                toml::Value::Integer(i) => i.to_string(),
                toml::Value::Boolean(b) => b.to_string(),
                other => {
                    return Err(bad(
                        key,
                        other,
                        "not a number",
                        "an integer, a flag, or a string with a unit",
                    ));
                }
            };
            target.assign(key, &text)?;
            missing.retain(|k| k != key);
        }
        if !missing.is_empty() {
            return Err(TargetError::Missing { keys: missing.join(", ") });
        }
        target.check()?;
        Ok(target)
    }

    /// Changes one key, as `--set key=value` does.
    ///
    /// # Errors
    /// See [`TargetError`]; the target is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), TargetError> {
        self.set_all([(key, value)])
    }

    /// Changes several keys that only fit together.
    ///
    /// # Errors
    /// See [`TargetError`]; the target is then unchanged.
    pub fn set_all<'a>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), TargetError> {
        let mut changed = self.clone();
        for (key, value) in pairs {
            changed.assign(key, value)?;
        }
        changed.check()?;
        *self = changed;
        Ok(())
    }

    fn assign(&mut self, key: &str, text: &str) -> Result<(), TargetError> {
        let Some(row) = KEYS.iter().find(|k| k.name == key) else {
            return Err(TargetError::Key { key: key.to_owned(), nearest: nearest(key) });
        };
        let value = parse_value(row.unit, text).map_err(|(message, form)| bad(key, text, &message, &form))?;
        if value < row.min || value > row.max {
            return Err(bad(key, text, &format!("must be {} to {}", row.min, row.max), row.reason));
        }
        if let Some(slot) = self.slot(key) {
            *slot = value;
        }
        Ok(())
    }

    /// What several keys must satisfy together.
    fn check(&self) -> Result<(), TargetError> {
        let fail = |message: String| Err(TargetError::Contradiction { message });
        if !self.spm_bytes.is_multiple_of(self.partitions * 4) {
            return fail(format!(
                "spm_bytes = {} does not divide into {} partitions of whole 4-byte elements",
                self.spm_bytes, self.partitions
            ));
        }
        if !self.acc_bytes.is_multiple_of(self.partitions * self.acc_banks * 4) {
            return fail(format!(
                "acc_bytes = {} does not divide into {} partitions of {} banks of whole 4-byte elements",
                self.acc_bytes, self.partitions, self.acc_banks
            ));
        }
        for (key, bytes) in [("spm_bytes", self.spm_bytes), ("acc_bytes", self.acc_bytes)] {
            if bytes / self.partitions > 1 << OFFSET_BITS {
                return fail(format!(
                    "{key} gives {} bytes a partition; offsets reach {}",
                    bytes / self.partitions,
                    1 << OFFSET_BITS
                ));
            }
        }
        if self.row_groups == 3 || !self.partitions.is_multiple_of(self.row_groups) {
            return fail(format!(
                "row_groups = {} does not split {} partitions into bands of 1, 2 or 4",
                self.row_groups, self.partitions
            ));
        }
        if !self.cores.is_multiple_of(self.torus_rows) {
            return fail(format!(
                "torus_rows = {} does not divide {} cores into rows of one length",
                self.torus_rows, self.cores
            ));
        }
        if self.cycles_to_ticks_div_ok() {
            Ok(())
        } else {
            fail("a clock divisor makes the slowest clock slower than 1 kHz".into())
        }
    }

    fn cycles_to_ticks_div_ok(&self) -> bool {
        let slowest = [
            self.mxu_clock_div,
            self.vec_clock_div,
            self.act_clock_div,
            self.ctl_clock_div,
            self.dma_clock_div,
        ];
        slowest.iter().all(|div| self.base_clock_hz / div >= 1000)
    }

    /// Scratchpad bytes of one partition.
    pub fn spm_partition_bytes(&self) -> u64 {
        self.spm_bytes / self.partitions
    }
    /// Accumulator bytes of one partition, all banks.
    pub fn acc_partition_bytes(&self) -> u64 {
        self.acc_bytes / self.partitions
    }
    /// 32-bit entries of one bank in one partition: the most columns of one MMA.
    pub fn acc_bank_entries(&self) -> u64 {
        self.acc_partition_bytes() / self.acc_banks / 4
    }
    /// MACs of one array element in 4 cycles for operands of this type; `None` if the array does not take it.
    pub fn mxu_rate(&self, dt: Dt) -> Option<u64> {
        match dt {
            Dt::F32 => Some(self.mxu_f32_macs_per_4_cycles),
            Dt::Bf16 | Dt::F16 => Some(self.mxu_bf16_macs_per_4_cycles),
            Dt::F8e4m3 | Dt::F8e5m2 => Some(self.mxu_f8_macs_per_4_cycles),
            Dt::I8 | Dt::U8 => Some(self.mxu_i8_macs_per_4_cycles),
            _ => None,
        }
    }
    /// Whole MXU cycles in this many ticks, rounded up.
    pub fn mxu_cycles(&self, ticks: Ticks) -> u64 {
        ticks.div_ceil(self.mxu_clock_div)
    }
    /// Seconds in this many ticks.
    pub fn seconds(&self, ticks: Ticks) -> f64 {
        ticks as f64 / self.base_clock_hz as f64
    }

    /// The canonical text of every number, which the digest covers.
    pub fn canonical(&self) -> String {
        KEYS.iter().fold(String::new(), |mut text, k| {
            let _ = writeln!(text, "{} = {}", k.name, self.get(k.name).unwrap_or_default());
            text
        })
    }

    /// SHA-256 of the numbers (not of the name): programs run only on the target they were compiled for.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical()).into()
    }
}

fn bad(key: &str, value: impl ToString, message: &str, reason: &str) -> TargetError {
    TargetError::Value {
        key: key.into(),
        value: value.to_string(),
        message: message.into(),
        reason: reason.into(),
    }
}

/// The known key with the longest common prefix, else all keys.
fn nearest(key: &str) -> String {
    let common = |k: &str| k.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
    match KEYS.iter().max_by_key(|k| common(k.name)).filter(|k| common(k.name) >= 3) {
        Some(k) => format!("did you mean `{}`?", k.name),
        None => format!("keys: {}", KEYS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")),
    }
}

/// Reads `1.2GHz`, `64K`, `true`, `1_000` exactly (a decimal fraction must come out whole).
fn parse_value(unit: Unit, text: &str) -> Result<u64, (String, String)> {
    let text = text.trim();
    let suffixes: &[(&str, u64)] = match unit {
        Unit::Flag => {
            return match text {
                "true" | "1" => Ok(1),
                "false" | "0" => Ok(0),
                _ => Err(("not a flag".into(), "true or false".into())),
            };
        }
        Unit::Count => &[("", 1)],
        Unit::Cycles => &[("", 1), ("cycles", 1)],
        Unit::Bytes => &[
            ("", 1),
            ("B", 1),
            ("K", 1 << 10),
            ("KiB", 1 << 10),
            ("M", 1 << 20),
            ("MiB", 1 << 20),
            ("G", 1 << 30),
            ("GiB", 1 << 30),
            ("T", 1 << 40),
            ("TiB", 1 << 40),
        ],
        Unit::Hertz => &[("", 1), ("Hz", 1), ("kHz", 1_000), ("MHz", 1_000_000), ("GHz", 1_000_000_000)],
        Unit::BytesPerSecond => &[
            ("", 1),
            ("B/s", 1),
            ("kB/s", 1_000),
            ("MB/s", 1_000_000),
            ("GB/s", 1_000_000_000),
            ("TB/s", 1_000_000_000_000),
        ],
        Unit::Nanoseconds => &[("", 1), ("ns", 1), ("us", 1_000), ("ms", 1_000_000)],
        Unit::Femtojoule => &[("", 1), ("fJ", 1), ("pJ", 1_000), ("nJ", 1_000_000)],
        Unit::Milliwatt => &[("", 1), ("mW", 1), ("W", 1_000)],
    };
    let form = || {
        let names: Vec<&str> = suffixes.iter().map(|s| s.0).filter(|s| !s.is_empty()).collect();
        if names.is_empty() {
            "a whole number".to_owned()
        } else {
            format!("a number, optionally with a unit: {}", names.join(", "))
        }
    };
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, suffix) = (text[..digits_end].replace('_', ""), text[digits_end..].trim());
    let Some((_, factor)) = suffixes.iter().find(|(s, _)| *s == suffix) else {
        return Err((format!("unknown unit `{suffix}`"), form()));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let digits = format!("{whole}{fraction}");
    let scale = 10u128.checked_pow(fraction.len() as u32);
    match (digits.parse::<u64>(), scale) {
        (Ok(n), Some(scale)) => {
            let scaled = u128::from(n) * u128::from(*factor);
            if scaled % scale != 0 {
                return Err(("does not come out whole".into(), form()));
            }
            u64::try_from(scaled / scale).map_err(|_| ("too large".into(), form()))
        }
        _ => Err(("not a number".into(), form())),
    }
}

#[cfg(test)]
mod tests;
