//! Programs as data → MLIR.

use super::program::*;
use crate::context::Context;
use crate::error::{IrError, Result};
use crate::ffi::{self, Attr, Block, NamedAttr, OpParts, OwnedOp, Ty};
use crate::module::Module;
use crate::nn::codec;
use crate::origin::Origin;
use std::collections::BTreeMap;

impl Module {
    /// Puts `program` into the module, in place of one of the same name, and verifies it.
    ///
    /// # Errors
    /// [`IrError::Malformed`] for an id out of its table or scope, [`IrError::Verify`] for a broken rule; the
    /// module is then unchanged.
    pub fn put_program(&mut self, program: &Program) -> Result<()> {
        let context = self.context().clone();
        context.diagnostics();
        let op = emit_program(&context, program)?;
        if !op.get().verify() {
            return Err(IrError::Verify { message: context.diagnostics() });
        }
        self.put(&program.name, op);
        Ok(())
    }
}

fn emit_program(context: &Context, program: &Program) -> Result<OwnedOp> {
    let none = Origin::default();
    let op = new_op(context, "tile.program", &[("sym_name", text(&program.name))], 1, &none)?;
    let body = body_of(op.get())?;
    for dram in &program.drams {
        body.append(emit_dram(context, dram)?);
    }
    for group in &program.groups {
        let op = body.append(new_op(context, "tile.group", &[("sym_name", text(&group.name))], 1, &none)?);
        let mut emitter =
            Emitter { context, program, group, bufs: vec![None; group.bufs.len()], ivs: BTreeMap::new() };
        emitter.stmts(&group.body, body_of(op)?)?;
    }
    Ok(op)
}

fn text(name: &str) -> Attr {
    Attr::Text(name.to_owned())
}

fn body_of(op: ffi::Op) -> Result<Block> {
    op.block(0).ok_or_else(|| IrError::malformed("an op without a body"))
}

fn new_op(
    context: &Context,
    name: &str,
    attrs: &[NamedAttr],
    regions: usize,
    origin: &Origin,
) -> Result<OwnedOp> {
    let regions = vec![Vec::new(); regions];
    let parts = OpParts { name, operands: &[], results: &[], attrs, regions: &regions, origin };
    OwnedOp::new(&context.0, &parts).ok_or_else(|| context.refused(name))
}

fn emit_dram(context: &Context, dram: &Dram) -> Result<OwnedOp> {
    let index = match &dram.kind {
        DramKind::Input(_) => 0,
        DramKind::Output(_) => 1,
        DramKind::Weight(_) => 2,
        DramKind::Fold(_) => 3,
        DramKind::Temp => 4,
    };
    let mut attrs = vec![
        ("kind", Attr::I32(index)),
        ("sym_name", text(&dram.name)),
        ("type", Attr::TensorType(dram.ty.clone())),
    ];
    match &dram.kind {
        DramKind::Fold(function) => attrs.push(("fold", Attr::Symbol(function.clone()))),
        DramKind::Weight(parts) => {
            let numbers = |p: &Part| {
                [u64::from(p.file), p.file_offset, p.rows, p.row_bytes, p.file_pitch, p.offset, p.pitch]
                    .map(|n| n as i64)
                    .to_vec()
            };
            attrs.push(("parts", Attr::List(parts.iter().map(|p| Attr::Dims(numbers(p))).collect())));
        }
        _ => {}
    }
    let op = new_op(context, "tile.dram", &attrs, 0, &dram.origin)?;
    if let DramKind::Input(port) | DramKind::Output(port) = &dram.kind
        && let Attr::Dict(items) = codec::encode_port(port)
    {
        for (name, value) in &items {
            op.get().set_attr(name, value);
        }
    }
    Ok(op)
}

/// Writes one group.
struct Emitter<'a> {
    context: &'a Context,
    program: &'a Program,
    group: &'a Group,
    bufs: Vec<Option<ffi::Value>>,
    ivs: BTreeMap<IvId, ffi::Value>,
}

impl Emitter<'_> {
    fn stmts(&mut self, body: &[Stmt], block: Block) -> Result<()> {
        // What a body declares ends with it.
        let mut declared = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Alloc { buf, depth } => {
                    let ty = self.group.bufs.get(buf.index());
                    let ty = ty.ok_or_else(|| self.unknown(format!("buffer {}", buf.0)))?.clone();
                    let attrs = [("depth", Attr::I64(*depth as i64))];
                    let op =
                        self.append(block, "tile.alloc", &[], &[Ty::Buf(ty)], &attrs, &Origin::default())?;
                    self.bufs[buf.index()] = op.results().first().copied();
                    declared.push(*buf);
                }
                Stmt::For { iv, trip, body } => {
                    let attrs = [("trip", Attr::I64(*trip as i64))];
                    let parts = OpParts {
                        name: "tile.for",
                        operands: &[],
                        results: &[],
                        attrs: &attrs,
                        regions: &[vec![Ty::Index]],
                        origin: &Origin::default(),
                    };
                    let op = OwnedOp::new(&self.context.0, &parts)
                        .ok_or_else(|| self.context.refused("tile.for"))?;
                    let inner = body_of(block.append(op))?;
                    if self.ivs.contains_key(iv) {
                        return Err(self.unknown(format!("second loop variable {}", iv.0)));
                    }
                    self.ivs.insert(*iv, inner.args()[0]);
                    self.stmts(body, inner)?;
                    self.ivs.remove(iv);
                }
                Stmt::Op { op, origin } => self.op(op, origin, block)?,
            }
        }
        for buf in declared {
            self.bufs[buf.index()] = None;
        }
        Ok(())
    }

    fn unknown(&self, what: String) -> IrError {
        IrError::malformed(format!("@{} of tile.program has no {what} here", self.group.name))
    }

    fn append(
        &self,
        block: Block,
        name: &str,
        operands: &[ffi::Value],
        results: &[Ty],
        attrs: &[NamedAttr],
        origin: &Origin,
    ) -> Result<ffi::Op> {
        let parts = OpParts { name, operands, results, attrs, regions: &[], origin };
        let op = OwnedOp::new(&self.context.0, &parts).ok_or_else(|| self.context.refused(name))?;
        Ok(block.append(op))
    }

    fn iv(&self, iv: IvId) -> Result<ffi::Value> {
        self.ivs.get(&iv).copied().ok_or_else(|| self.unknown(format!("loop variable {}", iv.0)))
    }

    /// The value of a view: the buffer itself, or a `tile.sub` of it.
    fn view(&self, view: &View, block: Block, origin: &Origin) -> Result<ffi::Value> {
        let buf = self.bufs.get(view.buf.index()).copied().flatten();
        let buf = buf.ok_or_else(|| self.unknown(format!("buffer {}", view.buf.0)))?;
        let ty = &self.group.bufs[view.buf.index()];
        if view.is_whole(ty) && view.offsets.iter().all(|&o| o == 0) {
            return Ok(buf);
        }
        let mut operands = vec![buf];
        let mut coef = Vec::new();
        for (iv, coefs) in &view.ivs {
            operands.push(self.iv(*iv)?);
            coef.extend(coefs);
        }
        let attrs = [("offsets", Attr::Dims(view.offsets.clone())), ("coef", Attr::Dims(coef))];
        let result = BufType { shape: view.shape.clone(), ..ty.clone() };
        let op = self.append(block, "tile.sub", &operands, &[Ty::Buf(result)], &attrs, origin)?;
        op.results().first().copied().ok_or_else(|| IrError::malformed("tile.sub without a result"))
    }

    fn dram(&self, dram: DramId) -> Result<Attr> {
        let found = self.program.drams.get(dram.index());
        Ok(Attr::Symbol(found.ok_or_else(|| self.unknown(format!("DRAM tensor {}", dram.0)))?.name.clone()))
    }

    fn access(&self, dram: DramId, at: &Access) -> Result<(Vec<NamedAttr>, Vec<ffi::Value>)> {
        let ivs = at.ivs.iter().map(|(iv, _)| self.iv(*iv)).collect::<Result<Vec<_>>>()?;
        let attrs = vec![
            ("dram", self.dram(dram)?),
            ("offset", Attr::I64(at.offset)),
            ("strides", Attr::Dims(at.strides.clone())),
            ("coef", Attr::Dims(at.ivs.iter().map(|(_, c)| *c).collect())),
        ];
        Ok((attrs, ivs))
    }

    fn affine(&self, form: &Affine) -> Result<(Vec<NamedAttr>, Vec<ffi::Value>)> {
        let ivs = form.ivs.iter().map(|(iv, _)| self.iv(*iv)).collect::<Result<Vec<_>>>()?;
        let attrs = vec![
            ("base", Attr::I64(form.base)),
            ("axes", Attr::Dims(form.axes.clone())),
            ("coef", Attr::Dims(form.ivs.iter().map(|(_, c)| *c).collect())),
        ];
        Ok((attrs, ivs))
    }

    fn op(&self, op: &Op, origin: &Origin, block: Block) -> Result<()> {
        let view = |v: &View| self.view(v, block, origin);
        let flag = |attrs: &mut Vec<NamedAttr>, name, set: bool| {
            if set {
                attrs.push((name, Attr::Unit));
            }
        };
        let (operands, attrs) = match op {
            Op::Load { dram, at, dst } => {
                let (attrs, mut operands) = self.access(*dram, at)?;
                operands.push(view(dst)?);
                (operands, attrs)
            }
            Op::Store { src, dram, at } => {
                let (attrs, ivs) = self.access(*dram, at)?;
                ([vec![view(src)?], ivs].concat(), attrs)
            }
            Op::Gather { dram, at, idx, row_stride, rows, dst } => {
                let (mut attrs, ivs) = self.access(*dram, at)?;
                attrs.extend([("row_stride", Attr::I64(*row_stride)), ("rows", Attr::I64(*rows))]);
                ([ivs, vec![view(idx)?, view(dst)?]].concat(), attrs)
            }
            Op::Scatter { src, idx, dram, at, row_stride, rows } => {
                let (mut attrs, ivs) = self.access(*dram, at)?;
                attrs.extend([("row_stride", Attr::I64(*row_stride)), ("rows", Attr::I64(*rows))]);
                ([vec![view(src)?, view(idx)?], ivs].concat(), attrs)
            }
            Op::Fill { dst, value } => (vec![view(dst)?], vec![("value", Attr::F64(*value))]),
            Op::Iota { dst, form } => {
                let (attrs, ivs) = self.affine(form)?;
                ([vec![view(dst)?], ivs].concat(), attrs)
            }
            Op::Matmul { acc, s, x, accumulate } => {
                let mut attrs = Vec::new();
                flag(&mut attrs, "accumulate", *accumulate);
                (vec![view(acc)?, view(s)?, view(x)?], attrs)
            }
            Op::Map { kind, dst, srcs } => {
                let mut operands = vec![view(dst)?];
                let (mut imms, mut places) = (Vec::new(), Vec::new());
                for (i, src) in srcs.iter().enumerate() {
                    match src {
                        Source::View(v) => operands.push(view(v)?),
                        Source::Number(n) => {
                            imms.push(*n);
                            places.push(i as i64);
                        }
                    }
                }
                let kind = Attr::I32(*kind as i64);
                (operands, vec![("kind", kind), ("imms", Attr::Floats(imms)), ("imm_at", Attr::Dims(places))])
            }
            Op::Cast { dst, src } | Op::Transpose { dst, src } => (vec![view(dst)?, view(src)?], vec![]),
            Op::Mask { dst, src, form, fill } => {
                let (mut attrs, ivs) = self.affine(form)?;
                attrs.push(("fill", Attr::F64(*fill)));
                ([vec![view(dst)?, view(src)?], ivs].concat(), attrs)
            }
            Op::Reduce { kind, dst, src, accumulate } => {
                let mut attrs = vec![("kind", Attr::I32(*kind as i64))];
                flag(&mut attrs, "accumulate", *accumulate);
                (vec![view(dst)?, view(src)?], attrs)
            }
            Op::Scan { kind, dst, src, axis, exclusive, reverse } => {
                let mut attrs = vec![("kind", Attr::I32(*kind as i64)), ("axis", Attr::I64(*axis as i64))];
                flag(&mut attrs, "exclusive", *exclusive);
                flag(&mut attrs, "reverse", *reverse);
                (vec![view(dst)?, view(src)?], attrs)
            }
            Op::TopK { values, indices, src, axis, largest } => {
                let mut attrs = vec![("axis", Attr::I64(*axis as i64))];
                flag(&mut attrs, "largest", *largest);
                (vec![view(values)?, view(indices)?, view(src)?], attrs)
            }
            Op::Shuffle { dst, src, idx, axis } => {
                (vec![view(dst)?, view(src)?, view(idx)?], vec![("axis", Attr::I64(*axis as i64))])
            }
        };
        self.append(block, op.name(), &operands, &[], &attrs, origin)?;
        Ok(())
    }
}
