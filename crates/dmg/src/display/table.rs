//! Plain aligned columns. No borders, no wrapping: what is printed can be cut with ordinary tools.

/// A table under construction.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new(head: &[&str]) -> Self {
        Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, or a sentence if there is no row.
    pub(crate) fn text(&self, if_empty: &str) -> String {
        if self.rows.is_empty() {
            return if_empty.to_owned();
        }
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
                cells.chain([width(&self.head[column])]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(wide - width(cell) + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Characters shown; colour codes take no room.
fn width(cell: &str) -> usize {
    let mut shown = 0;
    let mut in_code = false;
    for c in cell.chars() {
        match c {
            '\u{1b}' => in_code = true,
            'm' if in_code => in_code = false,
            _ if !in_code => shown += 1,
            _ => {}
        }
    }
    shown
}

/// A moment of the API, `2026-01-01T10:00:00.1234567Z`, for people: `2026-01-01 10:00:00`, still in UTC.
pub(crate) fn moment(text: &str) -> String {
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        table.row(["a".into(), "\u{1b}[32mOnline\u{1b}[0m".into()]);
        table.row(["longer".into(), "Offline".into()]);
        assert_eq!(table.text("none"), "NAME    STATUS\na       \u{1b}[32mOnline\u{1b}[0m\nlonger  Offline\n");
        assert_eq!(Table::new(&["NAME"]).text("There is none."), "There is none.");
        assert_eq!(moment("2026-01-01T10:00:00.1234567Z"), "2026-01-01 10:00:00");
    }
}
