//! What is going on, for whoever waits at a terminal: a spinner on standard error with the stage that runs.
//!
//! The stages are the spans that the library opens; nothing is printed where standard error is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{fmt, io::IsTerminal, time::Duration};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Name of the spans that are shown; their field `name` says what runs.
pub const STAGE: &str = "stage";

/// Shows the innermost open stage.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A spinner, or nothing where nobody would see it.
    pub fn new() -> Option<Self> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        Some(Progress { bar })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Progress {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == STAGE {
            let mut name = Name(String::new());
            attributes.record(&mut name);
            self.bar.reset();
            self.bar.set_message(name.0);
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        // Cleared, so that what is printed next stands on a line of its own.
        if context.span(&id).is_some_and(|span| span.name() == STAGE) {
            self.bar.disable_steady_tick();
            self.bar.finish_and_clear();
        }
    }
}

/// The span's `name`.
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0 = value.into();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "name" {
            self.0 = format!("{value:?}");
        }
    }
}
