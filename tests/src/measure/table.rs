//! Tables for a terminal and for Markdown: one and the same text, since a Markdown table with padded columns reads well in both.

/// A table with a title.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with the names of its columns.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Table {
        Table { title: title.into(), rows: vec![columns.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row; panics unless it has a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.rows[0].len(), "a cell for each column of {}", self.title);
        self.rows.push(row);
    }

    /// The title, an empty line, and the rows: the first column to the left, the others to the right.
    pub fn print(&self) -> String {
        let columns = 0..self.rows[0].len();
        let widths: Vec<usize> = columns
            .clone()
            .map(|c| self.rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0).max(2))
            .collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, &width))| match c {
                0 => format!(" {cell:<width$} |"),
                _ => format!(" {cell:>width$} |"),
            });
            format!("|{}\n", cells.collect::<String>())
        };
        let rule = columns.map(|c| format!(" {}{} |", "-".repeat(widths[c] - 1), if c == 0 { "-" } else { ":" }));
        let head = format!("{}\n\n{}|{}\n", self.title, line(&self.rows[0]), rule.collect::<String>());
        head + &self.rows[1..].iter().map(|row| line(row)).collect::<String>()
    }
}

/// The middle of some figures, the greater of two middles; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("Figures:", &["what", "s"]);
        table.row(["a".to_owned(), "10.25".to_owned()]);
        assert_eq!(table.print(), "Figures:\n\n| what |     s |\n| ---- | ----: |\n| a    | 10.25 |\n");
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }
}
