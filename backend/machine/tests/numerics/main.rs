//! Numbers against other implementations: every narrow float widened, a part of all f32 narrowed and put through ACT's
//! functions. All of them: `cargo run --release -p kiln-machine --example numerics`.

mod reference;

use kiln_machine::isa::Dt;
use kiln_machine::numerics::convert::{self, to_f32, to_i32};

#[test]
fn functions_are_within_their_bounds() {
    for (func, truth, bound) in reference::functions() {
        let worst = reference::worst(func, truth, 0..=u32::MAX, 9973);
        assert!(worst.ulps <= bound, "{func}: {worst:?}");
    }
}

/// Where models live, densely: |x| from 2⁻⁸ to 16.
#[test]
fn functions_are_within_their_bounds_near_one() {
    for (func, truth, bound) in reference::functions() {
        for sign in [0, 1 << 31] {
            let range = sign | 8f32.powi(-3).to_bits()..=sign | 16f32.to_bits();
            let worst = reference::worst(func, truth, range, 331);
            assert!(worst.ulps <= bound, "{func}: {worst:?}");
        }
    }
}

#[test]
fn narrow_floats_round_as_elsewhere() {
    assert_eq!(reference::first_wrong_narrowing(0..=u32::MAX, 997), None);
    // Densely around the ends of each type's range, with the ties between subnormals.
    for edge in [65504.0f32, 464.0, 61440.0, 448.0, 2f32.powi(-9), 2f32.powi(-16), 2f32.powi(-24), f32::MAX] {
        for sign in [0, 1 << 31] {
            let bits = sign | edge.to_bits();
            assert_eq!(reference::first_wrong_narrowing(bits - 5000..=bits + 5000, 1), None);
        }
    }
}

#[test]
fn every_narrow_float_widens_as_elsewhere() {
    let same =
        |found: f32, truth: f32| found.to_bits() == truth.to_bits() || (found.is_nan() && truth.is_nan());
    for bits in 0..=u16::MAX {
        assert!(same(convert::f16_to_f32(bits), half::f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
        assert!(same(convert::bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
    }
    for bits in 0..=u8::MAX {
        let truth = float8::F8E4M3::from_bits(bits).to_f32();
        assert!(same(convert::f8e4m3_to_f32(bits), truth), "f8e4m3 {bits:#x}");
        let truth = float8::F8E5M2::from_bits(bits).to_f32();
        assert!(same(convert::f8e5m2_to_f32(bits), truth), "f8e5m2 {bits:#x}");
    }
}

#[test]
fn nibbles_are_twos_complement() {
    for bits in 0..16u32 {
        let signed = bits as i32 - if bits < 8 { 0 } else { 16 };
        assert_eq!((to_i32(Dt::I4, bits), to_i32(Dt::U4, bits)), (signed, bits as i32));
        assert_eq!((to_f32(Dt::I4, bits), to_f32(Dt::U4, bits)), (signed as f32, bits as f32));
    }
}
