//! Segments to one program: one DRAM for all, tensors that cross segments at addresses chosen beforehand.

use crate::{
    error::Error,
    host::Folds,
    segments::{Part, Side},
};
use bytes::Bytes;
use indexmap::IndexMap;
use kiln_backend::{ALIGN_BYTES, BackendError, FoldEvaluator, Layout};
use kiln_ir::{
    IN_MEMORY, Module, TensorType,
    nn::{Func, Port},
};
use kiln_machine::{
    program::{
        Binding, BindingRole, FileRef, HostSegment, ImageExtent, ImageSource, OriginRange, Program, Segment,
    },
    target::Target,
    tensor::DType,
};

/// A program that grows segment by segment.
pub struct Linker {
    program: Program,
    layout: Layout,
    /// Number in the program's files of each file of the module; none for its own bytes.
    file_numbers: Vec<Option<u32>>,
    own_blob: Option<u32>,
    origins: IndexMap<String, u32>,
}

impl Linker {
    /// Places the program's inputs, outputs and every tensor that crosses segments.
    ///
    /// # Errors
    /// When a part has no `main` or a file cannot be referred to.
    pub fn new(
        source: &Module,
        whole: &Func,
        parts: &[Part],
        target: &Target,
        folds: &Folds,
    ) -> Result<Linker, Error> {
        let program = Program {
            target_name: target.name.clone(),
            target_digest: target.digest(),
            ..Program::default()
        };
        let mut linker = Linker {
            program,
            layout: Layout::default(),
            file_numbers: Vec::new(),
            own_blob: None,
            origins: IndexMap::new(),
        };
        linker.files(source, folds)?;
        for (value, port) in whole.arg_values().zip(&whole.args) {
            let address = linker.bind(whole.ty(value), port, BindingRole::Input);
            linker.layout.inputs.insert(port.name.clone(), address);
        }
        for (value, port) in &whole.results {
            let address = linker.bind(whole.ty(*value), port, BindingRole::Output);
            linker.layout.outputs.insert(port.name.clone(), address);
            // Where a later segment reads what this one gives; an input of that name is the same value.
            linker.layout.inputs.entry(port.name.clone()).or_insert(address);
        }
        for part in parts {
            let func = part.module.func("main")?;
            for (port, place) in &part.weights {
                linker.weight(port, place);
            }
            for (value, port) in &func.results {
                if !linker.layout.outputs.contains_key(&port.name) {
                    let address = linker.bind(func.ty(*value), port, BindingRole::Internal);
                    linker.layout.outputs.insert(port.name.clone(), address);
                    linker.layout.inputs.insert(port.name.clone(), address);
                }
            }
        }
        Ok(linker)
    }

    /// Where the next device segment may put its tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn files(&mut self, source: &Module, folds: &Folds) -> Result<(), Error> {
        for path in source.files() {
            if path == IN_MEMORY {
                self.file_numbers.push(None);
                continue;
            }
            let fault = |reason: String| Error::Backend(BackendError::Fold { name: path.clone(), reason });
            let bytes = folds.file(&path).map_err(fault)?;
            self.file_numbers.push(Some(self.program.files.len() as u32));
            self.program.files.push(FileRef::new(&path, &bytes).map_err(|e| fault(e.to_string()))?);
        }
        if self.file_numbers.contains(&None) {
            self.own_blob = Some(self.blob(Bytes::copy_from_slice(source.blob())));
        }
        Ok(())
    }

    /// Room for `bytes` of DRAM.
    fn room(&mut self, bytes: u64) -> u64 {
        let address = self.layout.base;
        self.layout.base += bytes.next_multiple_of(ALIGN_BYTES);
        self.program.dram_bytes = self.layout.base;
        address
    }

    fn bind(&mut self, ty: &TensorType, port: &Port, role: BindingRole) -> u64 {
        let address = self.room(ty.size_bytes() as u64);
        let dtype = if ty.dtype == DType::Bool { DType::U8 } else { ty.dtype };
        self.program.bindings.push(Binding {
            name: port.name.clone(),
            role,
            dtype,
            host_dtype: port.host_type.unwrap_or(ty.dtype),
            shape: ty.shape.clone(),
            address,
            range: port.range.map(|[lo, hi]| (lo, hi)),
            alias_of: None,
        });
        address
    }

    /// A weight that a host segment reads.
    fn weight(&mut self, port: &Port, place: &crate::segments::WeightPlace) {
        if self.layout.inputs.contains_key(&port.name) {
            return;
        }
        let address = self.bind(&place.ty, port, BindingRole::Internal);
        self.layout.inputs.insert(port.name.clone(), address);
        let (offset, pitch) = (place.offset, place.length);
        let file = self.file_numbers.get(place.file as usize).copied().flatten();
        let source = match (file, self.own_blob) {
            (Some(file), _) => ImageSource::File { file, offset, pitch },
            (None, Some(blob)) => ImageSource::Blob { blob, offset, pitch },
            (None, None) => return,
        };
        self.program.image.push(ImageExtent { address, pitch, rows: 1, row_bytes: place.length, source });
    }

    fn blob(&mut self, bytes: Bytes) -> u32 {
        let known = self.program.blobs.iter().position(|b| *b == bytes);
        known.unwrap_or_else(|| {
            self.program.blobs.push(bytes);
            self.program.blobs.len() - 1
        }) as u32
    }

    /// Adds a host segment.
    ///
    /// # Errors
    /// When the part has no `main`.
    pub fn host(&mut self, part: &Part) -> Result<(), Error> {
        debug_assert_eq!(part.side, Side::Host);
        let func = part.module.func("main")?;
        let reasons: Vec<String> = part
            .host_ops
            .iter()
            .map(|op| format!("{}: {}", op.op, op.reason))
            .collect::<indexmap::IndexSet<_>>()
            .into_iter()
            .collect();
        self.program.segments.push(Segment::Host(HostSegment {
            bytecode: part.module.bytecode().into(),
            inputs: func.args.iter().map(|port| port.name.clone()).collect(),
            outputs: func.results.iter().map(|(_, port)| port.name.clone()).collect(),
            reason: reasons.join("; "),
        }));
        Ok(())
    }

    /// Adds the segments of a program that was emitted at [`Linker::layout`].
    pub fn device(&mut self, emitted: Program) {
        let Linker { origins, .. } = self;
        let origin_numbers: Vec<u32> = emitted
            .origins
            .iter()
            .map(|name| {
                let next = origins.len() as u32;
                *origins.entry(name.clone()).or_insert(next)
            })
            .collect();
        let blob_numbers: Vec<u32> = emitted.blobs.into_iter().map(|bytes| self.blob(bytes)).collect();
        for extent in emitted.image {
            let source = match extent.source {
                ImageSource::Blob { blob, offset, pitch } => {
                    ImageSource::Blob { blob: blob_numbers[blob as usize], offset, pitch }
                }
                other => other,
            };
            self.program.image.push(ImageExtent { source, ..extent });
        }
        for segment in emitted.segments {
            let Segment::Device(mut device) = segment else { continue };
            for range in device.streams.values_mut().flat_map(|s| &mut s.origins) {
                let OriginRange { shares, .. } = range;
                shares.iter_mut().for_each(|share| share.origin = origin_numbers[share.origin as usize]);
            }
            for origin in device.buffers.iter_mut().filter_map(|buffer| buffer.origin.as_mut()) {
                *origin = origin_numbers[*origin as usize];
            }
            self.program.segments.push(Segment::Device(device));
        }
        self.program.dram_bytes = self.program.dram_bytes.max(emitted.dram_bytes);
        self.layout.base = self.program.dram_bytes.next_multiple_of(ALIGN_BYTES);
    }

    /// The program.
    ///
    /// # Errors
    /// When it exceeds the target's DRAM.
    pub fn finish(mut self, target: &Target) -> Result<Program, Error> {
        let (needed_bytes, available_bytes) = (self.program.dram_bytes, target.dram_bytes);
        if needed_bytes > available_bytes {
            return Err(BackendError::DramFull { needed_bytes, available_bytes }.into());
        }
        self.program.origins = self.origins.into_keys().collect();
        Ok(self.program)
    }
}
