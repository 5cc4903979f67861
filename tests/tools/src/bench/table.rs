//! The table: a row for each figure, a column for each extension, the target and whether it is met.

use super::figure::{Figure, Unit};
use super::subject::Subject;

/// The content of one extension's cell in one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Figure(Figure),
    /// The reason why there is no figure.
    Unmeasured(String),
}

impl Cell {
    /// Summarizes measured values.
    pub(crate) fn of(values: Vec<f64>, if_none: &str) -> Self {
        Figure::of(values).map_or_else(|| Self::Unmeasured(if_none.to_owned()), Self::Figure)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        match self {
            Self::Figure(figure) => Some(figure.median),
            Self::Unmeasured(_) => None,
        }
    }
}

/// The maximum for one of our figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) most: f64,
    /// The reason shown next to the number.
    pub(crate) because: String,
    /// The value of the figure that it applies to.
    pub(crate) of: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Median,
    P95,
}

/// One figure of all extensions, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) cells: Vec<Cell>,
    pub(crate) target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Untargeted,
    Met,
    Missed,
    Unmeasured,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, cells: Vec<Cell>) -> Self {
        Self { what: what.into(), unit, cells, target: None }
    }

    /// Sets the maximum for ours.
    #[must_use]
    pub(crate) fn at_most(self, most: f64) -> Self {
        self.at_most_because(most, "")
    }

    /// Sets the maximum for ours, and its origin.
    #[must_use]
    pub(crate) fn at_most_because(mut self, most: f64, because: &str) -> Self {
        self.target = Some(Target { most, because: because.to_owned(), of: Value::Median });
        self
    }

    /// Sets the maximum for the 95th percentile of ours, which is shown in place of the median.
    #[must_use]
    pub(crate) fn p95_at_most(mut self, most: f64) -> Self {
        self.target = Some(Target { most, because: String::new(), of: Value::P95 });
        self
    }

    fn verdict(&self) -> Verdict {
        match (&self.target, self.cells.first()) {
            (None, _) => Verdict::Untargeted,
            (Some(target), Some(Cell::Figure(figure))) => {
                let value = match target.of {
                    Value::Median => figure.median,
                    Value::P95 => figure.p95,
                };
                if value <= target.most { Verdict::Met } else { Verdict::Missed }
            }
            (Some(_), _) => Verdict::Unmeasured,
        }
    }

    fn shown(&self, cell: &Cell) -> String {
        match (cell, &self.target) {
            (Cell::Figure(figure), Some(Target { of: Value::P95, .. })) => self.unit.show(figure.p95),
            (Cell::Figure(figure), _) => figure.show(self.unit),
            (Cell::Unmeasured(reason), _) => reason.clone(),
        }
    }

    fn columns(&self) -> Vec<String> {
        let verdict = match self.verdict() {
            Verdict::Untargeted => "",
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Unmeasured => "not measured",
        };
        let target = self.target.as_ref().map_or_else(String::new, |target| {
            format!("≤ {}{}", self.unit.show(target.most), target.because)
        });
        let cells = self.cells.iter().map(|cell| self.shown(cell));
        [self.what.clone()].into_iter().chain(cells).chain([target, verdict.to_owned()]).collect()
    }
}

/// All rows in Markdown, and the number of targets met.
pub(crate) fn text(subjects: &[Subject], rows: &[Row]) -> String {
    let names = subjects.iter().map(|subject| subject.label.clone());
    let head = [String::new()].into_iter().chain(names).chain(["target".to_owned(), String::new()]);
    let mut lines: Vec<Vec<String>> = vec![head.collect()];
    lines.extend(rows.iter().map(Row::columns));
    let count = |wanted| rows.iter().filter(|row| row.verdict() == wanted).count();
    let [met, missed, unmeasured] = [Verdict::Met, Verdict::Missed, Verdict::Unmeasured].map(count);
    let table = markdown(&lines);
    format!("{table}\nTargets: {met} met, {missed} missed, {unmeasured} not measured.\n")
}

/// A table in Markdown; the first line is its header.
pub(super) fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let of_column = lines.iter().filter_map(|line| line.get(column));
            of_column.map(|text| text.chars().count()).max().unwrap_or_default()
        })
        .collect();
    let line = |line: &Vec<String>| {
        let padded = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let mut table: Vec<String> = lines.iter().map(line).collect();
    let rules = widths.iter().map(|width| "-".repeat(width + 2));
    table.insert(1, format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
    table.concat()
}

/// Returns true if every target was met.
pub(crate) fn all_met(rows: &[Row]) -> bool {
    rows.iter().all(|row| matches!(row.verdict(), Verdict::Untargeted | Verdict::Met))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        Row::new("time", Unit::Milliseconds, vec![Cell::of(values.to_vec(), "no values")])
    }

    #[test]
    fn target_applies_to_median_or_95th_percentile() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(row(&values).verdict(), Verdict::Untargeted);
        assert_eq!(row(&values).at_most(50.5).verdict(), Verdict::Met);
        assert_eq!(row(&values).at_most(50.4).verdict(), Verdict::Missed);
        assert_eq!(row(&values).p95_at_most(95.0).verdict(), Verdict::Met);
        assert_eq!(row(&values).p95_at_most(94.9).verdict(), Verdict::Missed);
        assert_eq!(row(&[]).at_most(1.0).verdict(), Verdict::Unmeasured);
    }

    #[test]
    fn row_shows_measured_and_unmeasured() {
        let mut row = row(&[1.0]).at_most_because(3.0, " (3 × floor)");
        row.cells.push(Cell::Unmeasured("not measured: no valgrind".to_owned()));
        assert_eq!(
            row.columns(),
            ["time", "1.00 ms", "not measured: no valgrind", "≤ 3.00 ms (3 × floor)", "met"]
        );
    }
}
