//! The comparison with other extensions: the short table in README, and the chart drawn from it.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::subject::Subject;
use super::table::{Cell, Row};
use super::{BenchError, file_error, read, replace};

const BEGIN: &str = "<!-- begin of the comparison: make bench DOCS=1 AGAINST=… writes it -->\n";
const END: &str = "<!-- end of the comparison -->\n";

/// The rows of the short table, and the rows of the full one that they are taken from.
const ROWS: [(&str, &str); 6] = [
    ("process start → first /next, ms", "exec → first /next, http"),
    ("memory after init, MB", "RSS after init, https"),
    ("memory after 100 invocations, MB", "RSS after 100 invocations"),
    ("CPU per invocation, ms", "CPU per invocation, 10 logs and 10 spans, gzip, http"),
    (
        "CPU for 20,000 spans, ms",
        "CPU to take 20,000 spans (7.2 MB) in 200 POSTs and pass them on, compression gzip",
    ),
    ("binary, MB", "the binary"),
];

/// The column that the chart leaves out: it is what any extension costs.
const FLOOR: &str = "floor";
const OURS: &str = "this extension";

// Colours that are readable on white and on dark pages; the background is transparent.
const TEXT: RGBColor = RGBColor(0x71, 0x79, 0x83);
const HIGHLIGHT: RGBColor = RGBColor(0xd9, 0x57, 0x1b);
const BAR: RGBColor = RGBColor(0x71, 0x8b, 0xae);

const SIZE: (u32, u32) = (900, 360);
const PANELS: (usize, usize) = (2, 3);

/// Writes the short table into README, and the chart beside the documents.
pub(super) fn write(folder: &Path, subjects: &[Subject], rows: &[Row]) -> Result<(), BenchError> {
    replace(&folder.join("README.md"), [BEGIN, END], &table(subjects, rows))?;
    draw(folder)
}

/// Draws README's table into the chart's file.
fn draw(folder: &Path) -> Result<(), BenchError> {
    let path = folder.join("docs/comparison.svg");
    std::fs::write(&path, chart_of_readme(folder)?).map_err(file_error(&path))
}

fn chart_of_readme(folder: &Path) -> Result<String, BenchError> {
    let path = folder.join("README.md");
    let readme = read(&path)?;
    let table = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (table, _) = table.ok_or(BenchError::NoPlace { path })?;
    chart(&parse(table)).map_err(|error| BenchError::Chart(error.to_string()))
}

fn table(subjects: &[Subject], rows: &[Row]) -> String {
    // The floor first: it is the scale for all others.
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    order.sort_by_key(|&at| subjects.get(at).is_none_or(|subject| !subject.is_floor));
    let name = |at: usize| match (at, subjects.get(at)) {
        (0, _) => OURS.to_owned(),
        (_, Some(subject)) => subject.label.clone(),
        (_, None) => String::new(),
    };
    let mut lines = vec![[String::new()].into_iter().chain(order.iter().map(|&at| name(at))).collect()];
    for (label, what) in ROWS {
        let row = rows.iter().find(|row| row.what == what);
        let shown = |at: usize| {
            let median = row.and_then(|row| row.cells.get(at)).and_then(Cell::median);
            median.map_or_else(|| "–".to_owned(), |median| format!("{median:.2}"))
        };
        lines.push([label.to_owned()].into_iter().chain(order.iter().map(|&at| shown(at))).collect());
    }
    super::table::markdown(&lines)
}

/// One measure of all extensions.
#[derive(Debug, PartialEq)]
struct Measure {
    label: String,
    /// Names and values, as the table shows them; no number if it was not measured.
    values: Vec<(String, String)>,
}

fn parse(table: &str) -> Vec<Measure> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = table.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-")).map(cells);
    let names = lines.next().unwrap_or_default();
    let measure = |line: Vec<String>| {
        let values = names.iter().zip(&line).skip(1).filter(|(name, _)| *name != FLOOR);
        Measure {
            label: line.first().cloned().unwrap_or_default(),
            values: values.map(|(name, cell)| (name.clone(), cell.clone())).collect(),
        }
    };
    lines.map(measure).collect()
}

fn chart(measures: &[Measure]) -> Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        for (panel, measure) in area.split_evenly(PANELS).iter().zip(measures) {
            draw_measure(panel, measure)?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A bar for each extension, from top to bottom, with its name at the left and its value at the right.
fn draw_measure(
    panel: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    measure: &Measure,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let style = |color: &RGBColor, side: HPos| {
        ("sans-serif", 16).into_font().color(color).pos(Pos::new(side, VPos::Center))
    };
    let bars = (0_u32..).zip(&measure.values).map(|(place, (name, value))| (f64::from(place), name, value));
    let largest = measure.values.iter().filter_map(|(_, value)| value.parse().ok()).fold(0.0, f64::max);
    let count = bars.clone().count();
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    // Names take what the bars leave at the left, and values what they leave at the right.
    let mut chart = ChartBuilder::on(panel)
        .margin(8)
        .caption(&measure.label, ("sans-serif", 18).into_font().color(&TEXT))
        .build_cartesian_2d(-largest * 1.3..largest * 1.35, count..0.0)?;
    for (place, name, value) in bars {
        let color = if name == OURS { &HIGHLIGHT } else { &BAR };
        let middle = place + 0.5;
        chart.draw_series([Text::new(name.clone(), (-largest * 0.04, middle), style(&TEXT, HPos::Right))])?;
        let length = value.parse().unwrap_or(0.0);
        let corners = [(0.0, place + 0.2), (length, place + 0.8)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
        let end = (length + largest * 0.04, middle);
        chart.draw_series([Text::new(value.clone(), end, style(&TEXT, HPos::Left))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bench::figure::Unit;

    #[test]
    fn chart_shows_the_table_in_readme() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch of this test, not a variable of the extension"
        )]
        if std::env::var_os("UPDATE_DOCS").is_some() {
            draw(root).expect("docs/comparison.svg can be written");
        }
        let committed =
            std::fs::read_to_string(root.join("docs/comparison.svg")).expect("docs/comparison.svg");
        let wanted = chart_of_readme(root).expect("a chart");
        assert!(committed == wanted, "docs/comparison.svg is out of date; run UPDATE_DOCS=1 make test");
    }

    #[test]
    fn table_has_the_floor_first_and_gaps_as_dashes() {
        let subject = |label: &str, is_floor| Subject {
            label: label.to_owned(),
            path: PathBuf::new(),
            variables: Vec::new(),
            is_floor,
        };
        let subjects = [subject("rotel-extension", false), subject("floor", true), subject("Other", false)];
        let cells = [Some(5.0), Some(0.3), None].map(|value| Cell::of(value.into_iter().collect(), "none"));
        let rows = [Row::new("the binary", Unit::Megabytes, cells.into())];
        let table = table(&subjects, &rows);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 2 + ROWS.len());
        assert_eq!(
            lines.first(),
            Some(&"|                                  | floor | this extension | Other |")
        );
        assert_eq!(
            lines.last(),
            Some(&"| binary, MB                       | 0.30  | 5.00           | –     |")
        );
        let values = vec![(OURS.to_owned(), "5.00".to_owned()), ("Other".to_owned(), "–".to_owned())];
        assert_eq!(parse(&table).pop(), Some(Measure { label: "binary, MB".to_owned(), values }));
    }
}
