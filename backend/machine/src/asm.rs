//! Assembly: a whole program as text, and back.
//!
//! ```text
//! ; y = relu(x): 128 rows of 64
//! .target core
//! .input  x f32 [128,64] @0x0
//! .output y f32 [128,64] @0x8000
//! .engine q0
//!     apset ap0, f32 @0x0 [128,1,1,64] <64,0,0,1>
//!     dld spm[0:0x0].f32<0,0,1>, ap0
//!     sems sem0, n=1
//!     semw sem1, n=1
//!     apset ap1, f32 @0x8000 [128,1,1,64] <64,0,0,1>
//!     dst ap1, spm[0:0x0].f32<0,0,1>
//!     halt
//! .engine act
//!     semw sem0, n=1
//!     act relu, spm[0:0x0].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 128:1x1x64
//!     sems sem1, n=1
//!     halt
//! ```
//!
//! One statement a line; comments from `;`, `#` or `//` to the end of the line. Directives (`name` is a word or a
//! quoted string; addresses and counts are decimal or `0x`):
//!
//! | directive | meaning |
//! |---|---|
//! | `.target name [digest=hex]` | the target; a preset's digest is known |
//! | `.dram bytes` | bytes of DRAM used; left out, what bindings and image reach |
//! | `.input` `.output` `.internal name dtype [e,e] @address [host=dtype] [range=lo..hi] [alias=name]` | a binding |
//! | `.scalar name lo..hi` | a runtime scalar |
//! | `.file name size=n digest=hex [seal=hex]` | a file, numbered from 0 |
//! | `.blob hex…` | bytes in the program, numbered from 0; `.bytes hex…` continues it |
//! | `.image @address [rows=n] row=bytes [pitch=bytes] (file=n \| blob=n \| zero) [offset=n] [step=bytes]` | DRAM contents; `step` is the source's pitch |
//! | `.data @address type v, v, …` | values as a blob with its image |
//! | `.origin name` | an origin, numbered from 0 |
//! | `.segment device` | starts another device segment (the first is implied) |
//! | `.segment host inputs=[name,…] outputs=[name,…] reason=name bytecode=hex` | a host segment |
//! | `.buffer name (spm \| acc) parts=n..n @offset bytes=n [slots=n pitch=bytes] [origin=n]` | a buffer of the segment, numbered from 0 |
//! | `.buffer name dram @address bytes=n` | one in DRAM |
//! | `.core n` | the following streams are of this core (0 at the start of a segment) |
//! | `.engine q0` | the following instructions are this stream's |
//! | `.from origin:weight …` | origins of the following instructions; without operands, none |
//! | `.word hex` | 256 raw bits, most significant digit first |
//!
//! A label is `name:` before an instruction; labels are known in their stream. Behind an instruction `in=[n,-,…]` names the
//! buffers of its operands in memory, in their order; `-` is none.

mod assemble;
mod disassemble;

pub use assemble::assemble;
pub use disassemble::{BlobText, disassemble, disassemble_stream};

/// One thing wrong in an assembly text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct AsmError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Everything wrong in an assembly text, in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
#[diagnostic(code(kiln::asm), help("the syntax of every instruction is in docs/isa.md"))]
pub struct AsmErrors {
    /// At least one.
    pub errors: Vec<AsmError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Engine, Inst, ROWS};
    use crate::program::*;
    use crate::random::Rng;
    use crate::tensor::DType;

    const RELU: &str = "
; y = relu(x)
.target edge
.input x f32 [64,64] @0x0 range=0..9
.output \"y 1\" f32 [64,64] @0x8000 host=f64
.data @0xc000 f32 1.5, -2, 0x10
.origin \"relu|Relu\"
.scalar past 0..15
.engine q0
    apset ap0, f32 @0x0 [64,1,1,64] <64,0,0,1>   // comment
again:
    dld spm[0:0x0].f32, ap0
    sems sem0, n=1
    br ne, r1, r0, again
    halt
.engine act
.from 0:3
    semw sem0, n=1
    loop count=4, done, step=r3:64
    act relu, spm[0:0x0+r3].f32<0,0,1>, spm[0:0x0].f32<0,0,1>, 64:1x1x64
done: endl
.from
    halt
";

    #[test]
    fn a_program_by_hand() {
        let p = assemble(RELU, None).unwrap();
        assert_eq!(p.target_name, "edge");
        assert_eq!(p.dram_bytes, 0xc00c);
        assert_eq!(p.bindings[1].host_dtype, DType::F64);
        assert_eq!(&p.blobs[0][..4], 1.5f32.to_le_bytes());
        let Segment::Device(d) = &p.segments[0] else { panic!("device") };
        let q0 = &d.streams[&Engine::Queue(0)];
        assert_eq!(q0.words.len(), 6, "apset takes two words");
        let (br, _) = Inst::decode(&q0.words[4..]).unwrap();
        assert!(matches!(br, Inst::Br { to: crate::isa::Pc(2), .. }));
        let act = &d.streams[&Engine::Act];
        assert_eq!((act.origins[0].start, act.origins[0].end, act.origins.len()), (0, 5, 1));
    }

    #[test]
    fn text_and_program_are_inverse() {
        let p = assemble(RELU, None).unwrap();
        let text = disassemble(&p, BlobText::Whole);
        assert!(text.contains("L2:") && text.contains("r0, L2"), "{text}");
        assert_eq!(assemble(&text, None).unwrap(), p, "{text}");
        assert_eq!(disassemble(&assemble(&text, None).unwrap(), BlobText::Whole), text);
    }

    /// Every hand-written program of the goldens: text, program file, text again.
    #[test]
    fn goldens_survive_the_program_file() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testsuite/golden/asm");
        let folder = tempfile::tempdir().unwrap();
        let mut programs = 0;
        for folder_of_texts in [root.clone(), root.join("instructions")] {
            for entry in std::fs::read_dir(folder_of_texts).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "s") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("; EXPECT").next().unwrap();
                // A golden of several files holds them behind lines `;--- name`.
                for piece in text.split("\n;---").filter(|piece| piece.contains(".engine")) {
                    let piece = piece.trim_start_matches(|c| c != '\n');
                    let Ok(program) = assemble(piece, None) else {
                        panic!("{}: {}", path.display(), assemble(piece, None).unwrap_err())
                    };
                    let file = folder.path().join("program.kiln");
                    // A golden of what is wrong may be no program that a file holds.
                    let read = match program.write(&file) {
                        Ok(()) => Program::read(&file).unwrap(),
                        Err(ProgramError::Invalid { .. }) => continue,
                        Err(error) => panic!("{}: {error}", path.display()),
                    };
                    assert_eq!(read, program, "{}", path.display());
                    let text = disassemble(&read, BlobText::Whole);
                    assert_eq!(assemble(&text, None).unwrap(), program, "{}", path.display());
                    programs += 1;
                }
            }
        }
        assert!(programs > 100, "{programs}");
    }

    #[test]
    fn every_instruction_in_its_stream() {
        let mut rng = Rng::new(4);
        let mut device = DeviceSegment::default();
        for engine in Engine::all() {
            let stream = device.streams.entry(engine).or_insert_with(Stream::default);
            for row in (0..ROWS.len()).filter(|r| engine.runs(ROWS[*r].class)) {
                Inst::draw(row, &mut rng).encode(&mut stream.words).unwrap();
            }
            stream.words.push([rng.next_u64() | 0xff; 4]);
        }
        let bytes = bytes::Bytes::from((0..100u8).collect::<Vec<_>>());
        let p = Program {
            target_name: "mine".into(),
            target_digest: [7; 32],
            dram_bytes: 1 << 40,
            bindings: vec![Binding {
                name: "a\"b\\c\n".into(),
                role: BindingRole::Internal,
                dtype: DType::I32,
                host_dtype: DType::I64,
                shape: vec![],
                address: 64,
                range: Some((-5, i64::MAX)),
                alias_of: Some("x".into()),
            }],
            files: vec![FileRef { path: "w.bin".into(), size: 9, digest: [1; 32], seal: Some([2; 32]) }],
            blobs: vec![bytes.clone(), bytes::Bytes::new()],
            image: vec![
                ImageExtent {
                    address: 1,
                    pitch: 2,
                    rows: 3,
                    row_bytes: 2,
                    source: ImageSource::File { file: 0, offset: 4, pitch: 5 },
                },
                ImageExtent { address: 9, pitch: 7, rows: 1, row_bytes: 7, source: ImageSource::Zero },
            ],
            segments: vec![
                Segment::Device(device),
                Segment::Host(HostSegment {
                    bytecode: bytes,
                    inputs: vec!["a".into()],
                    outputs: vec![],
                    reason: "text".into(),
                }),
                Segment::Device(DeviceSegment::default()),
            ],
            ..Program::default()
        };
        let text = disassemble(&p, BlobText::Whole);
        assert_eq!(assemble(&text, None).unwrap(), p, "{text}");
    }

    #[test]
    fn all_errors_are_told_with_their_places() {
        let text = ".target nowhere\n.engine q0\n  act relu\n  mma\n.engine vec\n vtt add, spm[0:0].f99\n br al, r0, r0, gone\n li r40, imm=1\n halt 3\n.what\n li r1, imm=99999999999999999999\n";
        let errors = assemble(text, None).unwrap_err().to_string();
        let expected = "\
line 1, column 9: no target `nowhere`; give its digest
line 3, column 3: `act` does not run on stream q0
line 4, column 3: `mma` does not run on stream q0
line 6, column 20: operand `dst`: expected an element type, found `f99`
line 7, column 17: operand `to`: no label `gone` in this stream
line 8, column 5: operand `rd`: register `r40`: the last one is r31
line 9, column 7: unexpected `3`
line 10, column 1: no directive `.what`
line 11, column 13: 99999999999999999999 is not in -9223372036854775808..=9223372036854775807";
        assert_eq!(errors, expected);
        let text = ".target edge\n.buffer a spm parts=0..4 @0x0 bytes=8\n.engine vec\n vts add, spm[0:0].f32, \
                    spm[0:0].f32, 1.0f, 1:1x1x1 in=[0]\n viota spm[0:0].f32, 1:1x1x1 in=[1]\n halt in=[0]\n";
        let errors = assemble(text, None).unwrap_err().to_string();
        let expected = "\
line 4, column 53: buffers of 2 operands are wanted, not of 1
line 6, column 7: buffers of 0 operands are wanted, not of 1";
        assert_eq!(errors, expected);
    }

    #[test]
    fn operands_name_their_buffers() {
        let text = ".target edge\n.dram 0x100\n.origin o\n.buffer w dram @0x40 bytes=64\n.buffer \"a b\" acc parts=2..64 @0x10 bytes=8 \
                    slots=3 pitch=32 origin=0\n.engine q0\n dld acc[2:0x10].f32, ap0 in=[1,0]\n halt\n.engine vec\n \
                    vts add, spm[0:0].f32, acc[2:0x10].f32, 1.0f, 1:1x1x1 in=[-,1]\n viota spm[0:0].f32, 1:1x1x1\n halt\n";
        let program = assemble(text, None).unwrap();
        let Segment::Device(device) = &program.segments[0] else { panic!("device") };
        assert_eq!(device.buffers[1].parts, (2, 64));
        assert_eq!((device.buffers[1].slots, device.buffers[1].origin), (3, Some(0)));
        assert_eq!(device.streams[&Engine::Queue(0)].buffers, [Some(1), Some(0)]);
        assert_eq!(device.streams[&Engine::Vec].buffers, [None, Some(1), None]);
        program.validate().unwrap();
        let again = disassemble(&program, BlobText::Whole);
        assert_eq!(assemble(&again, None).unwrap(), program, "{again}");
        for (wrong, why) in [
            ("in=[0,1]", "stream q0: word 0: the buffer of an operand is in another memory"),
            ("in=[2,0]", "stream q0: word 0: buffer 2 does not exist"),
        ] {
            let error = assemble(&text.replace("in=[1,0]", wrong), None).unwrap().validate().unwrap_err();
            assert_eq!(error.to_string(), format!("the program is inconsistent: {why}"));
        }
    }

    /// Text made of pieces of programs, so that the reader gets far before it fails.
    #[test]
    fn no_text_makes_it_panic() {
        let pieces: Vec<&str> = RELU
            .split_inclusive([' ', ',', '\n', '[', '<'])
            .chain(["\"", "\\u{", "é", ".", "@", "-", "0x", ":", "="])
            .collect();
        let mut rng = Rng::new(7);
        for _ in 0..3000 {
            let text: String =
                (0..rng.below(40)).map(|_| pieces[rng.below(pieces.len() as u64) as usize]).collect();
            let _ = assemble(&text, None);
            let mut bytes = RELU.as_bytes().to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            let _ = assemble(&String::from_utf8_lossy(&bytes), None);
        }
    }
}
