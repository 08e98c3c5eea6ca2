//! Instruction streams and the units that execute instructions.

use std::fmt;

/// The unit that executes an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The scalar unit that every stream has.
    Any,
    /// A DMA queue.
    Dma,
    /// The matrix engine.
    Mxu,
    /// The vector engine.
    Vec,
    /// The activation engine.
    Act,
    /// The collective engine.
    Col,
}

/// An instruction stream: one engine, or one DMA queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Control only.
    Ctl,
    /// Matrix.
    Mxu,
    /// Vector.
    Vec,
    /// Activation functions.
    Act,
    /// Collectives between cores.
    Col,
    /// DMA queue of that number, 0 to 15.
    Queue(u8),
}

impl Engine {
    /// Number of possible streams.
    pub const COUNT: usize = 21;

    /// Every stream in order.
    pub fn all() -> impl Iterator<Item = Engine> {
        (0..Self::COUNT).filter_map(Engine::from_index)
    }
    /// Position in [`Engine::all`], below [`Engine::COUNT`].
    pub fn index(self) -> usize {
        match self {
            Engine::Ctl => 0,
            Engine::Mxu => 1,
            Engine::Vec => 2,
            Engine::Act => 3,
            Engine::Col => 4,
            Engine::Queue(q) => 5 + usize::from(q.min(15)),
        }
    }
    /// The stream at that position.
    pub fn from_index(index: usize) -> Option<Engine> {
        Some(match index {
            0 => Engine::Ctl,
            1 => Engine::Mxu,
            2 => Engine::Vec,
            3 => Engine::Act,
            4 => Engine::Col,
            5..=20 => Engine::Queue((index - 5) as u8),
            _ => return None,
        })
    }
    /// The stream of that name (`ctl`, `mxu`, …, `q3`).
    pub fn by_name(name: &str) -> Option<Engine> {
        Engine::all().find(|e| e.to_string() == name)
    }
    /// Whether this stream may hold instructions of that class.
    pub fn runs(self, class: Class) -> bool {
        match class {
            Class::Any => true,
            Class::Dma => matches!(self, Engine::Queue(_)),
            Class::Mxu => self == Engine::Mxu,
            Class::Vec => self == Engine::Vec,
            Class::Act => self == Engine::Act,
            Class::Col => self == Engine::Col,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Ctl => f.write_str("ctl"),
            Engine::Mxu => f.write_str("mxu"),
            Engine::Vec => f.write_str("vec"),
            Engine::Act => f.write_str("act"),
            Engine::Col => f.write_str("col"),
            Engine::Queue(q) => write!(f, "q{q}"),
        }
    }
}
