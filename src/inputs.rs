//! Inputs for a run: from files, from an ONNX data set, or seeded random numbers.

use crate::{error::Error, npy};
use bytes::Bytes;
use half::{bf16, f16};
use indexmap::IndexMap;
use kiln_machine::{
    random::Rng,
    tensor::{DType, Tensor},
};
use std::path::{Path, PathBuf};

/// Tensors by the model's input names, in the order given.
pub type Tensors = IndexMap<String, Tensor>;

/// What a model wants to be given.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Inclusive bounds of the values, where the model implies some.
    pub range: Option<(i64, i64)>,
}

/// Reads `name=file.npy` arguments.
///
/// # Errors
/// When a file cannot be read or a name is given twice.
pub fn from_files(files: &[(String, PathBuf)]) -> Result<Tensors, Error> {
    let mut tensors = Tensors::new();
    for (name, path) in files {
        if tensors.insert(name.clone(), npy::read(path)?).is_some() {
            return Err(Error::usage(format!("the input {name} is given twice")));
        }
    }
    Ok(tensors)
}

/// Reads `prefix_0.pb, prefix_1.pb, …` of a data set, unnamed tensors taking the name at their place.
///
/// # Errors
/// When a file cannot be read or decoded, or there are more files than names.
pub fn from_data_set(folder: &Path, prefix: &str, names: &[String]) -> Result<Tensors, Error> {
    let mut tensors = Tensors::new();
    for index in 0.. {
        let path = folder.join(format!("{prefix}_{index}.pb"));
        if !path.is_file() {
            break;
        }
        let (name, tensor) = kiln_frontend::tensor_pb::read(&path)?;
        let name = if name.is_empty() {
            names.get(index).cloned().ok_or_else(|| Error::DataSet {
                folder: folder.to_path_buf(),
                what: format!("{} has no name and the model has {} of them", path.display(), names.len()),
            })?
        } else {
            name
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Seeded random values for what `given` lacks: floats uniform in [-1, 1), integers uniform in their declared
/// range (0 and 1 where none is declared), bools fair. The same name, seed and shape give the same values.
pub fn fill(wanted: &[Wanted], given: &mut Tensors, seed: u64) {
    for want in wanted {
        if !given.contains_key(&want.name) {
            let elements: usize = want.shape.iter().product();
            let mut rng = stream(seed, &want.name);
            let mut data = Vec::with_capacity(elements * want.dtype.size_bytes());
            for _ in 0..elements {
                push(&mut data, want, &mut rng);
            }
            let tensor = Tensor { dtype: want.dtype, shape: want.shape.clone(), data: Bytes::from(data) };
            given.insert(want.name.clone(), tensor);
        }
    }
}

fn push(data: &mut Vec<u8>, want: &Wanted, rng: &mut Rng) {
    let (lo, hi) = want.range.unwrap_or((0, 1));
    match want.dtype {
        DType::F32 => data.extend(unit(rng).to_le_bytes()),
        DType::F64 => data.extend(f64::from(unit(rng)).to_le_bytes()),
        DType::F16 => data.extend(f16::from_f32(unit(rng)).to_le_bytes()),
        DType::BF16 => data.extend(bf16::from_f32(unit(rng)).to_le_bytes()),
        DType::Bool => data.push(rng.below(2) as u8),
        // Little-endian: the low bytes of the 64-bit value are the narrower integer.
        _ => data.extend(&within(rng, lo, hi).to_le_bytes()[..want.dtype.size_bytes()]),
    }
}

/// The generator of one input's values: seeded by the run's seed and, so that inputs of one shape differ, by the
/// name (FNV-1a).
fn stream(seed: u64, name: &str) -> Rng {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    Rng::new(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, hash))
}

/// Uniform in [-1, 1), a multiple of 2⁻²³.
fn unit(rng: &mut Rng) -> f32 {
    (rng.next_u64() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

fn within(rng: &mut Rng, lo: i64, hi: i64) -> i64 {
    let span = hi.wrapping_sub(lo) as u64;
    let offset = if span == u64::MAX { rng.next_u64() } else { rng.below(span + 1) };
    lo.wrapping_add(offset as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, dtype: DType, range: Option<(i64, i64)>) -> Wanted {
        Wanted { name: name.into(), dtype, shape: vec![1000], range }
    }

    #[test]
    fn integers_stay_in_range_and_reach_both_ends() {
        let mut tensors = Tensors::new();
        fill(&[wanted("ids", DType::I64, Some((-3, 4)))], &mut tensors, 7);
        let values: Vec<i64> = tensors["ids"]
            .data
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")))
            .collect();
        assert_eq!((values.iter().min(), values.iter().max()), (Some(&-3), Some(&4)));
    }

    #[test]
    fn one_seed_gives_one_set_of_values() {
        let make = |seed| {
            let mut tensors = Tensors::new();
            fill(&[wanted("a", DType::F32, None), wanted("b", DType::F32, None)], &mut tensors, seed);
            tensors
        };
        assert_eq!(make(1)["a"].data, make(1)["a"].data);
        assert_ne!(make(1)["a"].data, make(2)["a"].data);
        assert_ne!(make(1)["a"].data, make(1)["b"].data);
    }

    #[test]
    fn what_was_given_stays() {
        let given = Tensor { dtype: DType::F32, shape: vec![1], data: Bytes::from_static(&[0, 0, 128, 63]) };
        let mut tensors = Tensors::from([("a".to_string(), given.clone())]);
        fill(&[wanted("a", DType::F32, None)], &mut tensors, 1);
        assert_eq!(tensors["a"].data, given.data);
    }
}
