//! MLIR → programs as data.

use super::program::*;
use crate::error::{IrError, Result};
use crate::ffi::{self, Attr, Ty};
use crate::module::Module;
use crate::nn::codec::{Reader, decode_port};
use crate::nn::{MapKind, ReduceKind, ScanKind};
use std::collections::{BTreeMap, HashMap};

impl Module {
    /// Reads the program called `name`.
    ///
    /// # Errors
    /// [`IrError::Malformed`] when there is none, or it holds ops or types that are not of `tile`.
    pub fn program(&self, name: &str) -> Result<Program> {
        let found = self.find(name).filter(|op| op.name() == "tile.program");
        let op = found.ok_or_else(|| IrError::malformed(format!("there is no tile.program @{name}")))?;
        let body = op.block(0).ok_or_else(|| IrError::malformed(format!("tile.program @{name} is empty")))?;
        let mut program = Program { name: name.to_owned(), ..Program::default() };
        let mut by_name = BTreeMap::new();
        let (drams, groups): (Vec<_>, Vec<_>) =
            body.ops().into_iter().partition(|op| op.name() == "tile.dram");
        for op in drams {
            let dram = read_dram(op)?;
            by_name.insert(dram.name.clone(), DramId(program.drams.len() as u32));
            program.drams.push(dram);
        }
        for op in groups {
            let r = Reader::new(op);
            if r.name != "tile.group" {
                return Err(IrError::malformed(format!("'{}' has no place in a tile.program", r.name)));
            }
            let mut group = Group { name: r.text("sym_name")?, ..Group::default() };
            let mut reader =
                GroupReader { drams: &by_name, bufs: Vec::new(), views: HashMap::new(), ivs: HashMap::new() };
            group.body = reader.stmts(op)?;
            group.bufs = reader.bufs;
            program.groups.push(group);
        }
        Ok(program)
    }
}

fn read_dram(op: ffi::Op) -> Result<Dram> {
    let r = Reader::new(op);
    let bad = |what: &str| IrError::malformed(format!("tile.dram with a bad {what}"));
    let port = || {
        let items = ["nn.name", "nn.host_type", "nn.range"];
        let found = items.iter().filter_map(|n| Some(((*n).to_owned(), op.attr(n)?))).collect();
        decode_port(Some(&Attr::Dict(found)))
    };
    let kind = match r.int("kind")? {
        0 => DramKind::Input(port()),
        1 => DramKind::Output(port()),
        2 => {
            let Some(Attr::List(items)) = op.attr("parts") else { return Err(bad("list of parts")) };
            let part = |item: Attr| match item {
                Attr::Dims(n) if n.len() == 7 => Ok(Part {
                    file: n[0] as u32,
                    file_offset: n[1] as u64,
                    rows: n[2] as u64,
                    row_bytes: n[3] as u64,
                    file_pitch: n[4] as u64,
                    offset: n[5] as u64,
                    pitch: n[6] as u64,
                }),
                _ => Err(bad("part")),
            };
            DramKind::Weight(items.into_iter().map(part).collect::<Result<_>>()?)
        }
        3 => DramKind::Fold(r.text("fold")?),
        4 => DramKind::Temp,
        _ => return Err(bad("kind")),
    };
    let Some(Attr::TensorType(ty)) = op.attr("type") else { return Err(bad("type")) };
    Ok(Dram { name: r.text("sym_name")?, kind, ty, origin: op.origin() })
}

/// Reads one group; the maps are looked up only, never iterated.
struct GroupReader<'a> {
    drams: &'a BTreeMap<String, DramId>,
    bufs: Vec<BufType>,
    views: HashMap<usize, View>,
    ivs: HashMap<usize, IvId>,
}

impl GroupReader<'_> {
    fn stmts(&mut self, parent: ffi::Op) -> Result<Vec<Stmt>> {
        let block = parent.block(0).ok_or_else(|| IrError::malformed("an op of tile without a body"))?;
        let mut stmts = Vec::new();
        for op in block.ops() {
            let r = Reader::new(op);
            match r.name.as_str() {
                "tile.alloc" => {
                    let value = op.results()[0];
                    let Some(Ty::Buf(ty)) = value.ty() else { return Err(IrError::malformed("tile.alloc")) };
                    let buf = BufId(self.bufs.len() as u32);
                    self.views.insert(value.key(), View::whole(buf, &ty));
                    self.bufs.push(ty);
                    stmts.push(Stmt::Alloc { buf, depth: r.size("depth")? });
                }
                "tile.sub" => self.sub(&r)?,
                "tile.for" => {
                    let arg = op.block(0).map(|b| b.args()).unwrap_or_default();
                    let arg = arg.first().ok_or_else(|| IrError::malformed("tile.for without a variable"))?;
                    let iv = IvId(self.ivs.len() as u32);
                    self.ivs.insert(arg.key(), iv);
                    stmts.push(Stmt::For { iv, trip: r.size("trip")?, body: self.stmts(op)? });
                }
                _ => stmts.push(Stmt::Op { op: self.op(&r)?, origin: op.origin() }),
            }
        }
        Ok(stmts)
    }

    fn sub(&mut self, r: &Reader) -> Result<()> {
        let operands = r.op.operands();
        let mut view = self.view(operands[0])?;
        for (o, add) in view.offsets.iter_mut().zip(r.signed_dims("offsets")?) {
            *o += add;
        }
        let rank = view.offsets.len();
        for (iv, coefs) in operands[1..].iter().zip(r.signed_dims("coef")?.chunks_exact(rank)) {
            let iv = self.iv(*iv)?;
            match view.ivs.iter_mut().find(|(id, _)| *id == iv) {
                Some((_, old)) => old.iter_mut().zip(coefs).for_each(|(o, c)| *o += c),
                None => view.ivs.push((iv, coefs.to_vec())),
            }
        }
        let result = r.op.results()[0];
        let Some(Ty::Buf(ty)) = result.ty() else { return Err(IrError::malformed("tile.sub")) };
        view.shape = ty.shape;
        self.views.insert(result.key(), view);
        Ok(())
    }

    fn view(&self, value: ffi::Value) -> Result<View> {
        let view = self.views.get(&value.key()).cloned();
        view.ok_or_else(|| IrError::malformed("an operand is no buffer of its group"))
    }

    fn iv(&self, value: ffi::Value) -> Result<IvId> {
        let iv = self.ivs.get(&value.key()).copied();
        iv.ok_or_else(|| IrError::malformed("an operand is no loop variable of its group"))
    }

    fn ivs(&self, values: &[ffi::Value], r: &Reader) -> Result<Vec<(IvId, i64)>> {
        values.iter().zip(r.signed_dims("coef")?).map(|(v, c)| Ok((self.iv(*v)?, c))).collect()
    }

    fn access(&self, r: &Reader, ivs: &[ffi::Value]) -> Result<(DramId, Access)> {
        let name = r.text("dram")?;
        let dram = self.drams.get(&name).copied();
        let dram = dram.ok_or_else(|| IrError::malformed(format!("there is no tile.dram @{name}")))?;
        let at =
            Access { offset: r.int("offset")?, strides: r.signed_dims("strides")?, ivs: self.ivs(ivs, r)? };
        Ok((dram, at))
    }

    fn affine(&self, r: &Reader, ivs: &[ffi::Value]) -> Result<Affine> {
        Ok(Affine { base: r.int("base")?, axes: r.signed_dims("axes")?, ivs: self.ivs(ivs, r)? })
    }

    fn op(&self, r: &Reader) -> Result<Op> {
        let v = r.op.operands();
        let n = v.len();
        let view = |i: usize| {
            v.get(i).map_or_else(|| Err(IrError::malformed("too few operands")), |x| self.view(*x))
        };
        let number = |name: &str| r.scalar(name).map(|s| s.as_f64());
        Ok(match r.name.as_str() {
            "tile.load" => {
                let (dram, at) = self.access(r, &v[..n - 1])?;
                Op::Load { dram, at, dst: view(n - 1)? }
            }
            "tile.store" => {
                let (dram, at) = self.access(r, &v[1..])?;
                Op::Store { src: view(0)?, dram, at }
            }
            "tile.gather" => {
                let (dram, at) = self.access(r, &v[..n - 2])?;
                let (row_stride, rows) = (r.int("row_stride")?, r.int("rows")?);
                Op::Gather { dram, at, idx: view(n - 2)?, row_stride, rows, dst: view(n - 1)? }
            }
            "tile.scatter" => {
                let (dram, at) = self.access(r, &v[2..])?;
                let (row_stride, rows) = (r.int("row_stride")?, r.int("rows")?);
                Op::Scatter { src: view(0)?, idx: view(1)?, dram, at, row_stride, rows }
            }
            "tile.fill" => Op::Fill { dst: view(0)?, value: number("value")? },
            "tile.iota" => Op::Iota { dst: view(0)?, form: self.affine(r, &v[1..])? },
            "tile.matmul" => {
                Op::Matmul { acc: view(0)?, s: view(1)?, x: view(2)?, accumulate: r.flag("accumulate") }
            }
            "tile.map" => {
                let Some(Attr::Floats(imms)) = r.op.attr("imms") else {
                    return Err(IrError::malformed("tile.map without 'imms'"));
                };
                let mut srcs =
                    v[1..].iter().map(|x| Ok(Source::View(self.view(*x)?))).collect::<Result<Vec<_>>>()?;
                for (number, at) in imms.into_iter().zip(r.dims("imm_at")?) {
                    srcs.insert(at.min(srcs.len()), Source::Number(number));
                }
                Op::Map { kind: r.case("kind", MapKind::from_index)?, dst: view(0)?, srcs }
            }
            "tile.cast" => Op::Cast { dst: view(0)?, src: view(1)? },
            "tile.transpose" => Op::Transpose { dst: view(0)?, src: view(1)? },
            "tile.mask" => Op::Mask {
                dst: view(0)?,
                src: view(1)?,
                form: self.affine(r, &v[2..])?,
                fill: number("fill")?,
            },
            "tile.reduce" => Op::Reduce {
                kind: r.case("kind", ReduceKind::from_index)?,
                dst: view(0)?,
                src: view(1)?,
                accumulate: r.flag("accumulate"),
            },
            "tile.scan" => Op::Scan {
                kind: r.case("kind", ScanKind::from_index)?,
                dst: view(0)?,
                src: view(1)?,
                axis: r.size("axis")?,
                exclusive: r.flag("exclusive"),
                reverse: r.flag("reverse"),
            },
            "tile.topk" => Op::TopK {
                values: view(0)?,
                indices: view(1)?,
                src: view(2)?,
                axis: r.size("axis")?,
                largest: r.flag("largest"),
            },
            "tile.shuffle" => {
                Op::Shuffle { dst: view(0)?, src: view(1)?, idx: view(2)?, axis: r.size("axis")? }
            }
            other => return Err(IrError::malformed(format!("'{other}' is no op of tile"))),
        })
    }
}
