//! Programs on the simulated machine: loading, binding, running.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;

use indexmap::IndexMap;
use kiln_machine::isa::Engine;
use kiln_machine::map::FileMap;
use kiln_machine::program::{
    self, Binding, BindingRole, HostSegment, ImageExtent, ImageSource, Program, ProgramError, Segment,
};
use kiln_machine::target::Target;
use kiln_machine::tensor::Tensor;

use crate::bind;
use crate::code::Code;
use crate::counters::Counters;
use crate::device::{Device, Settings};
use crate::dram::{Cursor, Dram, Extent, Source};
use crate::error::SimError;
use crate::execute::Memories;
use crate::live::Live;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::sanitize::{Findings, Sanitizer};

/// Executes the segments that the machine cannot run.
pub trait HostExecutor: Send + Sync {
    /// The results of a host segment.
    ///
    /// # Errors
    /// Why it cannot be executed, as a sentence.
    fn execute(&self, segment: &HostSegment, inputs: &[Tensor]) -> Result<Vec<Tensor>, String>;
}

/// How to simulate.
#[derive(Default)]
pub struct Options {
    /// The directory that the program's file references are relative to.
    pub model_dir: PathBuf,
    /// Stop with an error after so many MXU cycles; none: never.
    pub cycle_limit: Option<u64>,
    /// Count cycles only: no values, no DRAM image; outputs are empty. Indices that a program reads into
    /// registers are then zero.
    pub timing_only: bool,
    /// When only cycles are counted, simulate every period of a steady state instead of jumping over repetitions.
    /// The counts are the same.
    pub every_period: bool,
    /// Threads that compute values, this one included; none: as many as the host runs at once. Neither values nor
    /// errors depend on it.
    pub threads: Option<NonZeroUsize>,
    /// Collect [`Report::trace`] and [`Report::timeline`].
    pub trace: bool,
    /// Instructions that are traced meet these MXU cycles; none: all.
    pub trace_window: Option<Range<u64>>,
    /// Instructions that are traced at most; none: any number.
    pub trace_limit: Option<usize>,
    /// Look for races, and for whatever else [`Findings`] may hold.
    pub sanitize: bool,
    /// Executes host segments, if there may be any.
    pub host: Option<Box<dyn HostExecutor>>,
}

/// A program, loaded on a machine.
pub struct Simulator<'a> {
    program: &'a Program,
    target: &'a Target,
    options: Options,
    segments: Vec<Loaded<'a>>,
    files: Vec<FileMap>,
    memories: Memories,
    findings: Findings,
}

/// A segment with its streams decoded.
enum Loaded<'a> {
    Device(Vec<Code>),
    Host(&'a HostSegment),
}

impl<'a> Simulator<'a> {
    /// Load a program: decode its streams, map its files, check its image.
    ///
    /// # Errors
    /// A program for another target, words that are no instruction, files that are not as the program says.
    pub fn new(program: &'a Program, target: &'a Target, options: Options) -> Result<Self, SimError> {
        program.validate()?;
        // A program without a digest was written by hand and runs anywhere.
        if program.target_digest != [0; 32] {
            program.check_target(target)?;
        } else if program.dram_bytes > target.dram_bytes {
            let (needed, available) = (program.dram_bytes, target.dram_bytes);
            return Err(ProgramError::DoesNotFit { needed, available }.into());
        }
        let (mut segments, mut cores) = (Vec::new(), BTreeSet::from([0]));
        for segment in &program.segments {
            segments.push(match segment {
                Segment::Host(host) => Loaded::Host(host),
                Segment::Device(device) => {
                    let decode = |(core, engine, stream): (u8, Engine, &program::Stream)| {
                        Code::decode(core, engine, stream, target)
                    };
                    let codes = device.all_streams().map(decode).collect::<Result<Vec<_>, _>>()?;
                    cores.extend(codes.iter().map(|code| code.core));
                    Loaded::Device(codes)
                }
            });
        }
        let (mut files, mut extents) = (Vec::new(), Vec::new());
        if !options.timing_only {
            files = program.open_files(&options.model_dir)?;
            extents.extend(program.image.iter().map(|extent| load_extent(program, &files, extent)));
        }
        let threads = match (options.timing_only, options.threads) {
            (true, _) => 1,
            // The sanitizer looks at values as they come.
            (false, _) if options.sanitize => 1,
            (false, Some(threads)) => threads.get(),
            (false, None) => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let memories = Memories::new(
            target,
            Dram::new(program.dram_bytes, extents),
            threads,
            &cores.into_iter().collect::<Vec<_>>(),
        );
        let findings = Findings::default();
        Ok(Self { program, target, options, segments, files, memories, findings })
    }

    /// What the sanitizer found in the last run, also in one that ended in an error.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Run the program once, from its first segment to its last.
    ///
    /// `inputs` holds a tensor for each input binding, and for each runtime scalar a tensor of one integer.
    /// Every run starts from the program's DRAM image.
    ///
    /// # Errors
    /// Inputs that the program does not take; traps; a deadlock; a run beyond the cycle limit.
    pub fn run(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
    ) -> Result<(IndexMap<String, Tensor>, Report), SimError> {
        if !self.options.every_period
            && let Some(outcome) = self.run_once(inputs, true)?
        {
            return Ok(outcome);
        }
        let sure = self.run_once(inputs, false)?;
        Ok(sure.unwrap_or_default())
    }

    /// Run once, with or without jumps; none if the former does not tell the outcome for sure.
    fn run_once(
        &mut self,
        inputs: &IndexMap<String, Tensor>,
        jump: bool,
    ) -> Result<Option<(IndexMap<String, Tensor>, Report)>, SimError> {
        let scalars = self.bind_scalars(inputs)?;
        let values = !self.options.timing_only;
        self.memories.dram.write().reset();
        self.findings = Findings::default();
        if values {
            self.check_files()?;
            self.bind_inputs(inputs)?;
        }
        let settings = Settings {
            target: self.target,
            tick_limit: self.options.cycle_limit.map_or(u64::MAX - 1, |cycles| {
                cycles.saturating_mul(self.target.mxu_clock_div).min(u64::MAX - 1)
            }),
            scalars: &scalars,
            values,
            jump,
        };
        let recorder = self.options.trace.then(|| {
            let ticks = |cycle: u64| cycle.saturating_mul(self.target.mxu_clock_div);
            let window = self.options.trace_window.as_ref();
            let window = window.map_or(0..u64::MAX, |window| ticks(window.start)..ticks(window.end));
            Recorder::new(window, self.options.trace_limit.unwrap_or(usize::MAX))
        });
        let mut counters = Counters::new(&self.program.origins, recorder);
        let live = |_| Live::new(self.target.partitions, self.target.spm_partition_bytes());
        let mut live: Vec<Live> = self.memories.cores.iter().map(live).collect();
        let (mut tick, mut host_segments) = (0, 0);
        for (index, segment) in self.segments.iter().enumerate() {
            match segment {
                Loaded::Device(codes) => {
                    self.memories.clear_chip();
                    counters.begin(index as u32, codes);
                    let (memories, counting) = (&mut self.memories, &mut counters);
                    let cores: Vec<u8> = memories.cores.iter().map(|core| core.number).collect();
                    let sanitizer = self.options.sanitize.then(|| {
                        let found = &mut self.findings;
                        Sanitizer::new(codes, &cores, self.program, index, self.target, found)
                    });
                    let device =
                        Device::new(&settings, codes, memories, counting, &mut live, sanitizer, tick)?;
                    let Some(end) = device.run()? else { return Ok(None) };
                    tick = end;
                    counters.finish(codes, self.target);
                }
                Loaded::Host(segment) => {
                    host_segments += 1;
                    if values {
                        let host = self.options.host.as_deref();
                        run_on_host(self.program, &mut self.memories.dram.write(), host, index, segment)?;
                    }
                }
            }
        }
        let report = counters.report(self.target, tick, host_segments, live);
        let outputs = if values { self.outputs()? } else { IndexMap::new() };
        Ok(Some((outputs, report)))
    }

    fn bind_scalars(&self, inputs: &IndexMap<String, Tensor>) -> Result<Vec<i32>, SimError> {
        let expected = || {
            let tensors = self.inputs().map(|binding| binding.name.clone());
            let scalars = self.program.scalars.iter().map(|scalar| scalar.name.clone());
            tensors.chain(scalars).collect::<Vec<_>>().join(", ")
        };
        let known = |name: &String| {
            self.inputs().any(|binding| binding.name == *name)
                || self.program.scalars.iter().any(|scalar| scalar.name == *name)
        };
        if let Some(name) = inputs.keys().find(|name| !known(name)) {
            return Err(SimError::UnknownInput { name: name.clone(), expected: expected() });
        }
        let mut values = Vec::new();
        for scalar in &self.program.scalars {
            let Some(tensor) = inputs.get(&scalar.name) else {
                return Err(SimError::MissingInput { name: scalar.name.clone(), expected: expected() });
            };
            if tensor.elements() != 1 {
                return Err(SimError::InputShape {
                    name: scalar.name.clone(),
                    given: tensor.shape.clone(),
                    expected: Vec::new(),
                });
            }
            let (low, high) = (i128::from(scalar.range.0), i128::from(scalar.range.1));
            let value = bind::integer(tensor, 0);
            if value < low || value > high {
                return Err(SimError::InputRange { name: scalar.name.clone(), index: 0, value, low, high });
            }
            values.push(value as i32);
        }
        let missing = self.inputs().find(|binding| !inputs.contains_key(&binding.name));
        match missing {
            Some(binding) if !self.options.timing_only => {
                Err(SimError::MissingInput { name: binding.name.clone(), expected: expected() })
            }
            _ => Ok(values),
        }
    }

    fn inputs(&self) -> impl Iterator<Item = &'a Binding> + use<'a> {
        self.program.bindings.iter().filter(|binding| binding.role == BindingRole::Input)
    }

    fn bind_inputs(&mut self, inputs: &IndexMap<String, Tensor>) -> Result<(), SimError> {
        for binding in self.inputs() {
            if let Some(tensor) = inputs.get(&binding.name) {
                let bytes = bind::narrow(binding, tensor)?;
                self.memories.dram.write().write(binding.address, &bytes);
            }
        }
        Ok(())
    }

    fn outputs(&self) -> Result<IndexMap<String, Tensor>, SimError> {
        let outputs = self.program.bindings.iter().filter(|binding| binding.role == BindingRole::Output);
        outputs
            .map(|binding| Ok((binding.name.clone(), read(&self.memories.dram.read(), binding)?)))
            .collect()
    }

    /// A mapped file that has shrunk since it was opened would end the process when it is read.
    fn check_files(&self) -> Result<(), SimError> {
        for (index, file) in self.files.iter().enumerate() {
            if !file.still_whole().unwrap_or(false) {
                return Err(SimError::File { path: self.program.files[index].path.clone() });
            }
        }
        Ok(())
    }
}

/// Run a host segment on the bindings it names.
fn run_on_host(
    program: &Program,
    dram: &mut Dram,
    host: Option<&dyn HostExecutor>,
    index: usize,
    segment: &HostSegment,
) -> Result<(), SimError> {
    let failed = |reason: String| SimError::HostSegment { segment: index, reason };
    let host = host.ok_or_else(|| failed(segment.reason.clone()))?;
    let binding = |name: &String| {
        let found = program.bindings.iter().find(|binding| binding.name == *name);
        found.ok_or_else(|| failed(format!("there is no binding `{name}`")))
    };
    let inputs =
        segment.inputs.iter().map(|name| read(dram, binding(name)?)).collect::<Result<Vec<_>, SimError>>()?;
    let outputs = host.execute(segment, &inputs).map_err(failed)?;
    if outputs.len() != segment.outputs.len() {
        return Err(failed(format!("it gave {} results, not {}", outputs.len(), segment.outputs.len())));
    }
    for (name, tensor) in segment.outputs.iter().zip(&outputs) {
        let binding = binding(name)?;
        dram.write(binding.address, &bind::narrow(binding, tensor)?);
    }
    Ok(())
}

/// The host's tensor of a binding.
fn read(dram: &Dram, binding: &Binding) -> Result<Tensor, SimError> {
    let bytes = binding.dtype.byte_count(&binding.shape).map_or(u64::MAX, |bytes| bytes as u64);
    if binding.address.saturating_add(bytes) > dram.size() {
        return Err(SimError::UnwrittenOutput { name: binding.name.clone(), address: dram.size() });
    }
    let mut out = vec![0; bytes as usize];
    dram.read(&mut Cursor::default(), binding.address, &mut out)
        .map_err(|hole| SimError::UnwrittenOutput { name: binding.name.clone(), address: hole.0 })?;
    bind::widen(binding, out)
}

/// An extent of the image with its bytes; the program is valid, so all of them are there.
fn load_extent(program: &Program, files: &[FileMap], extent: &ImageExtent) -> Extent {
    let source = match extent.source {
        ImageSource::Zero => Source::Zero,
        ImageSource::File { file, offset, pitch } => {
            Source::Bytes { bytes: files[file as usize].bytes(), offset, pitch }
        }
        ImageSource::Blob { blob, offset, pitch } => {
            Source::Bytes { bytes: program.blobs[blob as usize].clone(), offset, pitch }
        }
    };
    let ImageExtent { address, pitch, rows, row_bytes, .. } = *extent;
    Extent { address, pitch, rows, row_bytes, source }
}
