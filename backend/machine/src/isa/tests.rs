//! Round trips and messages of the table.

use super::*;

#[test]
fn every_row_round_trips_through_bits_and_text() {
    let mut rng = Rng::new(1);
    for (row, described) in ROWS.iter().enumerate() {
        for _ in 0..200 {
            let inst = Inst::draw(row, &mut rng);
            let mut words = Vec::new();
            inst.encode(&mut words).unwrap();
            assert_eq!(words.len() as u32, described.words);
            assert_eq!(Inst::decode(&words), Ok((inst, words.len())), "{inst}");
            let text = inst.to_string();
            let mut c = Cursor::new(&text, None);
            let name = c.word();
            let back = Inst::parse_operands(name, &mut c).unwrap();
            assert_eq!(back, Ok(inst), "{text}");
            assert!(c.at_end(), "{text}");
        }
    }
}

#[test]
fn what_decodes_encodes_to_the_same_words() {
    let mut rng = Rng::new(2);
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..200_000 {
        // A legal instruction with a few bits flipped, so that both outcomes are common.
        let row = rng.below(ROWS.len() as u64) as usize;
        let mut words = Vec::new();
        Inst::draw(row, &mut rng).encode(&mut words).unwrap();
        for _ in 0..rng.below(4) {
            let bit = rng.below(words.len() as u64 * 256) as usize;
            words[bit / 256][bit / 64 % 4] ^= 1 << (bit % 64);
        }
        match Inst::decode(&words) {
            Ok((inst, used)) => {
                decoded += 1;
                let mut again = Vec::new();
                inst.encode(&mut again).unwrap();
                assert_eq!(again, words[..used], "{inst}");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(decoded > 50_000 && refused > 20_000, "{decoded} {refused}");
}

#[test]
fn errors_name_the_operand() {
    let view = View::spm(0, 1 << 22, Dt::F32);
    let error =
        Inst::Dfill { dst: view, shape: Shape::new(1, [1, 1, 1]), imm: Imm32(0) }.encode(&mut Vec::new());
    assert_eq!(
        error.unwrap_err().to_string(),
        "dfill: operand `dst`: byte offset of a view cannot hold 4194304"
    );
    assert_eq!(Inst::decode(&[[0; 4]]), Err(DecodeError::Opcode { opcode: 0 }));
    let reserved = Inst::decode(&[[0x101, 0, 0, 0]]);
    assert_eq!(reserved, Err(DecodeError::Reserved { mnemonic: "nop" }));
}

#[test]
fn operands_follow_the_row() {
    let shape = Shape::new(64, [1, 2, 128]);
    let view = View::spm(0, 0, Dt::F32);
    let op = Inst::Vred { op: RedOp::Sum, dst: view, src: view, shape, dims: Dims(4), cont: true };
    let expected = [(Role::Update, Shape::new(64, [1, 2, 1])), (Role::Read, shape)];
    for (operand, (role, shape)) in op.operands().iter().zip(expected) {
        let Operand::OnChip { role: r, extent, .. } = operand else { panic!("on chip") };
        assert_eq!((*r, *extent), (role, Extent::Shape(shape)));
    }
    let load = Inst::Dld { dst: view, ap: Ap(3), reg: Add(2) };
    assert!(load.operands().contains(&Operand::Dram {
        name: "ap",
        role: Role::Read,
        ap: Ap(3),
        reg: Add(2)
    }));
}

/// Words that nobody wrote: an opcode that may exist, then random bits, sparse ones mostly, since in dense ones some
/// field is almost always without meaning.
#[test]
fn any_words_decode_to_what_encodes_to_them_or_not_at_all() {
    let mut rng = Rng::new(3);
    let mut decoded = vec![0; ROWS.len()];
    for _ in 0..300_000 {
        let sparse = rng.below(6);
        let mut words: [Word; 2] = [[0; 4]; 2];
        for limb in words.iter_mut().flatten() {
            *limb = (0..sparse).fold(rng.next_u64(), |limb, _| limb & rng.next_u64());
        }
        // Half of the time the last limbs are clear, as they are in most rows.
        if rng.below(2) == 0 {
            words[1] = [0; 4];
        }
        if rng.below(8) > 0 {
            let opcode = ROWS[rng.below(ROWS.len() as u64) as usize].opcode;
            words[0][0] = words[0][0] & !0xff | u64::from(opcode);
        }
        let given = &words[..1 + rng.below(2) as usize];
        if let Ok((inst, used)) = Inst::decode(given) {
            decoded[inst.row_index()] += 1;
            let mut again = Vec::new();
            inst.encode(&mut again).unwrap();
            assert_eq!(again, given[..used], "{inst}");
            let text = inst.to_string();
            let mut c = Cursor::new(&text, None);
            let name = c.word();
            assert_eq!(Inst::parse_operands(name, &mut c), Some(Ok(inst)), "{text}");
        }
    }
    for (row, decoded) in ROWS.iter().zip(decoded) {
        assert!(decoded > 0, "{} was never met", row.mnemonic);
    }
}

#[test]
fn every_page_is_whole() {
    for row in ROWS {
        for (part, text) in [
            ("summary", row.doc.lines().next().unwrap_or_default()),
            ("functional model", row.model),
            ("numerics", row.numerics),
            ("timing", row.timing),
            ("exceptions", row.traps),
        ] {
            assert!(!text.trim().is_empty(), "{} has no {part}", row.mnemonic);
        }
    }
}
