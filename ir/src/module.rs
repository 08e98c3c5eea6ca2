//! A module: MLIR's `builtin.module` with its context, its file table and its in-memory bytes.

use crate::context::Context;
use crate::error::{IrError, Result};
use crate::ffi::{Attr, Block, Op, OwnedOp};
use bytes::{Bytes, BytesMut};
use std::fmt;

/// The entry of `nn.files` that stands for the module's own bytes.
pub const IN_MEMORY: &str = "";

/// Bytes in memory start at multiples of this.
const BLOB_ALIGN: usize = 64;

/// A module of `nn` functions and `tile` programs. It owns its IR and keeps its [`Context`] alive.
pub struct Module {
    // Before `context`: the IR must go first.
    op: OwnedOp,
    context: Context,
    blob: BytesMut,
}

impl Module {
    /// An empty module.
    pub fn new(context: &Context) -> Self {
        Module { op: OwnedOp::module(&context.0), context: context.clone(), blob: BytesMut::new() }
    }

    /// Parses text or bytecode, and verifies it.
    ///
    /// # Errors
    /// [`IrError::Parse`] with MLIR's diagnostics.
    pub fn parse(context: &Context, source: impl AsRef<[u8]>) -> Result<Self> {
        context.diagnostics();
        match OwnedOp::parse(&context.0, source.as_ref()) {
            Some(op) => Ok(Module { op, context: context.clone(), blob: BytesMut::new() }),
            None => Err(IrError::Parse { message: context.diagnostics() }),
        }
    }

    /// The module's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The module as text, without locations.
    pub fn print(&self) -> String {
        self.op().print(false, None)
    }

    /// The module as text with locations, so that origins survive a round trip.
    pub fn print_with_locations(&self) -> String {
        self.op().print(true, None)
    }

    /// The module as text for reading: constants of more than `elements` elements are elided.
    pub fn print_elided(&self, elements: usize) -> String {
        self.op().print(false, Some(elements))
    }

    /// The module as MLIR bytecode, locations included. The in-memory bytes ([`Module::blob`]) are not part of it.
    pub fn bytecode(&self) -> Vec<u8> {
        self.op().bytecode()
    }

    /// Runs all verifiers.
    ///
    /// # Errors
    /// [`IrError::Verify`] with MLIR's diagnostics.
    pub fn verify(&self) -> Result<()> {
        self.context.diagnostics();
        if self.op().verify() { Ok(()) } else { Err(IrError::Verify { message: self.context.diagnostics() }) }
    }

    // ---- files and bytes -----------------------------------------------------------------------

    /// The files that `nn.weight` and weight parts refer to, by number; `""` is the module's own bytes.
    pub fn files(&self) -> Vec<String> {
        match self.op().attr("nn.files") {
            Some(Attr::List(items)) => {
                items.into_iter().map(|a| if let Attr::Text(t) = a { t } else { String::new() }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Number of the file called `name` in `nn.files`, added if it is new.
    pub fn add_file(&mut self, name: &str) -> u32 {
        let mut files = self.files();
        let index = files.iter().position(|f| f == name).unwrap_or_else(|| {
            files.push(name.to_owned());
            files.len() - 1
        });
        let list = files.into_iter().map(Attr::Text).collect();
        self.op().set_attr("nn.files", &Attr::List(list));
        index as u32
    }

    /// Appends `data` to the in-memory bytes; gives the file number (of entry `""`) and the offset.
    pub fn add_blob(&mut self, data: &[u8]) -> (u32, u64) {
        let file = self.add_file(IN_MEMORY);
        let start = self.blob.len().next_multiple_of(BLOB_ALIGN);
        self.blob.resize(start, 0);
        self.blob.extend_from_slice(data);
        (file, start as u64)
    }

    /// The in-memory bytes, the contents of the file called `""`.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Replaces the in-memory bytes, for a module read from text or bytecode.
    pub fn set_blob(&mut self, data: Bytes) {
        self.blob = BytesMut::from(&data[..]);
    }

    // ---- symbols -------------------------------------------------------------------------------

    /// Names of the module's functions and programs, in order, each with its op (`func.func`, `tile.program`).
    pub fn symbols(&self) -> Vec<(String, String)> {
        self.symbol_ops().into_iter().map(|(name, op)| (name, op.name())).collect()
    }

    /// Removes the function or program called `name`; false when there is none.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.find(name) {
            Some(op) => {
                self.body().remove(op);
                true
            }
            None => false,
        }
    }

    pub(crate) fn from_parts(op: OwnedOp, context: &Context, blob: BytesMut) -> Self {
        Module { op, context: context.clone(), blob }
    }

    pub(crate) fn take_blob(&mut self) -> BytesMut {
        std::mem::take(&mut self.blob)
    }

    pub(crate) fn put_blob(&mut self, blob: BytesMut) {
        self.blob = blob;
    }

    pub(crate) fn into_blob(mut self) -> BytesMut {
        self.take_blob()
    }

    pub(crate) fn op(&self) -> Op {
        self.op.get()
    }

    pub(crate) fn body(&self) -> Block {
        self.op().block(0).expect("a module has one block")
    }

    pub(crate) fn symbol_ops(&self) -> Vec<(String, Op)> {
        let name_of = |op: Op| match op.attr("sym_name") {
            Some(Attr::Text(name)) => Some((name, op)),
            _ => None,
        };
        self.body().ops().into_iter().filter_map(name_of).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Op> {
        self.symbol_ops().into_iter().find(|(n, _)| n == name).map(|(_, op)| op)
    }

    /// Appends a symbol op, in place of the one of the same name if there is one.
    pub(crate) fn put(&mut self, name: &str, op: OwnedOp) {
        match self.find(name) {
            Some(old) => self.body().replace(old, op),
            None => self.body().append(op),
        };
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print_elided(16))
    }
}
