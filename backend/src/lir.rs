//! What sits between `tile` and instruction words: engine-assigned instructions with symbolic addresses.
//!
//! A program is a tree of blocks. The root block holds the top-level items of all groups in order; every other
//! block is the body of one loop. An item is a loop or a [`Work`]: the instructions one engine issues for one tile
//! op, with what they read and write. Addresses name a buffer or DRAM tensor, a constant and a coefficient per loop
//! counter; placing, synchronising and register assignment all happen after this form.

use std::collections::BTreeMap;
use std::ops::Range;

use kiln_machine::isa::{ActFunc, CvtMode, Dims, Dt, RedOp, Space, VecOp};

macro_rules! ids {
    ($($(#[doc = $doc:literal])* $Name:ident;)*) => { $(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub u32);
        impl $Name {
            /// As an index into the owner's vector.
            pub fn index(self) -> usize { self.0 as usize }
        }
    )* };
}
ids! {
    /// An on-chip buffer of [`Lir::buffers`].
    BufId;
    /// A loop counter of [`Lir::trips`].
    IvId;
    /// A DRAM tensor of [`Lir::drams`].
    DramId;
    /// A block of [`Lir::blocks`].
    BlockId;
    /// A set of origins of [`Lir::origins`].
    OriginId;
}

/// The root block.
pub const ROOT: BlockId = BlockId(0);

/// An instruction stream: `ctl mxu vec act col q0 q1 …` in the machine's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Engine(pub u8);

impl Engine {
    /// Control unit.
    pub const CTL: Engine = Engine(0);
    /// Matrix unit.
    pub const MXU: Engine = Engine(1);
    /// Vector unit.
    pub const VEC: Engine = Engine(2);
    /// Activation unit.
    pub const ACT: Engine = Engine(3);
    /// DMA queue number `n`.
    pub fn queue(n: u32) -> Engine {
        Engine(5 + n as u8)
    }
    /// The number of the DMA queue, if it is one.
    pub fn queue_index(self) -> Option<u32> {
        self.0.checked_sub(5).map(u32::from)
    }
    /// As an index into per-stream tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Coefficients per loop counter; none is zero.
pub type Terms = BTreeMap<IvId, i64>;

/// Adds `value` to the coefficient of `iv`, dropping zeros.
pub fn add_term(terms: &mut Terms, iv: IvId, value: i64) {
    let sum = terms.get(&iv).copied().unwrap_or(0) + value;
    if sum == 0 {
        terms.remove(&iv);
    } else {
        terms.insert(iv, sum);
    }
}

/// An address in a buffer: first partition, byte offset in the partition from the start of the buffer's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addr {
    pub buf: BufId,
    pub part: u32,
    pub off: i64,
    pub terms: Terms,
}

/// An on-chip operand: three free dims, strides in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opnd {
    pub addr: Addr,
    pub dt: Dt,
    pub strides: [i64; 3],
}

/// Partitions and the three free extents of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub parts: u32,
    pub n: [u32; 3],
}

/// A DRAM operand: dims are (partitions, n0, n1, n2); offset and terms in bytes, strides in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DramOpnd {
    pub dram: DramId,
    pub dt: Dt,
    pub off: i64,
    pub terms: Terms,
    pub sizes: [u32; 4],
    pub strides: [i64; 4],
}

/// An instruction with symbolic operands; one variant per row of the ISA that selection uses.
#[derive(Clone, Debug, PartialEq)]
pub enum MOp {
    Load {
        dst: Opnd,
        src: DramOpnd,
        transposing: bool,
    },
    Store {
        dst: DramOpnd,
        src: Opnd,
    },
    Gather {
        dst: Opnd,
        src: DramOpnd,
        idx: Opnd,
        parts: u32,
        n0: u32,
    },
    Scatter {
        dst: DramOpnd,
        src: Opnd,
        idx: Opnd,
        parts: u32,
        n0: u32,
    },
    Copy {
        dst: Opnd,
        src: Opnd,
        grid: Grid,
    },
    Fill {
        dst: Opnd,
        grid: Grid,
        imm: u32,
    },
    Ldw {
        src: Opnd,
        k: u32,
        m: u32,
        col: u32,
    },
    Ldwt {
        src: Opnd,
        k: u32,
        m: u32,
        row: u32,
        col: u32,
    },
    Mma {
        acc: Opnd,
        mov: Opnd,
        k: u32,
        m: u32,
        n: [u32; 3],
        accumulate: bool,
    },
    Mtrn {
        dst: Opnd,
        src: Opnd,
        parts: u32,
        n: u32,
    },
    Vtt {
        op: VecOp,
        dst: Opnd,
        a: Opnd,
        b: Opnd,
        grid: Grid,
    },
    Vts {
        op: VecOp,
        dst: Opnd,
        a: Opnd,
        imm: u32,
        reversed: bool,
        grid: Grid,
    },
    Vmrg {
        dst: Opnd,
        mask: Opnd,
        a: Opnd,
        b: Opnd,
        grid: Grid,
    },
    Vsel {
        dst: Opnd,
        src: Opnd,
        grid: Grid,
        base: i64,
        terms: Terms,
        cp: i64,
        c: [i64; 3],
        imm: u32,
    },
    Viota {
        dst: Opnd,
        grid: Grid,
        base: i64,
        terms: Terms,
        cp: i64,
        c: [i64; 3],
    },
    Vcvt {
        dst: Opnd,
        src: Opnd,
        mode: CvtMode,
        grid: Grid,
    },
    Vred {
        op: RedOp,
        dst: Opnd,
        src: Opnd,
        grid: Grid,
        dims: Dims,
        accumulate: bool,
    },
    Vscan {
        op: RedOp,
        dst: Opnd,
        src: Opnd,
        carry: Option<Opnd>,
        grid: Grid,
        exclusive: bool,
        reverse: bool,
    },
    Vshuf {
        dst: Opnd,
        src: Opnd,
        idx: Opnd,
        grid: Grid,
        bound: u32,
    },
    Vtopk {
        values: Opnd,
        indices: Opnd,
        src: Opnd,
        grid: Grid,
        k: u32,
        largest: bool,
    },
    Actr {
        func: ActFunc,
        dst: Opnd,
        src: Opnd,
        scale: Opnd,
        bias: Option<Opnd>,
        grid: Grid,
    },
    Act {
        func: ActFunc,
        dst: Opnd,
        src: Opnd,
        bias: Option<Opnd>,
        sum: Option<RowSum>,
        scale: f32,
        grid: Grid,
    },
}

/// A sum of an ACT instruction's results over some free dims.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSum {
    pub dst: Opnd,
    pub over: Dims,
    /// Continues from what `dst` holds.
    pub accumulate: bool,
}

/// Instructions of one work: straight code and local loops.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    Inst(MOp),
    Loop { iv: IvId, body: Vec<Code> },
}

/// Where an access lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    Buf(BufId),
    Dram(DramId),
}

/// A box of a storage that moves with loop counters: `lo + Σ coef·iv .. + size` per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub lo: Vec<i64>,
    pub size: Vec<i64>,
    pub coefs: BTreeMap<IvId, Vec<i64>>,
}

/// Whether an access changes the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Read,
    Write,
}

/// What a work touches. `flat` is in bytes of the storage (DRAM only); `boxed` in the storage's own axes. Two
/// accesses compare by their boxes when both have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub storage: Storage,
    pub mode: Mode,
    pub boxed: Option<Region>,
    pub flat: Option<Region>,
}

/// The instructions one engine issues for one tile op.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub engine: Engine,
    pub code: Vec<Code>,
    pub accesses: Vec<Access>,
    pub origin: OriginId,
}

/// A place in a block.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Loop(BlockId),
    Work(Work),
}

/// The root, or the body of a loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The enclosing block and this loop's place in it; none for the root.
    pub parent: Option<(BlockId, usize)>,
    /// The counter; none for the root.
    pub iv: Option<IvId>,
    pub items: Vec<Item>,
}

/// An on-chip buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub group: usize,
    pub extents: Vec<u32>,
    /// The axis that runs over partitions.
    pub part: usize,
    /// The other axes as they lie in a partition, outermost first.
    pub order: Vec<usize>,
    pub dt: Dt,
    pub space: Space,
    /// Slots wanted; the allocator may give fewer, never none.
    pub depth: u32,
    /// The block in which each execution makes a fresh instance.
    pub block: BlockId,
}

impl Buffer {
    /// Chunks of `p` partitions along the partition axis.
    pub fn chunks(&self, p: u32) -> u32 {
        self.extents[self.part].div_ceil(p)
    }

    /// Element strides of the free layout, one per axis; that of the partition axis is the stride of a chunk.
    pub fn strides(&self) -> Vec<i64> {
        let mut strides = vec![0; self.extents.len()];
        let mut dense = 1i64;
        for a in self.order.iter().rev() {
            strides[*a] = dense;
            dense *= i64::from(self.extents[*a]);
        }
        strides[self.part] = dense;
        strides
    }

    /// Bytes of one slot in each partition.
    pub fn slot_bytes(&self, p: u32) -> u64 {
        let free: u64 = self.order.iter().map(|a| u64::from(self.extents[*a])).product();
        self.dt.bytes_of(free * u64::from(self.chunks(p)))
    }
}

/// A named range of root items whose on-chip contents end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub items: Range<usize>,
}

/// A selected program; DRAM tensors are described by [`crate::dram`].
#[derive(Clone, Debug, PartialEq)]
pub struct Lir {
    pub blocks: Vec<Block>,
    /// Trip count of each loop counter, local loops of works included.
    pub trips: Vec<u64>,
    pub buffers: Vec<Buffer>,
    pub groups: Vec<Group>,
    pub origins: Vec<Vec<String>>,
}

impl Lir {
    /// An empty program: the root block alone.
    pub fn new() -> Self {
        let root = Block { parent: None, iv: None, items: Vec::new() };
        Lir {
            blocks: vec![root],
            trips: Vec::new(),
            buffers: Vec::new(),
            groups: Vec::new(),
            origins: Vec::new(),
        }
    }

    /// A counter with `trip` iterations.
    pub fn new_iv(&mut self, trip: u64) -> IvId {
        self.trips.push(trip);
        IvId(self.trips.len() as u32 - 1)
    }

    /// Trip count of a counter.
    pub fn trip(&self, iv: IvId) -> u64 {
        self.trips[iv.index()]
    }

    /// The block's ancestors from the root to the block itself, each with the place taken in it to go on.
    pub fn path(&self, block: BlockId) -> Vec<(BlockId, Option<usize>)> {
        let mut path = vec![(block, None)];
        let mut at = block;
        while let Some((parent, item)) = self.blocks[at.index()].parent {
            path.push((parent, Some(item)));
            at = parent;
        }
        path.reverse();
        path
    }

    /// How often the block runs in the whole program.
    pub fn executions(&self, block: BlockId) -> u64 {
        let path = self.path(block);
        path.iter().filter_map(|(b, _)| self.blocks[b.index()].iv).map(|iv| self.trip(iv)).product()
    }
}

impl Default for Lir {
    fn default() -> Self {
        Self::new()
    }
}
