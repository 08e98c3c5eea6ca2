//! Emission: the steps of the backend in order, and the program with its DRAM image and bindings.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kiln_ir::eval::Files;
use kiln_ir::nn::Func;
use kiln_ir::{IN_MEMORY, Module, Tensor, tile};
use kiln_machine::program::{
    Binding, BindingRole, DeviceSegment, FileRef, ImageExtent, ImageSource, OriginRange, OriginShare,
    Program, Segment, Stream,
};
use kiln_machine::target::Target;
use rayon::prelude::*;

use crate::allocate::{Capacity, Packing, allocate};
use crate::error::BackendError;
use crate::lir::{Engine, Lir, OriginId, Storage};
use crate::placement::{Extent, Placement};
use crate::{buffers, depend, dram, dram::Layout, select, stream, sync};

/// What emission needs from outside: constant functions and the files that weights refer to.
pub trait FoldEvaluator: Sync {
    /// The value of an `nn` function without arguments, whose weights lie in `files`.
    fn evaluate(&self, function: &Func, files: &Files) -> Result<Tensor, String>;
    /// The contents of the module's files in its order.
    fn contents(&self, module: &Module) -> Files;
    /// The contents of a file of `nn.files`, by reference.
    fn file(&self, path: &str) -> Result<Bytes, String>;
}

/// What became of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmitReport {
    /// Instructions in the text of each stream.
    pub instructions: BTreeMap<String, usize>,
    /// Bytes of all streams.
    pub text_bytes: u64,
    /// Semaphores used.
    pub semaphores: usize,
    /// Constraints between engines, before and after reduction.
    pub constraints: (usize, usize),
    /// Waits and signals executed in a run.
    pub sync_executed: u64,
    /// Most SPM and ACC bytes of one partition that a group uses.
    pub spm_peak_bytes: u64,
    pub acc_peak_bytes: u64,
    /// Each group's memories.
    pub packings: Vec<Packing>,
    /// DRAM bytes in all, and of temporaries.
    pub dram_bytes: u64,
    pub temp_bytes: u64,
    /// DMA queues used; fewer than the target's if semaphores ran short.
    pub queues: u32,
    /// Where the groups stand in the text, an entry for each tile program emitted.
    pub group_words: Vec<GroupWords>,
}

/// First word and one past the last of each group's part of each stream, in the order of the program's groups.
pub type GroupWords = BTreeMap<kiln_machine::isa::Engine, Vec<(u32, u32)>>;

/// Emits the module's tile program for a target.
///
/// # Errors
/// See [`BackendError`]; [`BackendError::DoesNotFit`] names the group that needs smaller tiles.
pub fn emit(module: &Module, target: &Target, folds: &dyn FoldEvaluator) -> Result<Program, BackendError> {
    emit_with_report(module, target, folds, &Layout::default()).map(|(program, _)| program)
}

/// As [`emit`], at the addresses of `layout`, with what became of the program.
///
/// # Errors
/// As [`emit`].
pub fn emit_with_report(
    module: &Module,
    target: &Target,
    folds: &dyn FoldEvaluator,
    layout: &Layout,
) -> Result<(Program, EmitReport), BackendError> {
    let source = module.program("main").map_err(|e| BackendError::Malformed(e.to_string()))?;
    // The functions' values and the streams do not depend on one another.
    let functions = fold_functions(module, &source)?;
    let files = folds.contents(module);
    let (done, values) = rayon::join(
        || scheduled(&source, target, layout),
        || functions.par_iter().map(|f| fold_value(f, folds, &files)).collect::<Vec<_>>(),
    );
    let (done, queues) = done?;
    let program = assemble(module, &source, target, folds, &done, values)?;
    Ok((program, report(&done, queues)))
}

/// The functions that fill DRAM tensors, in the order of these tensors.
fn fold_functions(module: &Module, source: &tile::Program) -> Result<Vec<Func>, BackendError> {
    let named = source.drams.iter().filter_map(|dram| match &dram.kind {
        tile::DramKind::Fold(function) => Some(function),
        _ => None,
    });
    named.map(|f| module.func(f).map_err(|e| BackendError::Malformed(e.to_string()))).collect()
}

fn fold_value(function: &Func, folds: &dyn FoldEvaluator, files: &Files) -> Result<Tensor, BackendError> {
    let fail = |reason: String| BackendError::Fold { name: function.name.clone(), reason };
    folds.evaluate(function, files).map_err(fail)
}

/// Everything but the image, and the DMA queues used.
fn scheduled(
    source: &tile::Program,
    target: &Target,
    layout: &Layout,
) -> Result<(Scheduled, u32), BackendError> {
    let all = target.dma_queues as u32;
    // Fewer queues, and transfers spread over fewer of them, need fewer semaphores.
    let mut attempts = [
        (all, all),
        (all, 8),
        (all, 4),
        (all, 2),
        (all * 7 / 8, 4),
        (all * 3 / 4, 3),
        (all * 5 / 8, 2),
        (all / 2, 2),
        (all / 4, 1),
        (all / 8, 1),
        (1, 1),
    ]
    .into_iter()
    .filter(|(queues, _)| *queues > 0);
    let mut queues = attempts.next().unwrap_or((1, 1));
    // A sum that an instruction of ACT makes at once lives longer; where there is no room for that, VEC makes it.
    let mut tight = BTreeSet::new();
    loop {
        match scheduled_on(source, target, (queues, &tight), layout) {
            Err(BackendError::DoesNotFit { group, .. }) if !tight.contains(&group) => {
                tracing::debug!(group, "no room for fused instructions");
                tight.insert(group);
            }
            Err(BackendError::Semaphores { needed, available }) => {
                tracing::debug!(?queues, needed, available, "too many semaphores");
                queues = attempts.next().ok_or(BackendError::Semaphores { needed, available })?;
            }
            done => return Ok((done?, queues.0)),
        }
    }
}

/// Everything but the image.
struct Scheduled {
    lir: Lir,
    placement: Placement,
    packings: Vec<Packing>,
    sync: sync::SyncPlan,
    streams: BTreeMap<Engine, stream::EmittedStream>,
    dram: dram::DramPlan,
}

fn scheduled_on(
    source: &tile::Program,
    target: &Target,
    (queues, tight): ((u32, u32), &BTreeSet<String>),
    layout: &Layout,
) -> Result<Scheduled, BackendError> {
    let lir = select::select(source, target, queues, tight)?;
    let capacity = Capacity {
        partitions: target.partitions as u32,
        spm_bytes: target.spm_partition_bytes(),
        acc_bytes: target.acc_partition_bytes(),
    };
    let (slots, packings) = allocate(&lir, capacity)?;
    let dram = dram::place(source, &lir, target, layout)?;
    let placement = Placement { slots, drams: dram.extents.clone() };
    let edges = depend::constraints(&lir, &placement);
    let sync = sync::plan(&lir, &edges);
    if sync.owners.len() > target.semaphores as usize {
        return Err(BackendError::Semaphores {
            needed: sync.owners.len(),
            available: target.semaphores as usize,
        });
    }
    let emitted: Vec<(Engine, Result<stream::EmittedStream, BackendError>)> = (0
        ..kiln_machine::isa::Engine::COUNT as u8)
        .into_par_iter()
        .map(|index| (Engine(index), stream::emit(&lir, &placement, &sync, Engine(index))))
        .collect();
    let mut streams = BTreeMap::new();
    for (engine, emitted) in emitted {
        let emitted = emitted?;
        if !emitted.words.is_empty() {
            streams.insert(engine, emitted);
        }
    }
    Ok(Scheduled { lir, placement, packings, sync, streams, dram })
}

fn report(done: &Scheduled, queues: u32) -> EmitReport {
    let peak =
        |space| done.packings.iter().filter(|p| p.space == space).map(|p| p.peak_bytes).max().unwrap_or(0);
    let name = |e: &Engine| stream::unit(*e).map_or_else(String::new, |u| u.to_string());
    EmitReport {
        instructions: done.streams.iter().map(|(e, s)| (name(e), s.instructions)).collect(),
        text_bytes: done.streams.values().map(|s| s.words.len() as u64 * 32).sum(),
        semaphores: done.sync.owners.len(),
        constraints: (done.sync.found, done.sync.kept),
        sync_executed: sync::executed(&done.lir, &done.sync),
        spm_peak_bytes: peak(kiln_machine::isa::Space::Spm),
        acc_peak_bytes: peak(kiln_machine::isa::Space::Acc),
        packings: done.packings.clone(),
        dram_bytes: done.dram.bytes,
        temp_bytes: done.dram.temp_bytes,
        queues,
        group_words: vec![
            done.streams.iter().filter_map(|(e, s)| Some((stream::unit(*e)?, s.groups.clone()))).collect(),
        ],
    }
}

fn assemble(
    module: &Module,
    source: &tile::Program,
    target: &Target,
    folds: &dyn FoldEvaluator,
    done: &Scheduled,
    values: Vec<Result<Tensor, BackendError>>,
) -> Result<Program, BackendError> {
    let mut origins = Vec::new();
    let mut number: BTreeMap<String, u32> = BTreeMap::new();
    let mut shares_of = |id: OriginId| -> Vec<OriginShare> {
        let names = done.lir.origins[id.index()].iter();
        names
            .map(|name| {
                let next = number.len() as u32;
                let origin = *number.entry(name.clone()).or_insert(next);
                if origin == next {
                    origins.push(name.clone());
                }
                OriginShare { origin, weight: 1 }
            })
            .collect()
    };
    let mut streams = BTreeMap::new();
    let mut table = buffers::Table::new(source, &done.lir, &done.placement, target);
    for (engine, emitted) in &done.streams {
        let mut ranges = Vec::with_capacity(emitted.origins.len());
        for (start, end, id) in &emitted.origins {
            let shares = shares_of(*id);
            if !shares.is_empty() {
                ranges.push(OriginRange { start: *start, end: *end, shares });
            }
        }
        if let Some(unit) = stream::unit(*engine) {
            let writer = |storage: Storage| {
                let id = emitted.writers.get(&storage)?;
                shares_of(*id).first().map(|share| share.origin)
            };
            let buffers = table.numbers(&emitted.operands, writer);
            streams.insert(unit, Stream { words: emitted.words.clone(), origins: ranges, buffers });
        }
    }
    let mut image = Image::new(module, folds)?;
    let mut bindings = Vec::new();
    let mut values = values.into_iter();
    for (dram, at) in source.drams.iter().zip(&done.placement.drams) {
        match &dram.kind {
            tile::DramKind::Input(port) => bindings.push(binding(dram, port, BindingRole::Input, *at)),
            tile::DramKind::Output(port) => bindings.push(binding(dram, port, BindingRole::Output, *at)),
            tile::DramKind::Weight(parts) => image.weight(parts, *at)?,
            tile::DramKind::Fold(function) => match values.next() {
                Some(value) => image.fold(function, value?, dram, *at)?,
                None => return Err(BackendError::Malformed(format!("@{function} has no value"))),
            },
            tile::DramKind::Temp => {}
        }
    }
    Ok(Program {
        target_name: target.name.clone(),
        target_digest: target.digest(),
        dram_bytes: done.dram.bytes,
        bindings,
        scalars: Vec::new(),
        files: image.files,
        blobs: image.blobs,
        image: image.extents,
        origins,
        segments: vec![Segment::Device(DeviceSegment {
            buffers: table.finish(),
            ..DeviceSegment::of_one_core(streams)
        })],
    })
}

fn binding(dram: &tile::Dram, port: &kiln_ir::nn::Port, role: BindingRole, at: Extent) -> Binding {
    Binding {
        name: port.name.clone(),
        role,
        dtype: dram.ty.dtype,
        host_dtype: port.host_type.unwrap_or(dram.ty.dtype),
        shape: dram.ty.shape.clone(),
        address: at.base,
        range: port.range.map(|[lo, hi]| (lo, hi)),
        alias_of: None,
    }
}

/// The DRAM image under construction.
struct Image {
    files: Vec<FileRef>,
    /// Number in [`Image::files`] of each entry of `nn.files`; none for the module's own bytes.
    numbers: Vec<Option<u32>>,
    blobs: Vec<Bytes>,
    extents: Vec<ImageExtent>,
}

impl Image {
    fn new(module: &Module, folds: &dyn FoldEvaluator) -> Result<Self, BackendError> {
        let mut image =
            Image { files: Vec::new(), numbers: Vec::new(), blobs: Vec::new(), extents: Vec::new() };
        for path in module.files() {
            if path == IN_MEMORY {
                image.numbers.push(None);
                continue;
            }
            let bytes =
                folds.file(&path).map_err(|reason| BackendError::Fold { name: path.clone(), reason })?;
            image.numbers.push(Some(image.files.len() as u32));
            let file = FileRef::new(&path, &bytes)
                .map_err(|e| BackendError::Fold { name: path.clone(), reason: e.to_string() })?;
            image.files.push(file);
        }
        if image.numbers.contains(&None) {
            image.blobs.push(Bytes::copy_from_slice(module.blob()));
        }
        Ok(image)
    }

    fn weight(&mut self, parts: &[tile::Part], at: Extent) -> Result<(), BackendError> {
        for part in parts {
            let number = self.numbers.get(part.file as usize).ok_or_else(|| {
                BackendError::Malformed(format!(
                    "a weight refers to file {} of {}",
                    part.file,
                    self.numbers.len()
                ))
            })?;
            let (offset, pitch) = (part.file_offset, part.file_pitch);
            self.extents.push(ImageExtent {
                address: at.base + part.offset,
                pitch: part.pitch,
                rows: part.rows,
                row_bytes: part.row_bytes,
                source: match number {
                    Some(file) => ImageSource::File { file: *file, offset, pitch },
                    None => ImageSource::Blob { blob: 0, offset, pitch },
                },
            });
        }
        Ok(())
    }

    fn fold(
        &mut self,
        function: &str,
        value: Tensor,
        dram: &tile::Dram,
        at: Extent,
    ) -> Result<(), BackendError> {
        if value.dtype != dram.ty.dtype || value.shape != dram.ty.shape {
            let reason = format!("gives {:?} {:?}, not {}", value.dtype, value.shape, dram.ty);
            return Err(BackendError::Fold { name: function.to_owned(), reason });
        }
        let row_bytes = value.data.len() as u64;
        let blob = self.blobs.len() as u32;
        self.blobs.push(value.data);
        let source = ImageSource::Blob { blob, offset: 0, pitch: row_bytes };
        self.extents.push(ImageExtent { address: at.base, pitch: row_bytes, rows: 1, row_bytes, source });
        Ok(())
    }
}

/// Groups in which each DRAM tensor is used, first and last.
pub(crate) fn dram_uses(lir: &Lir) -> BTreeMap<u32, (usize, usize)> {
    let mut uses: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    let mut note = |group: usize, work: &crate::lir::Work| {
        for access in &work.accesses {
            if let Storage::Dram(d) = access.storage {
                let range = uses.entry(d.0).or_insert((group, group));
                range.1 = range.1.max(group);
            }
        }
    };
    fn visit(lir: &Lir, item: &crate::lir::Item, f: &mut impl FnMut(&crate::lir::Work)) {
        match item {
            crate::lir::Item::Work(work) => f(work),
            crate::lir::Item::Loop(body) => {
                lir.blocks[body.index()].items.iter().for_each(|i| visit(lir, i, f))
            }
        }
    }
    for (g, group) in lir.groups.iter().enumerate() {
        for item in &lir.blocks[crate::lir::ROOT.index()].items[group.items.clone()] {
            visit(lir, item, &mut |work| note(g, work));
        }
    }
    uses
}
