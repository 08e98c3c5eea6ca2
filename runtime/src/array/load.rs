//! Loads of the stationary grid: copied into a panel by a task, or read where they lie until something else is written
//! there.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::panel::Panel;
use super::{Cell, Window};
use crate::kernels::ahead::Span;
use crate::kernels::arena::{Granted, Rect};
use crate::kernels::flow::{Flow, Touch, Work};
use crate::kernels::product::{Stationary, Term};
use crate::lane::{OnChip, Pinned, Place, Rows};

/// A load of the grid; its task makes the panel, if it is not read in place.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) number: usize,
    pub(super) window: Window,
    pub(super) kind: Cell,
    pub(super) panel: Arc<OnceLock<Panel>>,
    pub(super) in_place: Option<Arc<InPlace>>,
}

impl Load {
    /// What a task touches that makes the panel, or reads it.
    pub(super) fn touch(&self, chip: &OnChip, writes: bool) -> Touch {
        let rect = Rect { parts: (self.number, self.number + 1), bytes: (0, 1) };
        Touch { memory: chip.flow().other(1), rect, writes, field: 0 }
    }

    /// Where products read it in the scratchpad, unless something else is written there by now.
    pub(super) fn in_place(&self) -> Option<&Arc<InPlace>> {
        self.in_place.as_ref().filter(|in_place| !in_place.is_released.load(Ordering::Relaxed))
    }
}

/// A load of rows of f32 that lie in the scratchpad.
pub(super) struct InPlace {
    pub(super) place: Place,
    pub(super) window: Window,
    pub(super) transposed: bool,
    /// The thread that issues instructions has given the flow the task that makes the panel.
    pub(super) is_released: AtomicBool,
    pub(super) panel: Arc<OnceLock<Panel>>,
    /// What that task touches.
    pub(super) touches: [Touch; 2],
}

impl InPlace {
    pub(super) fn parts(&self) -> Range<usize> {
        self.place.part..self.place.part + self.window.extents(self.transposed).0
    }

    /// The part of it that lies in a window.
    pub(super) fn stationary<'a, T: Term>(
        &self,
        granted: &'a Granted<'_>,
        window: &Window,
    ) -> Stationary<'a, T> {
        let (row, col) = (window.row - self.window.row, window.col - self.window.col);
        let (rows, cols) = ((row, window.rows), (col, window.cols));
        let (down, along) = if self.transposed { (cols, rows) } else { (rows, cols) };
        Stationary::of_lines(self.place.read_lines(granted, down, along), self.transposed)
    }
}

impl Pinned for InPlace {
    fn release(self: Arc<Self>, flow: &Flow) {
        self.is_released.store(true, Ordering::Relaxed);
        let touches = self.touches.into_iter().collect();
        let make = move |granted: &mut Granted<'_>| {
            let Self { place, window, transposed, .. } = &*self;
            self.panel.get_or_init(|| Panel::load(granted, &Rows::default(), *window, place, *transposed));
            Ok(())
        };
        flow.submit(None, touches, Span::NONE, Work::once(make));
    }
}
