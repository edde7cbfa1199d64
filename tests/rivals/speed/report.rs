//! Tables and pictures.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use plotters::prelude::*;

use crate::load::Found;

/// What has been found: for each row and each server, one value a round.
pub struct Results {
    names: Vec<&'static str>,
    rows: Vec<String>,
    found: BTreeMap<(usize, &'static str), Vec<Found>>,
    memory: BTreeMap<(usize, &'static str), f64>,
}

/// What a table shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Requests per second: the median of the rounds.
    Rate,
    /// Microseconds of processor for a request: the least of the rounds.
    Processor,
    /// KiB of memory.
    Memory,
}

impl Results {
    pub fn new(mut names: Vec<&'static str>, rows: Vec<String>) -> Results {
        names.dedup();
        Results { names, rows, found: BTreeMap::new(), memory: BTreeMap::new() }
    }

    pub fn add(&mut self, row: usize, name: &'static str, found: Found) {
        self.found.entry((row, name)).or_default().push(found);
    }

    pub fn add_memory(&mut self, row: usize, name: &'static str, memory: f64) {
        self.memory.insert((row, name), memory);
    }

    fn value(&self, row: usize, name: &'static str, what: Table) -> Option<f64> {
        let found = || self.found.get(&(row, name));
        match what {
            Table::Rate => {
                let mut rates: Vec<_> = found()?.iter().map(|found| found.rate).collect();
                rates.sort_by(f64::total_cmp);
                rates.get(rates.len() / 2).copied()
            }
            Table::Processor => {
                found()?.iter().filter_map(|found| found.processor).min_by(f64::total_cmp)
            }
            Table::Memory => self.memory.get(&(row, name)).copied(),
        }
    }

    /// A table of Markdown.
    pub fn table(&self, title: &str, what: Table) -> String {
        self.cells(title, |row, name| {
            let value = self.value(row, name, what)?;
            Some(if value < 99.5 { format!("{value:.1}") } else { format!("{value:.0}") })
        })
    }

    /// A table of requests per second, divided by those of one server.
    pub fn ratios(&self, title: &str, yardstick: &'static str) -> String {
        self.cells(title, |row, name| {
            let rate = |name| self.value(row, name, Table::Rate);
            Some(format!("{:.2}", rate(name)? / rate(yardstick)?))
        })
    }

    fn cells(&self, title: &str, cell: impl Fn(usize, &'static str) -> Option<String>) -> String {
        let mut text = format!("| {title} | {} |\n", self.names.join(" | "));
        let _ = writeln!(text, "|---{}|", "|---:".repeat(self.names.len()));
        for (row, title) in self.rows.iter().enumerate() {
            let cells = self.names.iter().map(|name| cell(row, name).unwrap_or("-".to_owned()));
            let _ = writeln!(text, "| {title} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        text + "\n"
    }

    /// Draws how many small answers each server gives in a second, on many connections and on ever new ones.
    ///
    /// # Errors
    ///
    /// When the picture cannot be written.
    pub fn draw_rates(&self, path: &Path) -> Result<(), String> {
        self.try_to_draw_rates(path).map_err(|error| error.to_string())
    }

    fn try_to_draw_rates(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        const ROWS: [(usize, RGBColor); 2] =
            [(1, RGBColor(70, 110, 170)), (3, RGBColor(210, 140, 50))];
        let values = |row| self.names.iter().map(move |name| self.value(row, name, Table::Rate));
        let most = ROWS.iter().flat_map(|(row, _)| values(*row)).flatten().fold(0.0, f64::max);
        let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("requests per second", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..self.names.len() as f64, 0.0..most * 1.3)?;
        let name = |at: &f64| {
            let is_middle = (at.fract() - 0.5).abs() < 0.01;
            let name = self.names.get(*at as usize).filter(|_| is_middle);
            name.copied().unwrap_or_default().to_owned()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(2 * self.names.len() + 1)
            .x_label_formatter(&name)
            .y_label_formatter(&|rate| format!("{rate:.0}"))
            .draw()?;
        for (number, (row, color)) in ROWS.into_iter().enumerate() {
            let left = 0.12 + 0.4 * number as f64;
            let bars = values(row).enumerate().filter_map(|(at, rate)| {
                let start = at as f64 + left;
                Some(Rectangle::new([(start, 0.0), (start + 0.36, rate?)], color.filled()))
            });
            chart.draw_series(bars)?.label(&self.rows[row]).legend(move |(x, y)| {
                Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled())
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    }

    /// Draws how much memory each server takes, from ten connections to ten thousand.
    ///
    /// # Errors
    ///
    /// When the picture cannot be written.
    pub fn draw_memory(&self, path: &Path) -> Result<(), String> {
        self.try_to_draw_memory(path).map_err(|error| error.to_string())
    }

    fn try_to_draw_memory(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let counts: Vec<f64> =
            self.rows.iter().filter_map(|row| row.split(' ').next()?.parse().ok()).collect();
        let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("MiB of memory", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((10.0..10_000.0).log_scale(), (2.0..300.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("idle connections")
            .x_label_formatter(&|count| format!("{count:.0}"))
            .draw()?;
        for (number, name) in self.names.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let points = counts.iter().enumerate().filter_map(|(row, count)| {
                Some((*count, self.value(row, name, Table::Memory)? / 1024.0))
            });
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
        Ok(())
    }
}
