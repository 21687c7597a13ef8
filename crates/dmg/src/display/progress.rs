//! The progress bar of a copy: rows, bytes, rate, parts, time left. Only on a terminal.

use dmg_protocol::Plan;
use dmg_protocol::worker::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::command::receipt::{bytes, thousands};

/// A bar on standard error; draws nothing where that is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that does not know yet how far it has to go.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message("looking at source and target");
        Bar(bar)
    }

    /// The plan is made.
    pub(crate) fn planned(&self, plan: &Plan) {
        let columns = plan.columns.len();
        self.0.set_message(format!("{columns} columns, {} parts, {} lanes", plan.parts.len(), plan.lanes));
    }

    /// New numbers.
    pub(crate) fn update(&self, progress: &Progress) {
        match progress.rows_estimate.filter(|rows| *rows > 0) {
            Some(estimate) => {
                // Estimates are statistics of the source: the bar never says more than it knows.
                self.0.set_length(estimate.max(progress.rows_read));
                self.0.set_style(style("{msg:<8} {bar:28.cyan/dim} {percent:>3}% {prefix}, {eta} left"));
            }
            None => self.0.set_style(style("{spinner} {msg:<8} {prefix}")),
        }
        let rate = if progress.seconds > 0.0 { progress.rows_read as f64 / progress.seconds } else { 0.0 };
        self.0.set_position(progress.rows_read);
        self.0.set_message(progress.stage.clone());
        self.0.set_prefix(format!(
            "{} rows, {} read, {} written, {} rows/s, part {}/{}",
            thousands(progress.rows_read),
            bytes(progress.bytes_read),
            bytes(progress.bytes_written),
            thousands(rate as u64),
            progress.parts_done,
            progress.parts
        ));
    }

    /// New numbers of something that only counts rows.
    pub(crate) fn counted(&self, progress: &Progress) {
        let rate = if progress.seconds > 0.0 { progress.rows_read as f64 / progress.seconds } else { 0.0 };
        let (rows, rate) = (thousands(progress.rows_read), thousands(rate as u64));
        self.0.set_message(format!("{}: {rows} rows, {rate} rows/s", progress.stage));
        self.0.tick();
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}
