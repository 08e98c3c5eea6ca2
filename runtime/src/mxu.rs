//! The matrix engine in time: the array's row bands, the grid's load port, and chains through the accumulators.
//!
//! The stream issues a product when the array can take it and goes on at once, so a load that follows runs
//! beside it: the grid has a second plane, which the next product takes over. The rules:
//!
//! 1. Products on one row band follow one another; on different bands they overlap.
//! 2. A load waits for the load port. A product waits for the loads of its bands.
//! 3. A product on the accumulator region of an earlier one may start when what entered the array with that one has
//!    left it, since its columns follow in the same order; if it is faster (another type, on another band), late enough
//!    that its last column does not overtake either. On a region that overlaps otherwise, when all have drained.

/// A rectangle of accumulator bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// First partition and one past the last.
    pub(crate) parts: (u64, u64),
    /// First byte and one past the last, in each partition.
    pub(crate) bytes: (i64, i64),
    /// Tells apart different walks over one rectangle: strides and extents.
    pub(crate) walk: ([i32; 3], [u32; 3]),
}

impl Region {
    fn overlaps(&self, other: &Region) -> bool {
        self.parts.0 < other.parts.1
            && other.parts.0 < self.parts.1
            && self.bytes.0 < other.bytes.1
            && other.bytes.0 < self.bytes.1
    }
}

/// Results on their way into the accumulators.
#[derive(Clone, Copy, Debug)]
struct Draining {
    region: Region,
    /// What entered the array with it has left it.
    first: u64,
    /// All are.
    all: u64,
}

/// The matrix engine's units.
pub(crate) struct MxuTiming {
    rows_per_band: u64,
    /// When each band is free, and when its loads are complete.
    bands: Vec<Band>,
    port_free: u64,
    draining: Vec<Draining>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Band {
    free: u64,
    loaded: u64,
}

impl MxuTiming {
    /// Idle, with the array's rows in `bands` bands.
    pub(crate) fn new(rows: u64, bands: u64) -> Self {
        let bands = bands.clamp(1, rows);
        Self {
            rows_per_band: rows / bands,
            bands: vec![Band::default(); bands as usize],
            port_free: 0,
            draining: Vec::new(),
        }
    }

    fn bands_of(&mut self, row: u64, rows: u64) -> &mut [Band] {
        let last = self.bands.len() - 1;
        let first = ((row / self.rows_per_band) as usize).min(last);
        let end = ((row + rows - 1) / self.rows_per_band) as usize;
        &mut self.bands[first..=end.clamp(first, last)]
    }

    /// The first tick from `now` in which a product of `busy` ticks may start.
    pub(crate) fn product_start(
        &mut self,
        now: u64,
        (row, rows): (u64, u64),
        region: &Region,
        busy: u64,
    ) -> u64 {
        let bands = self.bands_of(row, rows).iter().map(|band| band.free.max(band.loaded)).max();
        let chain =
            self.draining.iter().filter(|earlier| earlier.region.overlaps(region)).map(
                |earlier| match earlier.region == *region {
                    true => earlier.first.max(earlier.all.saturating_sub(busy)),
                    false => earlier.all,
                },
            );
        chain.chain(bands).fold(now, u64::max)
    }

    /// A product starts now.
    pub(crate) fn start_product(
        &mut self,
        now: u64,
        (row, rows): (u64, u64),
        region: Region,
        busy: u64,
        latency: u64,
    ) {
        for band in self.bands_of(row, rows) {
            band.free = now + busy;
        }
        self.draining.retain(|earlier| earlier.all > now && earlier.region != region);
        self.draining.push(Draining { region, first: now + latency - busy, all: now + latency });
    }

    /// The first tick from `now` in which a load may start.
    pub(crate) fn load_start(&self, now: u64) -> u64 {
        now.max(self.port_free)
    }

    /// A load of grid rows starts now.
    pub(crate) fn start_load(&mut self, now: u64, (row, rows): (u64, u64), busy: u64, latency: u64) {
        self.port_free = now + busy;
        for band in self.bands_of(row, rows) {
            band.loaded = band.loaded.max(now + latency);
        }
    }

    /// What decides the future, relative to `now`.
    pub(crate) fn state(&self, now: u64) -> MxuState {
        MxuState {
            bands: self.bands_state(now).collect(),
            port_free: self.port_free.saturating_sub(now),
            draining: self.draining_state(now).collect(),
        }
    }

    /// The state as numbers, for a table.
    pub(crate) fn key(&self, now: u64, key: &mut Vec<u64>) {
        key.push(self.port_free.saturating_sub(now));
        key.extend(self.bands_state(now).flatten());
        for (Region { parts, bytes, walk }, first, all) in self.draining_state(now) {
            key.extend([parts.0, parts.1, bytes.0 as u64, bytes.1 as u64, first, all]);
            key.extend(walk.0.map(|stride| stride as u64));
            key.extend(walk.1.map(u64::from));
        }
    }

    /// Be in a state at the tick `now`.
    pub(crate) fn set_state(&mut self, state: &MxuState, now: u64) {
        self.port_free = now + state.port_free;
        for (band, [free, loaded]) in self.bands.iter_mut().zip(&state.bands) {
            *band = Band { free: now + free, loaded: now + loaded };
        }
        self.draining.clear();
        let draining = state.draining.iter();
        self.draining.extend(draining.map(|(region, first, all)| Draining {
            region: *region,
            first: now + first,
            all: now + all,
        }));
    }

    /// Whether the state is that one.
    pub(crate) fn is_in(&self, state: &MxuState, now: u64) -> bool {
        self.port_free.saturating_sub(now) == state.port_free
            && self.bands_state(now).eq(state.bands.iter().copied())
            && self.draining_state(now).eq(state.draining.iter().copied())
    }

    fn bands_state(&self, now: u64) -> impl Iterator<Item = [u64; 2]> {
        self.bands.iter().map(move |band| [band.free, band.loaded].map(|tick| tick.saturating_sub(now)))
    }

    fn draining_state(&self, now: u64) -> impl Iterator<Item = (Region, u64, u64)> {
        let draining = self.draining.iter().filter(move |draining| draining.all > now);
        draining.map(move |d| (d.region, d.first.saturating_sub(now), d.all - now))
    }

    /// Let `ticks` pass in which nothing changes.
    pub(crate) fn shift(&mut self, ticks: u64) {
        for band in &mut self.bands {
            band.free += ticks;
            band.loaded += ticks;
        }
        self.port_free += ticks;
        for draining in &mut self.draining {
            draining.first += ticks;
            draining.all += ticks;
        }
    }
}

/// All of the matrix engine that decides what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MxuState {
    bands: Vec<[u64; 2]>,
    port_free: u64,
    draining: Vec<(Region, u64, u64)>,
}
